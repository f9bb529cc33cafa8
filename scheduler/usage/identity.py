"""Which gateway reports: by its TLS client certificate, or by its service account's token."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

import grpc

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.wire.reviews import TOKEN_REVIEWS, parse_token_review, render_token_review

AUDIENCE = "kerf-usage"
"""What a token must be for: one that was made for another server is no proof here."""
KNOWN_S, REFUSED_S = 60.0, 5.0
"""For how long a review counts."""
MOST_KNOWN = 1000
LONGEST_TOKEN = 16_384
_ACCOUNT = "system:serviceaccount:"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a report is not taken from this caller."""

    code: grpc.StatusCode
    why: str


Identify = Callable[[grpc.ServicerContext], str | Denied]


def by_certificate(allowed: Collection[str]) -> Identify:
    """Names in the certificate that the listener has verified: its common name, and its DNS names."""

    def identify(context: grpc.ServicerContext) -> str | Denied:
        found = context.auth_context()
        names = [*found.get("x509_common_name", ()), *found.get("x509_subject_alternative_name", ())]
        texts = [str(name, "utf-8", "replace") for name in names]
        known = next((text for text in texts if text in allowed), "")
        if not known:
            why = f"no name of the certificate ({', '.join(texts) or 'none'}) is among those that are allowed"
            return Denied(grpc.StatusCode.PERMISSION_DENIED, why)
        return known

    return identify


class TokenReviews:
    """Asks the API server whose a token is, and remembers the answer for a short while. Safe from several threads."""

    def __init__(self, kube: Kube, allowed: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._allowed = frozenset(f"{_ACCOUNT}{account.replace('/', ':')}" for account in allowed)
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[float, str | Denied]] = OrderedDict()

    def identify(self, context: grpc.ServicerContext) -> str | Denied:
        """The service account, as NAMESPACE/NAME."""
        header = next((value for key, value in context.invocation_metadata() or () if key == "authorization"), "")
        text = header if isinstance(header, str) else ""
        if not text.lower().startswith(_BEARER) or len(text) > LONGEST_TOKEN:
            why = f"send a service account's token for the audience {AUDIENCE} as authorization: Bearer TOKEN"
            return Denied(grpc.StatusCode.UNAUTHENTICATED, why)
        return self._of(text[len(_BEARER) :].strip())

    def _of(self, token: str) -> str | Denied:
        digest = hashlib.sha256(token.encode()).digest()
        now = self._clock()
        with self._lock:
            until, answer = self._known.get(digest, (float("-inf"), ""))
            if now < until:
                return answer
        try:
            answer = self._review(token)
        except KubeError as error:
            return Denied(grpc.StatusCode.UNAVAILABLE, f"the token cannot be reviewed now: {error.reason}")
        with self._lock:
            self._known[digest] = (now + (REFUSED_S if isinstance(answer, Denied) else KNOWN_S), answer)
            self._known.move_to_end(digest)
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return answer

    def _review(self, token: str) -> str | Denied:
        answer = self._kube.create(TOKEN_REVIEWS, render_token_review(token, AUDIENCE))
        user = parse_token_review(answer, AUDIENCE)
        if user is None:
            return Denied(grpc.StatusCode.UNAUTHENTICATED, f"the token is not valid for the audience {AUDIENCE}")
        if user.name not in self._allowed:
            return Denied(grpc.StatusCode.PERMISSION_DENIED, f"{user.name} may not report")
        return user.name.removeprefix(_ACCOUNT).replace(":", "/")
