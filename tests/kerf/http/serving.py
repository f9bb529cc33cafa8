"""A server of Kerf's on a free port, with a real client."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp

from kerf.http.server import Server


class Client:
    """What a test asks with. `port` is the server's."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self.port = port
        self.get, self.post, self.request = session.get, session.post, session.request


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Client]:
    port = await server.listen(("127.0.0.1", 0), None)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield Client(port, session)
    finally:
        server.close()
