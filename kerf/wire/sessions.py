"""The page's session: who somebody is and until when, signed, small enough for a cookie. Pure.

The value is `key-id.payload.signature`. The payload is compressed JSON; nothing of it is secret, since its reader is
the person. The key's id says with which of the shared keys it was signed.
"""

import base64
import binascii
import hashlib
import hmac
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from kerf.wire.errors import WireError
from kerf.wire.json import at, dumps
from kerf.wire.reviews import User, parse_user, render_user

LARGEST = 3800
"""Bytes of a value: browsers keep cookies of 4,096 with name and attributes."""
LARGEST_PAYLOAD = 64 << 10
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """A person who has signed in. `until` is in seconds since 1970."""

    user: User
    until: int


def key_id(key: bytes) -> str:
    """The name of a key, which says nothing of it."""
    return hashlib.sha256(b"kerf page key" + key).hexdigest()[:12]


def render_session(session: Session, key: bytes) -> str:
    """The signed value. Raises WireError where the person is in too many groups for a cookie."""
    document = {"until": session.until, "user": render_user(session.user)}
    payload = _encode(zlib.compress(dumps(document).encode(), 9))
    text = f"{key_id(key)}.{payload}.{_encode(_sign(payload, key))}"
    if len(text) > LARGEST:
        raise WireError(
            "groups",
            len(session.user.groups),
            "sign in with a token that carries fewer groups, such as a ServiceAccount's: these do not fit a cookie",
        )
    return text


def parse_session(text: str, keys: Sequence[bytes], now: float) -> Session | None:
    """The session, if one of the keys signed it and it has not ended; None for everything else."""
    if not text.isascii():
        return None
    name, _, rest = text.partition(".")
    payload, _, signature = rest.partition(".")
    key = next((key for key in keys if hmac.compare_digest(key_id(key).encode(), name.encode())), None)
    if key is None or not hmac.compare_digest(_encode(_sign(payload, key)).encode(), signature.encode()):
        return None
    try:
        unpacking = zlib.decompressobj()
        document = json.loads(unpacking.decompress(_decode(payload), LARGEST_PAYLOAD))
    except (ValueError, zlib.error, binascii.Error, RecursionError):
        return None
    user, until = parse_user(at(document, "user")), at(document).get("until")
    if user is None or not isinstance(until, int) or until <= now:
        return None
    return Session(user, until)


def token_ends(token: str) -> int | None:
    """When a JSON web token ends (seconds since 1970), as it says itself; None for a token that does not say.

    Read only of tokens that the API server has accepted.
    """
    parts = token.split(".")
    try:
        end = at(json.loads(_decode(parts[1]))).get("exp") if len(parts) == 3 else None
    except (ValueError, binascii.Error, RecursionError):
        return None
    return int(end) if isinstance(end, int | float) and not isinstance(end, bool) and 0 < end < 2**53 else None


def _sign(payload: str, key: bytes) -> bytes:
    return hmac.digest(key, b"kerf page session v1 " + payload.encode(), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
