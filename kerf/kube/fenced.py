"""A POST that cannot take effect late: sent only while its sender may act, and dropped by the server soon after.

A check before sending is not enough: a process can be paused between the two for any time. So the headers go first,
with `Expect: 100-continue`. The API server's timeout for this request (`timeout` in the query) starts when they
arrive, and its `100 Continue` proves that they have. Only then does the sender check that it may act for that long,
and sends the body. If the body arrives after the timeout, the server has already dropped the request.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from kerf.http.poster import NotAllowedError, NotSentError, Poster, PostError
from kerf.kube.errors import Unreachable, Unsent, Withheld

SPARE_S = 0.5
"""The client waits for this much longer than the server works."""


class FencedPoster:
    """Keeps connections to one server, from the official client's configuration. Lives on one event loop."""

    def __init__(self, configuration: Any) -> None:  # noqa: ANN401 (the library's own type is untyped)
        where = urlsplit(str(configuration.host))
        secure = where.scheme == "https"
        tls = _context(configuration) if secure else None
        self._poster = Poster(where.hostname or "", where.port or (443 if secure else 80), tls)

    def close(self) -> None:
        """Close the kept connections. Call it on the event loop."""
        self._poster.close()

    async def post(
        self, target: str, body: bytes, headers: Mapping[str, str], holds: Callable[[], bool], timeout_s: float
    ) -> tuple[int, bytes]:
        """Status and content of the answer. Raises Unsent and Withheld (nothing happened) and Unreachable."""
        try:
            answer = await self._poster.post(target, headers, body, timeout_s + SPARE_S, holds)
        except NotAllowedError as error:
            raise Withheld(str(error)) from error
        except NotSentError as error:
            raise Unsent(str(error)) from error
        except PostError as error:
            raise Unreachable(str(error)) from error
        return answer.status, answer.content


def _context(configuration: Any) -> ssl.SSLContext:  # noqa: ANN401
    tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    if configuration.assert_hostname is False or not configuration.verify_ssl:
        tls.check_hostname = False
    if not configuration.verify_ssl:
        tls.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    return tls
