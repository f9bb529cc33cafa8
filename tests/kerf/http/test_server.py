"""The server: a client gets one clear answer or loses its connection, and the others do not notice."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from kerf.http.server import Limits, Request, Response, Server, text
from kerf.http.stream import Sink, Stream
from tests.kerf.http.serving import Client, serving

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


class World:
    """A server with a handler that answers at once, one that waits until `leave` is set, and one that fails."""

    def __init__(self, limits: Limits) -> None:
        self.leave = asyncio.Event()
        self.reasons: list[str] = []
        self.inside = asyncio.Semaphore(0)
        self.sinks: list[Sink] = []
        self.said: list[str] = []
        self.server = Server(
            {
                ("GET", "/healthz"): lambda _: text("alive\n"),
                ("POST", "/echo"): lambda request: Response(request.body),
                ("POST", "/slow"): self.slow,
                ("GET", "/news"): lambda _: Stream(self.opened, "text/event-stream"),
                ("POST", "/fails"): self.fails,
                ("POST", "/fails-late"): self.fails_late,
            },
            limits,
            lambda path, error: text(f"{path} {type(error).__name__} {error}", 400),
            self.reasons.append,
        )

    def opened(self, sink: Sink) -> "World":
        self.sinks.append(sink)
        sink.write(b"first\n")
        return self

    def drained(self) -> None:
        self.said.append("drained")

    def closed(self) -> None:
        self.said.append("closed")

    async def slow(self, request: Request) -> Response:
        self.inside.release()
        await self.leave.wait()
        return Response(b"done " + request.body)

    def fails(self, request: Request) -> Response:
        raise KeyError("a defect")

    async def fails_late(self, request: Request) -> Response:
        raise KeyError("a defect")

    async def entered(self, count: int) -> None:
        for _ in range(count):
            await asyncio.wait_for(self.inside.acquire(), 20)


Check = Callable[[World, Client], Awaitable[None]]


def serve(check: Check, limits: Limits | None = None) -> World:
    """Run a check against a server, on the scheduler's event loop."""
    worlds: list[World] = []

    async def run() -> None:
        world = World(limits or Limits(1000))
        worlds.append(world)
        async with serving(world.server) as client:
            await asyncio.wait_for(check(world, client), 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return worlds[0]


@contextlib.asynccontextmanager
async def raw(client: Client) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    yield reader, writer
    writer.close()


async def rest(streams: Streams) -> bytes:
    """Everything until the server closes the connection."""
    try:
        return await asyncio.wait_for(streams[0].read(), 20)
    except ConnectionError:
        return b""


async def until(condition: Callable[[], bool]) -> None:
    """`serve` bounds the wait."""
    while not condition():  # noqa: ASYNC110 (the server has no event for it)
        await asyncio.sleep(0.005)


async def is_alive(client: Client) -> bool:
    async with client.get("/healthz") as answer:
        return (answer.status, await answer.text()) == (200, "alive\n")


def test_a_request_is_answered_by_its_handler_whole_or_in_pieces():
    async def check(world: World, client: Client) -> None:
        async with client.post("/echo", data=b"x" * 900) as answer:
            assert (answer.status, await answer.read(), answer.content_type) == (200, b"x" * 900, "application/json")
        async with raw(client) as streams:
            for byte in POST:
                streams[1].write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await streams[0].readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")

    serve(check)


def test_requests_sent_at_once_on_one_connection_are_answered_in_order():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as streams:
            slow = POST.replace(b"/echo", b"/slow")
            streams[1].write(POST + slow + POST.replace(b"hello", b"third") + PROBE)
            await world.entered(1)
            world.leave.set()
            got = await asyncio.wait_for(streams[0].readuntil(b"alive\n"), 20)
            assert [part[-5:] for part in got.split(b"HTTP/1.1 200 OK\r\n")][1:] == [
                b"hello", b"hello", b"third", b"live\n",
            ]  # fmt: skip

    serve(check)


def test_chunks_and_a_client_that_waits_for_100_continue_are_understood():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as streams:
            streams[1].write(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
            assert await streams[0].readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            streams[1].write(b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")
            assert (await streams[0].readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")

    serve(check)


def test_a_client_that_wants_no_more_is_answered_and_its_connection_closed():
    async def check(world: World, client: Client) -> None:
        for last in (b"HTTP/1.1\r\nConnection: close", b"HTTP/1.0"):
            async with raw(client) as streams:
                streams[1].write(b"HEAD /healthz " + last + b"\r\n\r\n")
                assert (await rest(streams)).startswith(b"HTTP/1.1 200 OK\r\n")

    serve(check)


def test_other_paths_and_methods_are_refused_and_the_connection_is_kept():
    async def check(world: World, client: Client) -> None:
        for method, path, status in (("GET", "/nowhere", 404), ("PUT", "/echo", 405), ("POST", "/healthz", 405)):
            async with client.request(method, path) as answer:
                assert answer.status == status

    serve(check)


@pytest.mark.parametrize("path", ["/fails", "/fails-late"])
def test_a_handler_that_fails_is_answered_and_the_next_request_works(path):
    async def check(world: World, client: Client) -> None:
        async with client.post(path, data=b"x") as answer:
            assert (answer.status, await answer.text()) == (400, f"{path} KeyError 'a defect'")
        assert await is_alive(client)

    serve(check)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"nonsense\r\n\r\n", b"write METHOD /path HTTP/1.1"),
        (b"GET /healthz HTTP/1.1\r\n folded: x\r\n\r\n", b"write Name: value"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", b"send it once"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", b"send a number"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 1001\r\n\r\nx", b"send at most 1000 bytes"),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", b"send at most 1000 bytes"),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"use chunked, or a Content-Length"),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", b"send no length beside"),
    ],
)
def test_an_odd_request_gets_one_clear_answer_and_loses_its_connection(sent, said):
    async def check(world: World, client: Client) -> None:
        async with raw(client) as streams:
            streams[1].write(sent)
            answer = await rest(streams)
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert said in answer
        assert await is_alive(client)

    serve(check)


