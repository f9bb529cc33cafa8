"""A POST that cannot take effect late: sent only while its sender may act, and dropped by the server soon after.

A check before sending is not enough: a process can be paused between the two for any time. So the headers go first,
with `Expect: 100-continue`. The API server's timeout for this request (`timeout` in the query) starts when they
arrive, and its `100 Continue` proves that they have. Only then does the sender check that it may act for that long,
and sends the body. If the body arrives after the timeout, the server has already dropped the request.

Connections are kept, and belong to the event loop that uses them: any number of POSTs wait at the same time, without a
thread each.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from kerf.kube.answer import CONTINUE, Answer, AnswerReader
from kerf.kube.errors import Unreachable, Unsent, Withheld
from kerf.wire.errors import WireError

SPARE_S = 0.5
"""The client waits for this much longer than the server works."""
MOST_CONNECTIONS = 32
"""At once; further POSTs wait for one."""
_SERVER_ERROR, _TOO_MANY = 500, 429


class FencedPoster:
    """Keeps connections to one server, from the official client's configuration. Lives on one event loop."""

    def __init__(self, configuration: Any, connections: int = MOST_CONNECTIONS) -> None:  # noqa: ANN401 (the library's own type is untyped)
        where = urlsplit(str(configuration.host))
        self._host = where.hostname or ""
        self._port = where.port or (443 if where.scheme == "https" else 80)
        name = f"[{self._host}]" if ":" in self._host else self._host
        self._at = f"{name}:{self._port}"
        self._tls = _context(configuration) if where.scheme == "https" else None
        self._idle: list[_Connection] = []
        self._room = asyncio.Semaphore(connections)
        self._closed = False

    def close(self) -> None:
        """Close the kept connections. Call it on the event loop."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def post(
        self, target: str, body: bytes, headers: Mapping[str, str], holds: Callable[[], bool], timeout_s: float
    ) -> tuple[int, bytes]:
        """Status and content of the answer. Raises Unsent and Withheld (nothing happened) and Unreachable."""
        lines = [f"POST {target} HTTP/1.1", f"Host: {self._at}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "Expect: 100-continue", "\r\n"]).encode("latin-1")
        async with self._room:
            return await self._post(_Request(f"POST {target}", head, body, holds), timeout_s + SPARE_S)

    async def _post(self, request: "_Request", timeout_s: float) -> tuple[int, bytes]:
        answer = None
        while answer is None and self._idle:
            answer = await self._on(self._idle.pop(), request, timeout_s)  # None: the server had closed it
        if answer is None:
            answer = await self._on(await self._connect(request, timeout_s), request, timeout_s)
        if answer is None:
            raise Unsent(f"{request.words}: the server closed the connection")
        return answer

    async def _on(self, connection: "_Connection", request: "_Request", timeout_s: float) -> tuple[int, bytes] | None:
        try:
            answer = await connection.post(request, timeout_s)
        except _Hung:
            return None
        finally:
            if connection.free and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()
        if not connection.sent and (answer.status == _TOO_MANY or answer.status >= _SERVER_ERROR):
            raise Unsent(f"{request.words}: the server answered {answer.status} before it took the body")
        return answer.status, answer.content

    async def _connect(self, request: "_Request", timeout_s: float) -> "_Connection":
        loop = asyncio.get_running_loop()
        opening = loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        try:
            return (await asyncio.wait_for(opening, timeout_s))[1]
        except (OSError, TimeoutError) as error:
            raise Unsent(f"{request.words}: {str(error) or type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class _Request:
    words: str
    head: bytes
    body: bytes
    holds: Callable[[], bool]


class _Hung(Exception):
    """The server closed the connection and had answered nothing to the headers: nothing happened."""


class _Connection(asyncio.Protocol):
    """One connection, one POST at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._request: _Request | None = None
        self._outcome: asyncio.Future[Answer] | None = None
        self._keeps = True
        self.sent = False
        """Whether the body of the last POST went out."""

    @property
    def free(self) -> bool:
        """Whether it takes another POST."""
        return self._keeps and self._outcome is None and self._transport is not None

    def close(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def post(self, request: _Request, timeout_s: float) -> Answer:
        """The final answer. Raises _Hung, Unsent, Withheld and Unreachable."""
        if self._transport is None:
            raise _Hung
        loop = asyncio.get_running_loop()
        self.sent = False
        self._request, self._outcome = request, loop.create_future()
        timer = loop.call_later(timeout_s, self._fail, f"no answer in {timeout_s:.1f} s")
        try:
            self._transport.write(request.head)
            return await self._outcome
        finally:
            timer.cancel()
            self._keeps = self._keeps and self._outcome.done() and not self._outcome.cancelled()
            self._request = self._outcome = None

    # ---- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by isinstance

    def data_received(self, data: bytes) -> None:
        try:
            answer = self._reader.feed(data)
            while answer is not None:
                self._take(answer)
                answer = self._reader.feed(b"") if not self._reader.idle else None
        except WireError as error:
            self._fail(str(error))

    def eof_received(self) -> None:
        if (answer := self._reader.end()) is not None:
            self._take(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.sent:
            self._fail(str(exc or "the server closed the connection"))
        else:
            self._settle(_Hung())

    # ---- inside
    def _take(self, answer: Answer) -> None:
        if self._request is None:
            self.close()  # bytes that nothing asked for
        elif answer.status == CONTINUE:
            if not self.sent:
                self._send(self._request)
        elif answer.status > CONTINUE + 99:
            self._keeps = answer.keeps and self.sent
            self._settle(answer)

    def _send(self, request: _Request) -> None:
        """The server waits for the body: the moment to ask."""
        try:
            held = request.holds()
        except Exception as error:  # noqa: BLE001 (the caller's question failed: that is the caller's to see)
            self._settle(error)
            return
        if not held or self._transport is None:
            self._settle(Withheld(f"{request.words}: the right to do so has ended"))
            return
        self.sent = True
        self._transport.write(request.body)

    def _fail(self, why: str) -> None:
        words = self._request.words if self._request else "POST"
        self._settle(Unreachable(f"{words}: {why}") if self.sent else Unsent(f"{words}: {why}"))

    def _settle(self, outcome: Answer | Exception) -> None:
        if isinstance(outcome, Exception):
            self._keeps = False
        if self._outcome is None or self._outcome.done():
            return
        if isinstance(outcome, Answer):
            self._outcome.set_result(outcome)
        else:
            self._outcome.set_exception(outcome)


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
