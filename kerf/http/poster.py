"""POSTs over kept connections to one server, any number at the same time on one event loop.

With `may_send`, the headers go first, with `Expect: 100-continue`, and the question is asked at the moment at which the
server says that it waits for the body: see `kerf.kube.fenced`.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from kerf.wire.errors import WireError
from kerf.wire.http import CONTINUE, Answer, AnswerReader

MOST_CONNECTIONS = 32
"""At once; further POSTs wait for one."""
_SERVER_ERROR, _TOO_MANY = 500, 429


class PostError(OSError):
    """There was no answer."""


class NotSentError(PostError):
    """The server never got the body: nothing happened."""


class NotAllowedError(NotSentError):
    """The body was not sent, because `may_send` said no."""


class NoAnswerError(PostError):
    """The body went out; whether the server acted is unknown."""


class Poster:
    """Keeps connections to HOST:PORT. Lives on one event loop."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, connections: int = MOST_CONNECTIONS) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
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
        self,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
        may_send: Callable[[], bool] | None = None,
    ) -> Answer:
        """The answer. Raises a PostError."""
        lines = [f"POST {target} HTTP/1.1", f"Host: {self._at}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if may_send is not None:
            lines.append("Expect: 100-continue")
        head = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
        async with self._room:
            return await self._post(_Request(f"POST {target}", head, body, may_send), timeout_s)

    async def _post(self, request: "_Request", timeout_s: float) -> Answer:
        answer = None
        while answer is None and self._idle:
            answer = await self._on(self._idle.pop(), request, timeout_s)  # None: the server had closed it
        if answer is None:
            answer = await self._on(await self._connect(request, timeout_s), request, timeout_s)
        if answer is None:
            raise NotSentError(f"{request.words}: the server closed the connection")
        return answer

    async def _on(self, connection: "_Connection", request: "_Request", timeout_s: float) -> Answer | None:
        try:
            answer = await connection.post(request, timeout_s)
        except _HungError:
            return None
        finally:
            if connection.free and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()
        if not connection.sent and (answer.status == _TOO_MANY or answer.status >= _SERVER_ERROR):
            raise NotSentError(f"{request.words}: the server answered {answer.status} before it took the body")
        return answer

    async def _connect(self, request: "_Request", timeout_s: float) -> "_Connection":
        opening = asyncio.get_running_loop().create_connection(_Connection, self._host, self._port, ssl=self._tls)
        try:
            return (await asyncio.wait_for(opening, timeout_s))[1]
        except (OSError, TimeoutError) as error:
            raise NotSentError(f"{request.words}: {str(error) or type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class _Request:
    words: str
    head: bytes
    body: bytes
    may_send: Callable[[], bool] | None


class _HungError(Exception):
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
        """The final answer. Raises _HungError and PostErrors."""
        if self._transport is None:
            raise _HungError
        loop = asyncio.get_running_loop()
        self._request, self._outcome = request, loop.create_future()
        timer = loop.call_later(timeout_s, self._fail, f"no answer in {timeout_s:.1f} s")
        try:
            self.sent = request.may_send is None
            self._transport.write(request.head + request.body if self.sent else request.head)
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
            self._settle(_HungError())

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
            allowed = request.may_send is None or request.may_send()
        except Exception as error:  # noqa: BLE001 (the caller's question failed: that is the caller's to see)
            self._settle(error)
            return
        if not allowed or self._transport is None:
            self._settle(NotAllowedError(f"{request.words}: the right to do so has ended"))
            return
        self.sent = True
        self._transport.write(request.body)

    def _fail(self, why: str) -> None:
        words = f"{self._request.words if self._request else 'POST'}: {why}"
        self._settle(NoAnswerError(words) if self.sent else NotSentError(words))

    def _settle(self, outcome: Answer | Exception) -> None:
        if isinstance(outcome, Exception):
            self._keeps = False
        if self._outcome is None or self._outcome.done():
            return
        if isinstance(outcome, Answer):
            self._outcome.set_result(outcome)
        else:
            self._outcome.set_exception(outcome)