def test_a_body_that_is_refused_may_still_be_on_its_way():
    async def check(world: World, client: Client) -> None:
        async with client.post("/echo", data=io.BytesIO(b"x" * 5_000_000)) as answer:
            assert answer.status == 400

    serve(check)


def test_beyond_the_limit_the_answer_is_503_with_retry_after_and_probes_pass():
    async def check(world: World, client: Client) -> None:
        waiting = [asyncio.ensure_future(client.post("/slow", data=b"x")) for _ in range(3)]
        await world.entered(3)
        async with client.post("/echo", data=b"x") as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert await is_alive(client)
        world.leave.set()
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200, 200]
        async with client.post("/echo", data=b"x") as answer:
            assert answer.status == 200

    assert serve(check, Limits(1000, requests=3)).reasons == ["full"]


def test_bytes_in_flight_are_bounded_and_counted_back_when_a_client_leaves():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as streams:
            streams[1].write(b"POST /echo HTTP/1.1\r\nContent-Length: 90\r\n\r\nx")
            await until(lambda: world.server._bytes == 90)
            async with client.post("/echo", data=b"x" * 20) as answer:
                assert answer.status == 503
        await until(lambda: world.server._bytes == 0)
        async with client.post("/echo", data=b"x" * 20) as answer:
            assert answer.status == 200

    assert serve(check, Limits(1000, bytes=100)).reasons == ["full"]


def test_a_server_that_finishes_answers_what_is_in_flight_and_accepts_nothing_new():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as streams:
            streams[1].write(PROBE)
            await streams[0].readuntil(b"alive\n")
            first = asyncio.ensure_future(client.post("/slow", data=b"x"))
            await world.entered(1)
            finishing = asyncio.create_task(world.server.finish(30))
            await asyncio.sleep(0)
            streams[1].write(POST)
            assert (await rest(streams)).startswith(b"HTTP/1.1 503 ")
            assert not finishing.done()
            world.leave.set()
            assert await (await first).read() == b"done x"
            await finishing
        with pytest.raises(OSError):  # noqa: PT011 (each system has its own words)
            await asyncio.open_connection("127.0.0.1", client.port)

    assert serve(check).reasons == ["stopping"]


@pytest.mark.parametrize("brought", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["0", "line", "headers"])
def test_a_connection_that_brings_no_request_is_closed_and_one_that_does_is_kept(brought):
    async def check(world: World, client: Client) -> None:
        async with raw(client) as slow:
            slow[1].write(brought)
            assert await is_alive(client)
            assert await rest(slow) == b""
            assert await is_alive(client)

    serve(check, Limits(1000, silent_s=0.2))


