"""A small HTTP/1.1 server on asyncio: limits on everything that a client can make large, and handlers without layers.

A handler that answers at once costs no task; one that waits gets a task, and its answer is sent even if the client has
left. Requests of one connection are answered one after another.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

from kerf.http.stream import Source, Stream
from kerf.wire.errors import WireError
from kerf.wire.http import RequestHead, RequestReader, render_head

BACKLOG = 1024
LINGER_S = 1.0  # for a client that is refused to notice, while the rest of its body is thrown away
STREAM_BYTES = 16 << 10  # not taken of a stream: its client is blocked; a slow one takes so much within `silent_s`
_GOING_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request."""

    head: RequestHead
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    body: bytes
    status: int = 200
    kind: str = _JSON
    headers: tuple[tuple[str, str], ...] = ()


def text(words: str, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A plain text answer."""
    return Response(words.encode(), status, _TEXT, headers)


_UNKNOWN = text("this port answers clients with a certificate alone: show one\n", 403)
Handler = Callable[[Request], Response | Stream | Awaitable[Response | Stream]]
Routes = Mapping[tuple[str, str], Handler]
"""Handlers by method and path. HEAD is answered as GET without the content."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server."""

    body_bytes: int
    connections: int = 1000
    """At once; the next is closed before a byte of it is read."""
    requests: int = 1000
    """In flight; the next is answered 503. Probes and metrics (GET) are never limited."""
    bytes: int = 64 << 20
    """Of bodies in flight; one in chunks counts as the largest."""
    silent_s: float = 10.0
    """For a TLS handshake, for a request's headers, for its body, and for an answer to be taken."""
    idle_s: float = 120.0
    """Between two requests of a connection."""


class Server:
    """Serves routes. `failed` answers for a handler that raised, and for a request that is late, odd or too large.

    `turned_away` is called with the reason, `full` or `stopping`, for every request that is refused.
    """

    def __init__(
        self,
        routes: Routes,
        limits: Limits,
        failed: Callable[[str, Exception], Response],
        turned_away: Callable[[str], None],
    ) -> None:
        self.limits = limits
        self.failed = failed
        self._routes = routes
        self._paths = {path for _, path in routes}
        self._turned_away = turned_away
        self._connections: set[_Connection] = set()
        self._in_flight = self._bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        self.known_only = False
        self._server: asyncio.Server | None = None
        self._watch: asyncio.TimerHandle | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    # ---- life
    async def listen(self, address: tuple[str, int], tls: ssl.SSLContext | None) -> int:
        """Accept connections; the port. Raises OSError. Where `tls` asks for certificates, others may GET alone."""
        self.known_only = tls is not None and tls.verify_mode is not ssl.CERT_NONE
        loop = asyncio.get_running_loop()
        patience = self.limits.silent_s if tls else None
        self._server = await loop.create_server(
            lambda: _Connection(self), *address, ssl=tls, ssl_handshake_timeout=patience, backlog=BACKLOG
        )
        self._watch_connections()
        return int(self._server.sockets[0].getsockname()[1])

    async def finish(self, seconds: float) -> None:
        """Accept nothing new, wait until all in flight is answered, at most this long, and close."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        for connection in list(self._connections):
            connection.leave()
        for _ in range(10):
            if self._connections:
                await asyncio.sleep(0.05)
        self.close()

    def close(self) -> None:
        """Close everything at once."""
        if self._server is not None:
            self._server.close()
        if self._watch is not None:
            self._watch.cancel()
        for connection in list(self._connections):
            connection.close()

    # ---- for connections
    def admit(self, connection: "_Connection") -> bool:
        """Whether there is room for one more connection."""
        if len(self._connections) >= self.limits.connections:
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: "_Connection") -> None:
        """The connection is gone."""
        self._connections.discard(connection)

    def begin(self, size: int) -> Response | None:
        """Count a request with a body of this size, or refuse it."""
        if self.draining:
            return self._refuse("stopping", "this replica is stopping; ask another one")
        if self._in_flight >= self.limits.requests or self._bytes + size > self.limits.bytes:
            return self._refuse("full", f"{self._in_flight} requests are in flight; try again")
        self._in_flight += 1
        self._bytes += size
        self._idle.clear()
        return None

    def end(self, size: int) -> None:
        """A counted request was answered, or its client left."""
        self._in_flight -= 1
        self._bytes -= size
        if not self._in_flight:
            self._idle.set()

    def answer(self, request: Request) -> Response | Stream | Awaitable[Response | Stream]:
        """The handler's answer."""
        method, path = request.head.method, request.head.path
        handler = self._routes.get(("GET" if method == "HEAD" else method, path))
        if handler is None:
            return text("no such path\n", 404) if path not in self._paths else text("not with this method\n", 405)
        try:
            return handler(request)
        except Exception as error:  # noqa: BLE001 (one bad request never ends the service)
            return self.failed(path, error)

    # ---- inside
    def _refuse(self, reason: str, words: str) -> Response:
        self._turned_away(reason)
        return text(words, 503, (("Retry-After", "1"),))

    def _watch_connections(self) -> None:
        """One timer for all connections: a timer for each request would cost more than the request."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [each for each in self._connections if each.deadline < now]:
            connection.expire()
        self._watch = loop.call_later(
            min(1.0, self.limits.silent_s / 4, self.limits.idle_s / 4), self._watch_connections
        )


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(server.limits.body_bytes)
        self._transport: asyncio.Transport | None = None
        self._counted = -1
        """The size by which the request that arrives or is answered is counted; -1 for none."""
        self._noted = False
        """Whether the head of the request that arrives was looked at."""
        self._known = not server.known_only
        self._busy = False
        self._lingers = False
        self._blocked = False
        """Whether the client does not take its answers."""
        self._source: Source | None = None
        """What writes the stream that is the last answer of this connection."""
        self.deadline = self._loop.time() + self._limits.silent_s

    # ---- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by isinstance
        self._known = self._known or bool(transport.get_extra_info("peercert"))
        if not self._server.admit(self):
            self._transport.abort()
            self._transport = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._server.leave(self)
        if not self._busy:
            self._uncount()
        if self._source is not None:
            self._source.closed()

    def data_received(self, data: bytes) -> None:
        if self._lingers or self._transport is None:
            return
        if self._reader.idle:
            self.deadline = self._loop.time() + self._limits.silent_s
        self._reader.feed(data)
        if not self._busy:
            self._read()

    def pause_writing(self) -> None:
        self._blocked = True
        self.deadline = self._loop.time() + self._limits.silent_s
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked = False
        self.deadline = self._loop.time() + self._limits.idle_s
        if self._source is not None:
            self._source.drained()
        elif self._transport is not None and not self._busy:
            self._transport.resume_reading()
            self._read()

    def eof_received(self) -> bool:
        """A client that has sent all still gets its answer, and one that leaves a stream has left."""
        return self._busy and self._source is None

    # ---- for a stream
    @property
    def blocked(self) -> bool:
        return self._blocked

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    # ---- for the server
    def expire(self) -> None:
        """The deadline has passed."""
        if self._busy and not self._blocked:
            self.deadline = self._loop.time() + self._limits.idle_s  # a handler has its own time-outs
        elif self._noted and not self._lingers:
            self._refuse(self._server.failed("", TimeoutError()))
        else:
            self.close()

    def leave(self) -> None:
        """Close it once its answers are sent."""
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    # ---- inside
    def _read(self) -> None:
        """Answer what has arrived whole."""
        try:
            while self._takes() and (head := self._reader.head()) is not None:
                if not self._noted and not self._note(head):
                    return
                body = self._reader.content()
                if body is None:
                    return
                self._noted = False
                self._answer(Request(head, body))
        except WireError as error:
            self._refuse(self._server.failed("", error))

    def _takes(self) -> bool:
        return not (self._busy or self._blocked or self._lingers) and self._transport is not None

    def _note(self, head: RequestHead) -> bool:
        """Count the request before its body is read, or refuse it."""
        self._noted = True
        self.deadline = self._loop.time() + self._limits.silent_s
        if head.method not in {"GET", "HEAD"}:
            size = self._limits.body_bytes if head.length is None else head.length
            refusal = self._server.begin(size) if self._known else _UNKNOWN
            if refusal is not None:
                self._refuse(refusal)
                return False
            self._counted = size
        if head.headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(_GOING_ON)
        return True

    def _answer(self, request: Request) -> None:
        self._busy = True
        self.deadline = self._loop.time() + self._limits.idle_s
        answer = self._server.answer(request)
        if isinstance(answer, (Response, Stream)):
            self._send(request.head, answer)
            return
        if self._transport is not None:
            self._transport.pause_reading()
        task = self._loop.create_task(self._await(request, answer))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _await(self, request: Request, answer: Awaitable[Response | Stream]) -> None:
        response: Response | Stream
        try:
            response = await answer
        except Exception as error:  # noqa: BLE001 (one bad request never ends the service)
            response = self._server.failed(request.head.path, error)
        if self._transport is not None and not self._blocked:
            self._transport.resume_reading()
        self._send(request.head, response)
        self._read()

    def _send(self, head: RequestHead, response: Response | Stream) -> None:
        self._busy = False
        self._uncount()
        self.deadline = self._loop.time() + self._limits.idle_s
        if isinstance(response, Stream):
            self._open(head, response)
            return
        if self._transport is None:
            return
        keeps = head.keeps and not self._server.draining
        self._write(response, keeps, without_body=head.method == "HEAD")
        if not keeps:
            self._transport.close()

    def _open(self, head: RequestHead, stream: Stream) -> None:
        """A stream ends with its connection, so nothing else of the client is read.

        Its source hears of a client that has left already, since it may hold something for it.
        """
        self._busy = True
        if self._transport is None:
            stream.opened(self).closed()
            return
        if stream.kind:
            headers = (("Content-Type", stream.kind), *stream.headers, ("Connection", "close"))
            self._transport.write(render_head(200, headers, None))
            if head.method == "HEAD":
                self._transport.close()
                return
        self._transport.set_write_buffer_limits(high=STREAM_BYTES)
        self._source = stream.opened(self)

    def _write(self, response: Response, keeps: bool, *, without_body: bool = False) -> None:
        headers = (("Content-Type", response.kind), *response.headers)
        if not keeps:
            headers = (*headers, ("Connection", "close"))
        head = render_head(response.status, headers, len(response.body))
        assert self._transport is not None
        self._transport.writelines((head,) if without_body or not response.body else (head, response.body))

    def _refuse(self, response: Response) -> None:
        """Answer at once, throw away what else arrives, and close."""
        self._uncount()
        if self._transport is None:
            return
        self._write(response, keeps=False)
        self._lingers = True
        self.deadline = self._loop.time() + LINGER_S
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _uncount(self) -> None:
        if self._counted >= 0:
            self._server.end(self._counted)
            self._counted = -1
