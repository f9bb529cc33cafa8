"""What is let in is bounded; on the way out nothing new is let in and what is inside is answered."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from kerf.obs.metrics import Metrics
from scheduler.extender.gate import Gate
from scheduler.metrics import SchedulerMetrics


def serve(check, **limits: int) -> None:
    async def run() -> None:
        gate = Gate(SchedulerMetrics.build(Metrics()), 1000, **limits)
        leave = asyncio.Event()

        async def slow(request: web.Request) -> web.Response:
            await leave.wait()
            return web.Response(text="done")

        async def probe(request: web.Request) -> web.Response:
            return web.Response(text="alive")

        app = web.Application(middlewares=[gate.pass_through])
        app.router.add_post("/slow", slow)
        app.router.add_get("/healthz", probe)
        async with TestClient(TestServer(app)) as client:
            await check(client, gate, leave)

    asyncio.run(run())


async def inside(gate: Gate, count: int) -> None:
    while gate._in_flight < count:  # noqa: ASYNC110 (nothing tells it)
        await asyncio.sleep(0.01)


def test_beyond_the_limit_the_answer_is_503_with_retry_after_and_probes_pass():
    async def check(client: TestClient, gate: Gate, leave: asyncio.Event) -> None:
        waiting = [asyncio.create_task(client.post("/slow", data=b"x")) for _ in range(3)]
        await inside(gate, 3)

        refused = await client.post("/slow", data=b"x")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert (await client.get("/healthz")).status == 200
        leave.set()
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200, 200]
        assert (await client.post("/slow", data=b"x")).status == 200

    serve(check, requests=3)


def test_bytes_in_flight_are_bounded_too():
    async def check(client: TestClient, gate: Gate, leave: asyncio.Event) -> None:
        first = asyncio.create_task(client.post("/slow", data=b"x" * 90))
        await inside(gate, 1)

        assert (await client.post("/slow", data=b"x" * 20)).status == 503
        leave.set()
        assert (await first).status == 200

    serve(check, size=100)


def test_on_the_way_out_what_is_inside_is_answered_and_nothing_new_is_let_in():
    async def check(client: TestClient, gate: Gate, leave: asyncio.Event) -> None:
        first = asyncio.create_task(client.post("/slow", data=b"x"))
        await inside(gate, 1)
        closing = asyncio.create_task(gate.close(30))
        await asyncio.sleep(0)

        assert (await client.post("/slow", data=b"x")).status == 503
        assert not closing.done()
        leave.set()
        assert (await first).status == 200
        await closing

    serve(check)
