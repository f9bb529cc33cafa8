"""From a follower's page to the leader's, over real connections."""

import asyncio
from collections.abc import Awaitable, Callable

import uvloop

from kerf.http.server import Handler, Limits, Request, Response, Server, text
from kerf.http.stream import Sink, Stream
from kerf.wire.http import RequestHead
from scheduler.page.relay import HEADER, Relay
from tests.kerf.http.serving import Client, serving


class Leader:
    """Notes what comes, and has an endless answer as well."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.sinks: list[Sink] = []
        self.left = asyncio.Event()
        routes: dict[tuple[str, str], Handler] = {
            ("POST", "/api/try"): self.answer,
            ("GET", "/api/session"): self.answer,
            ("GET", "/api/events"): lambda _: Stream(self.opened, "text/event-stream"),
        }
        self.server = server(routes)

    def answer(self, request: Request) -> Response:
        self.seen.append(request)
        return Response(b"of the leader: " + request.body, 418, "text/odd", (("Set-Cookie", "kerf-page=new"),))

    def opened(self, sink: Sink) -> "Leader":
        self.sinks.append(sink)
        sink.write(b"first\n")
        return self

    def drained(self) -> None:
        """Writes no more anyway."""

    def closed(self) -> None:
        self.left.set()


def server(routes: dict[tuple[str, str], Handler]) -> Server:
    return Server(routes, Limits(1 << 20), lambda path, error: text(f"{path} {error!r}", 500), lambda _: None)


def follower(port: int | None) -> Server:
    """Passes on to a port; answers itself where there is none."""
    relay = Relay(lambda: None if port is None else ("127.0.0.1", port), None)

    async def handle(request: Request) -> Response | Stream:
        return await relay.pass_on(request) or text("of the follower")

    paths = (("POST", "/api/try"), ("GET", "/api/session"), ("GET", "/api/events"))
    return server(dict.fromkeys(paths, handle))


def between(check: Callable[[Leader, Client], Awaitable[None]]) -> None:
    """Run a check with a follower of a leader."""

    async def run() -> None:
        leader = Leader()
        async with serving(leader.server) as direct, serving(follower(direct.port)) as client:
            await asyncio.wait_for(check(leader, client), 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_the_leader_gets_what_it_needs_to_decide_and_its_answer_comes_back_whole():
    async def check(leader: Leader, client: Client) -> None:
        body = b"x" * 300_000
        headers = {"Cookie": "kerf-page=a", "Origin": "http://here", "kerf-page": "1", "Host": "here", "X-Other": "no"}
        async with client.post("/api/try", data=body, headers=headers) as answer:
            assert (answer.status, answer.content_type) == (418, "text/odd")
            assert answer.headers["Set-Cookie"] == "kerf-page=new"
            assert await answer.read() == b"of the leader: " + body
        sent = leader.seen[0].head.headers
        assert {key: sent.get(key.lower()) for key in headers} == {**headers, "X-Other": None}
        assert sent[HEADER] == "1"

    between(check)


def test_a_stream_comes_part_by_part_and_the_leader_hears_when_the_browser_leaves():
    async def check(leader: Leader, client: Client) -> None:
        async with client.get("/api/events") as answer:
            assert await answer.content.readline() == b"first\n"
            leader.sinks[0].write(b"second\n")
            assert await answer.content.readline() == b"second\n"
        await leader.left.wait()

    between(check)


def test_a_stream_that_the_leader_ends_has_ended():
    async def check(leader: Leader, client: Client) -> None:
        async with client.get("/api/events") as answer:
            assert await answer.content.readline() == b"first\n"
            leader.sinks[0].leave()
            assert await answer.read() == b""

    between(check)


def test_a_question_for_the_head_alone_is_answered_by_the_leader():
    async def check(leader: Leader, client: Client) -> None:
        async with client.request("HEAD", "/api/session") as answer:
            assert (answer.status, await answer.read()) == (418, b"")
        assert [request.head.method for request in leader.seen] == ["HEAD"]

    between(check)


def test_what_was_passed_on_once_is_answered_where_it_is():
    async def check(leader: Leader, client: Client) -> None:
        async with client.get("/api/session", headers={HEADER: "1"}) as answer:
            assert await answer.text() == "of the follower"
        assert leader.seen == []

    between(check)


def test_a_leader_that_is_not_there_or_does_not_answer_leaves_the_answer_to_the_follower():
    async def run() -> None:
        gone = Leader()
        async with serving(gone.server) as direct:
            port = direct.port
        for nowhere in (None, port):
            async with serving(follower(nowhere)) as client, client.get("/api/session") as answer:
                assert await answer.text() == "of the follower"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


class Gone:
    """A browser that has left already."""

    blocked = False

    def write(self, data: bytes) -> None:
        """Nobody is there."""

    def leave(self) -> None:
        """Nobody is there."""


def test_a_browser_that_has_left_before_the_leader_is_reached_holds_no_connection_to_it():
    async def run() -> None:
        left = asyncio.Event()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            left.set()

        listening = await asyncio.start_server(accept, "127.0.0.1", 0)
        relay = Relay(lambda: listening.sockets[0].getsockname()[:2], None)
        stream = await relay.pass_on(Request(RequestHead("GET", "/api/session", {}, None, keeps=True), b""))
        assert stream is not None
        source = stream.opened(Gone())
        source.closed()
        await asyncio.wait_for(left.wait(), 20)
        listening.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