def test_one_that_dribbles_its_second_request_is_closed_too_and_an_idle_one():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as slow, raw(client) as idle:
            for each in (slow, idle):
                each[1].write(PROBE)
                await each[0].readuntil(b"alive\n")
            slow[1].write(b"GET / HTTP/1.1\r\nHos")
            assert await rest(slow) == b""
            assert await rest(idle) == b""

    serve(check, Limits(1000, silent_s=0.2, idle_s=0.5))


def test_a_body_that_does_not_arrive_is_answered_so():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as slow:
            slow[1].write(b"POST /echo HTTP/1.1\r\nContent-Length: 90\r\n\r\nx")
            assert b"TimeoutError" in await rest(slow)

    serve(check, Limits(1000, silent_s=0.2))


def test_a_connection_too_many_is_closed_and_the_others_are_served():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as one, raw(client) as two:
            for each in (one, two):
                each[1].write(PROBE)
                await each[0].readuntil(b"alive\n")
            async with raw(client) as third:
                assert await rest(third) == b""
            one[1].write(PROBE)
            assert (await one[0].readuntil(b"alive\n")).startswith(b"HTTP/1.1 200")
        await until(lambda: not world.server._connections)
        assert await is_alive(client)

    serve(check, Limits(1000, connections=2))


def test_a_client_that_does_not_take_its_answers_holds_up_nobody_and_loses_its_connection():
    async def check(world: World, client: Client) -> None:
        body = b"x" * 1_000_000
        request = b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        async with raw(client) as greedy:
            await until(lambda: len(world.server._connections) == 1)
            (its,) = world.server._connections
            with contextlib.suppress(ConnectionError, TimeoutError):
                for _ in range(40):
                    greedy[1].write(request)
                    await asyncio.wait_for(greedy[1].drain(), 1.0)
            assert await is_alive(client)
            await until(lambda: its not in world.server._connections)
            assert await is_alive(client)

    serve(check, Limits(2_000_000, silent_s=0.2))


def test_an_answer_whose_client_has_left_is_still_made():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as streams:
            streams[1].write(POST.replace(b"/echo", b"/slow"))
            await world.entered(1)
        await streams[1].wait_closed()
        world.leave.set()
        await asyncio.wait_for(world.server.finish(20), 20)
        assert world.server.tasks == set()

    serve(check)


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_end_in_an_answer_or_a_closed_connection_and_the_service_goes_on(pieces):
    async def check(world: World, client: Client) -> None:
        async with raw(client) as streams:
            for piece in pieces:
                streams[1].write(piece)
                await asyncio.sleep(0)
            if streams[1].can_write_eof():
                streams[1].write_eof()
            await rest(streams)
        assert await is_alive(client)

    serve(check, Limits(1000, silent_s=0.2))


def test_a_stream_sends_its_parts_as_they_come_and_hears_when_its_client_leaves():
    async def check(world: World, client: Client) -> None:
        async with client.get("/news") as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            assert await answer.content.readline() == b"first\n"
            world.sinks[0].write(b"second\n")
            assert await answer.content.readline() == b"second\n"
            assert await is_alive(client)
        await until(lambda: world.said == ["closed"])
        world.sinks[0].write(b"to nobody")

    serve(check)


def test_a_stream_ends_when_its_source_leaves():
    async def check(world: World, client: Client) -> None:
        async with client.get("/news") as answer:
            await until(lambda: bool(world.sinks))
            world.sinks[0].leave()
            assert await answer.read() == b"first\n"

    serve(check)


def test_a_client_that_does_not_take_its_stream_is_said_to_be_blocked_and_closed_after_a_while():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as streams:
            streams[1].write(PROBE.replace(b"/healthz", b"/news"))
            await until(lambda: bool(world.sinks))
            sink = world.sinks[0]
            streams[0]._transport.pause_reading()
            while not sink.blocked:
                sink.write(b"x" * 100_000)
                await asyncio.sleep(0)
            await until(lambda: world.said == ["closed"])

    serve(check, Limits(1000, silent_s=0.2))


def test_a_client_that_takes_its_stream_again_is_said_to_be():
    async def check(world: World, client: Client) -> None:
        async with raw(client) as streams:
            streams[1].write(PROBE.replace(b"/healthz", b"/news"))
            await until(lambda: bool(world.sinks))
            streams[0]._transport.pause_reading()
            while not world.sinks[0].blocked:
                world.sinks[0].write(b"x" * 100_000)
                await asyncio.sleep(0)
            reading = asyncio.create_task(streams[0].read())
            streams[0]._transport.resume_reading()
            await until(lambda: world.said == ["drained"])
            reading.cancel()

    serve(check)
