"""The listener of Kerf's aiohttp services: limits on connections, and on how long one may send no request."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import RequestHandler

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """Bounds of one server's connections."""

    connections: int = 1000
    """At once; the next is closed before a byte of it is read."""
    silent_s: float = 10.0
    """For a TLS handshake, and then again for the first request's headers to arrive whole."""


class Listener:
    """Accepts connections and closes those that never send a request, which aiohttp would keep.

    `watch_requests` is a middleware that the application must use.
    """

    def __init__(self, limits: ListenerLimits) -> None:
        self._limits = limits
        self._silent: dict[BaseProtocol, asyncio.TimerHandle] = {}

    async def listen(self, server: web.Server, address: tuple[str, int], tls: ssl.SSLContext | None) -> asyncio.Server:
        """Serve an application's server on an address. Raises OSError."""

        def accept() -> asyncio.BaseProtocol:
            if len(server.connections) >= self._limits.connections:
                return _Closed()
            connection = server()
            later = asyncio.get_running_loop().call_later
            self._silent[connection] = later(self._limits.silent_s, self._close, connection)
            return connection

        patience = self._limits.silent_s if tls else None
        loop = asyncio.get_running_loop()
        return await loop.create_server(accept, *address, ssl=tls, ssl_handshake_timeout=patience, backlog=BACKLOG)

    @web.middleware
    async def watch_requests(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a connection has sent a request; aiohttp's own keep-alive watches it from here on."""
        if timer := self._silent.pop(request.protocol, None):
            timer.cancel()
        return await handler(request)

    def _close(self, connection: RequestHandler) -> None:
        del self._silent[connection]
        connection.force_close()  # close() alone ends aiohttp's task and leaves the socket open


class _Closed(asyncio.Protocol):
    """A connection over the limit; it is closed unread."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()  # uvloop's is none by isinstance
