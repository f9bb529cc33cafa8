"""The way from a follower's page to the leader's, which alone knows plans, reservations and refusals.

A follower passes every question about somebody on, and the answer back as it comes. Static files it has itself. Where
no leader answers, it shows what its own watches know, and the page says so.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable

from kerf.http.server import Request
from kerf.http.stream import Sink, Stream

_LOG = logging.getLogger("kerf.page")
HEADER = "kerf-page-forwarded"
CONNECT_S = 1.0
PART = 16 << 10
_KEPT = ("host", "cookie", "content-type", "origin", "sec-fetch-site", "kerf-page", "accept")

Address = tuple[str, int]


class Relay:
    """Passes requests on. `leader` is where the leader's page is; None here, or where none leads."""

    def __init__(self, leader: Callable[[], Address | None], tls: ssl.SSLContext | None) -> None:
        self._leader = leader
        self._tls = tls

    async def pass_on(self, request: Request) -> Stream | None:
        """The leader's answer as a stream; None where this replica answers itself."""
        address = None if HEADER in request.head.headers else self._leader()
        if address is None:
            return None
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(*address, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            _LOG.warning("the leader's page at %s:%d does not answer (%s); this replica does", *address, error)
            return None
        writer.write(_rendered(request))
        return Stream(lambda sink: _Pipe(reader, writer, sink))


class _Pipe:
    """One answer on its way. A `Source`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sink: Sink) -> None:
        self._reader = reader
        self._writer = writer
        self._sink = sink
        self._free = asyncio.Event()
        self._free.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def drained(self) -> None:
        self._free.set()

    def closed(self) -> None:
        self._task.cancel()
        self._writer.close()  # a task that has not begun yet does not come to its end

    async def _run(self) -> None:
        try:
            with contextlib.suppress(OSError):
                while part := await self._reader.read(PART):
                    self._sink.write(part)
                    if self._sink.blocked:
                        self._free.clear()
                        await self._free.wait()
        finally:
            self._writer.close()
            self._sink.leave()


def _rendered(request: Request) -> bytes:
    head = request.head
    lines = [f"{head.method} {head.path} HTTP/1.1", f"Content-Length: {len(request.body)}", "Connection: close"]
    lines += [f"{HEADER}: 1", *(f"{name}: {head.headers[name]}" for name in _KEPT if name in head.headers)]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + request.body
