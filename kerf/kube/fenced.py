"""A POST that cannot take effect late: sent only while its sender may act, and dropped by the server soon after.

A check before sending is not enough: a process can be paused between the two for any time. So the headers go first,
with `Expect: 100-continue`. The API server's timeout for this request (`timeout` in the query) starts when they
arrive, and its `100 Continue` proves that they have. Only then does the sender check that it may act for that long,
and sends the body. If the body arrives after the timeout, the server has already dropped the request.
"""

import http.client
import ssl
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from kerf.kube.errors import Unreachable, Unsent, Withheld

SPARE_S = 0.5
"""The client waits for this much longer than the server works."""
LARGEST_REFUSAL = 1 << 20


class FencedPoster:
    """Keeps one connection per thread, from the official client's configuration."""

    def __init__(self, configuration: Any) -> None:  # noqa: ANN401 (the library's own type is untyped)
        where = urlsplit(str(configuration.host))
        self._host, self._port = where.hostname or "", where.port
        self._tls = _context(configuration) if where.scheme == "https" else None
        self._local = threading.local()
        self._open: weakref.WeakSet[http.client.HTTPConnection] = weakref.WeakSet()

    def close(self) -> None:
        """Close every thread's connection; the next call opens a new one."""
        for connection in list(self._open):
            connection.close()

    def post(
        self, target: str, body: bytes, headers: Mapping[str, str], holds: Callable[[], bool], timeout_s: float
    ) -> tuple[int, bytes]:
        """Status and content of the answer. Raises Unsent and Withheld (nothing happened) and Unreachable."""
        connection, refusal = self._begin(target, {**headers, "Content-Length": str(len(body))}, timeout_s + SPARE_S)
        if refusal is not None:
            connection.close()
            if refusal[0] == http.client.TOO_MANY_REQUESTS or refusal[0] >= http.client.INTERNAL_SERVER_ERROR:
                raise Unsent(f"POST {target}: the server answered {refusal[0]} before it took the body")
            return refusal
        if not holds():
            connection.close()
            raise Withheld(f"POST {target}: the right to do so has ended")
        try:
            connection.send(body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable(f"POST {target}: {str(error) or type(error).__name__}") from error

    def _begin(
        self, target: str, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[http.client.HTTPConnection, tuple[int, bytes] | None]:
        """A connection on which the server waits for the body, or has refused it."""
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if kept is not None and kept.sock is not None:
            try:
                return kept, _send_headers(kept, target, headers, timeout_s)
            except (OSError, http.client.HTTPException):
                kept.close()  # the server may have closed it since the last call: once more on a new one
        fresh = self._local.connection = self._connect(timeout_s)
        self._open.add(fresh)
        try:
            fresh.connect()
            return fresh, _send_headers(fresh, target, headers, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            fresh.close()
            raise Unsent(f"POST {target}: {str(error) or type(error).__name__}") from error

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)


def _send_headers(
    connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str], timeout_s: float
) -> tuple[int, bytes] | None:
    """None once the server says `100 Continue`, or its final answer if it does not want the body."""
    connection.sock.settimeout(timeout_s)
    connection.putrequest("POST", target)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    # Unbuffered: what follows belongs to the answer proper, which http.client reads.
    with connection.sock.makefile("rb", buffering=0) as raw:
        line = raw.readline(65_537)
        words = line.split(None, 2)
        if len(words) < 2 or not words[1].isdigit():
            raise http.client.BadStatusLine(line.decode("latin-1"))
        fields = http.client.parse_headers(raw)
        status = int(words[1])
        if status == http.client.CONTINUE:
            return None
        length = min(int(fields.get("Content-Length") or 0), LARGEST_REFUSAL)
        content = b""
        while len(content) < length and (more := raw.read(length - len(content))):
            content += more
        return status, content


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
