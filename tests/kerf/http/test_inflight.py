"""Requests in flight are limited; a server that stops accepts none and answers those in flight."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from kerf.http.inflight import InFlightLimit


def serve(check, **limits: int) -> list[str]:
    """Run a check against a server with these limits; the reasons for which requests were refused."""
    reasons: list[str] = []

    async def run() -> None:
        limit = InFlightLimit(reasons.append, 1000, **limits)
        leave = asyncio.Event()

        async def slow(request: web.Request) -> web.Response:
            await leave.wait()
            return web.Response(text="done")

        async def probe(request: web.Request) -> web.Response:
            return web.Response(text="alive")

        app = web.Application(middlewares=[limit.limit_inflight])
        app.router.add_post("/slow", slow)
        app.router.add_get("/healthz", probe)
        async with TestClient(TestServer(app)) as client:
            await check(client, limit, leave)

    asyncio.run(run())
    return reasons


async def inside(limit: InFlightLimit, count: int) -> None:
    while limit._in_flight < count:  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.01)


def test_beyond_the_limit_the_answer_is_503_with_retry_after_and_probes_pass():
    async def check(client: TestClient, limit: InFlightLimit, leave: asyncio.Event) -> None:
        waiting = [asyncio.create_task(client.post("/slow", data=b"x")) for _ in range(3)]
        await inside(limit, 3)

        refused = await client.post("/slow", data=b"x")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert (await client.get("/healthz")).status == 200
        leave.set()
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200, 200]
        assert (await client.post("/slow", data=b"x")).status == 200

    assert serve(check, requests=3) == ["full"]


def test_bytes_in_flight_are_bounded_too():
    async def check(client: TestClient, limit: InFlightLimit, leave: asyncio.Event) -> None:
        first = asyncio.create_task(client.post("/slow", data=b"x" * 90))
        await inside(limit, 1)

        assert (await client.post("/slow", data=b"x" * 20)).status == 503
        leave.set()
        assert (await first).status == 200

    assert serve(check, size=100) == ["full"]


def test_a_draining_server_answers_what_is_in_flight_and_accepts_nothing_new():
    async def check(client: TestClient, limit: InFlightLimit, leave: asyncio.Event) -> None:
        first = asyncio.create_task(client.post("/slow", data=b"x"))
        await inside(limit, 1)
        closing = asyncio.create_task(limit.drain(30))
        await asyncio.sleep(0)

        assert (await client.post("/slow", data=b"x")).status == 503
        assert not closing.done()
        leave.set()
        assert (await first).status == 200
        await closing

    assert serve(check) == ["stopping"]
