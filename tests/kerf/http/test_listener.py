"""The listener: a silent connection and one over the limit are closed, and the others do not notice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from kerf.http.address import parse_bind
from kerf.http.listener import Listener, ListenerLimits

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def a_service(listener: Listener) -> AsyncIterator[Callable[[], Awaitable[Streams]]]:
    """A service that says ok; what it yields opens a connection to it."""

    async def ok(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application(middlewares=[listener.watch_requests])
    app.router.add_get("/", ok)
    runner = web.AppRunner(app, keepalive_timeout=0.3)
    await runner.setup()
    assert runner.server
    server = await listener.listen(runner.server, ("127.0.0.1", 0), None)
    port = server.sockets[0].getsockname()[1]
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        return reader, writer

    yield connect
    for writer in opened:
        writer.close()
    server.close()
    await runner.cleanup()


async def ask(streams: Streams) -> bytes:
    reader, writer = streams
    writer.write(REQUEST)
    return await asyncio.wait_for(reader.readuntil(b"ok\n"), 20)


async def is_closed(streams: Streams) -> bool:
    try:
        return await asyncio.wait_for(streams[0].read(), 20) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("brought", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["0", "line", "headers"])
def test_a_connection_that_brings_no_request_is_closed_and_one_that_does_is_kept(brought: bytes) -> None:
    async def run() -> None:
        async with a_service(Listener(ListenerLimits(silent_s=0.2))) as connect:
            slow, quick = await connect(), await connect()
            slow[1].write(brought)
            assert (await ask(quick)).startswith(b"HTTP/1.1 200")

            assert await is_closed(slow)
            assert (await ask(await connect())).startswith(b"HTTP/1.1 200")

    asyncio.run(run())


def test_one_that_dribbles_its_second_request_is_closed_too() -> None:
    async def run() -> None:
        async with a_service(Listener(ListenerLimits())) as connect:
            slow = await connect()
            await ask(slow)
            slow[1].write(b"GET / HTTP/1.1\r\nHos")

            assert await is_closed(slow)

    asyncio.run(run())


def test_a_connection_too_many_is_closed_and_the_others_are_served() -> None:
    async def run() -> None:
        async with a_service(Listener(ListenerLimits(connections=3))) as connect:
            inside = [await connect() for _ in range(3)]
            for each in inside:
                await ask(each)

            assert await is_closed(await connect())
            for each in inside:
                assert (await ask(each)).startswith(b"HTTP/1.1 200")

            inside[0][1].close()
            await inside[0][1].wait_closed()
            for _ in range(50):  # the server notices when it comes to it
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    assert (await ask(await connect())).startswith(b"HTTP/1.1 200")
                    return
            pytest.fail("no client got in after another had left")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8443", ("127.0.0.1", 8443)), ("[::1]:1", ("::1", 1)), (":8443", ("", 8443))],
)
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_bind(text) == address
