"""What a request of a browser has to be before it is answered: from the page itself, not too often, and signed in.

There is no token against forged requests, because nothing that another site can make a browser send is accepted: the
cookie is SameSite=Strict, and what is more than a GET needs a header that other sites may not set.
"""

import time
from collections.abc import Callable, Sequence

from kerf.http.server import Request
from kerf.wire.sessions import Session, parse_session

COOKIE = "kerf-page"
SECURE_COOKIE = "__Host-kerf-page"
SESSION_S = 3600
SKEW_S = 300
"""Clocks of replicas differ by less. A session that would last longer was signed by a clock that was far ahead."""
OURS = "kerf-page"
"""Header of every request of the page's scripts; another site would need our consent for it."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Bucket:
    """Lets a few through at once and then some in a second."""

    def __init__(self, burst: float, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._left = burst
        self._at = clock()

    def take(self) -> bool:
        """Whether one more may go."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def forged(request: Request) -> bool:
    """Whether a request that is more than a GET may come from another site."""
    headers = request.head.headers
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return True
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
        return True
    return OURS not in headers


def on_loopback(request: Request) -> bool:
    """Whether the browser reaches the page over its own machine, through a port-forward: no cookie needs TLS there."""
    host = request.head.headers.get("host", "")
    return host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK


def session_of(request: Request, keys: Sequence[bytes], now: float) -> Session | None:
    """Who has signed in; None for somebody who has not, or whose session has ended."""
    name = cookie_name(request)
    # SimpleCookie would stop at the first odd cookie, and every program on this machine's loopback may set one.
    pairs = (part.strip().partition("=") for part in request.head.headers.get("cookie", "").split(";"))
    value = next((value for key, _, value in pairs if key == name), "")
    found = parse_session(value, keys, now)
    return found if found is not None and found.until <= now + SESSION_S + SKEW_S else None


def cookie_name(request: Request) -> str:
    """On loopback with the port: browsers keep one jar for all ports, and each may be another cluster's page."""
    if not on_loopback(request):
        return SECURE_COOKIE
    port = request.head.headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}-{port}" if port.isascii() and port.isdigit() else COOKIE


def cookie_header(request: Request, value: str, seconds: int) -> tuple[str, str]:
    """The header that stores a session, or with 0 seconds removes it."""
    attributes = f"Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}"
    secure = "" if on_loopback(request) else "; Secure"
    return "Set-Cookie", f"{cookie_name(request)}={value}; {attributes}{secure}"
