"""A network between a browser and the page that can be slow, silent or cut."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager

PIECE_S = 0.05
SMALL = 8192


class Line:
    """Listens on a port of its own and passes bytes on. Its state may be set from any thread."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.bytes_per_s = 0
        """To the browser; 0: as many as come."""
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._passes = asyncio.Event()
        self._passes.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End every connection and accept no more."""
        self._run(self._cut())

    def mend(self) -> None:
        """Accept connections again."""
        self._run(self._listen())

    def swallow(self, everything: bool) -> None:
        """Whether nothing passes, without an error on either side."""
        self._loop.call_soon_threadsafe(self._passes.clear if everything else self._passes.set)

    def run(self) -> None:
        """Pass bytes on until `close`."""
        self._loop.run_forever()
        self._loop.close()

    def close(self) -> None:
        """End everything."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    # ---- inside
    def _run(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _close(self) -> None:
        self.bytes_per_s = 0
        self._passes.set()
        await self._cut()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=5)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = socket.create_connection(("127.0.0.1", self._target))
        if self.bytes_per_s:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)  # what waits on the way is little
        far_reader, far_writer = await asyncio.open_connection(sock=far, limit=SMALL)
        both = {writer, far_writer}
        self._open |= both
        up = asyncio.create_task(self._pump(reader, far_writer, slow=False))
        try:
            with contextlib.suppress(OSError):
                await self._pump(far_reader, writer, slow=True)
        finally:
            up.cancel()
            self._open -= both
            for each in both:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        while part := await reader.read(
            max(int(self.bytes_per_s * PIECE_S), 1) if slow and self.bytes_per_s else 65536
        ):
            await self._passes.wait()
            writer.write(part)
            await writer.drain()
            if slow and self.bytes_per_s:
                await asyncio.sleep(len(part) / self.bytes_per_s)


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    """A line to a port of this machine."""
    line = Line(port)
    thread = threading.Thread(target=line.run, daemon=True)
    thread.start()
    line.mend()
    try:
        yield line
    finally:
        line.close()
        thread.join(10)
