"""Asking the scheduler: bounded in time, never in the way of a pod, and once for a burst while it does not answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_pod
from kerf.values.accepts import AcceptsSettings
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.accepts import ACCEPTS, CHOSEN
from kerf.wire.admission import Answer, Review
from kerf.wire.choosing import KindAnswer, parse_question, render_kind
from tests.webhook.json_patch import apply
from webhook.core.settings import Settings
from webhook.server.advice import PAUSE_S, Adviser
from webhook.server.line import Line
from webhook.server.rules import Rules

GPU, ASCEND = "nvidia.com/gpu", "huawei.com/Ascend910B3"
POD = a_pod(annotations={ACCEPTS: f"{GPU};memory=9000, {ASCEND};memory=9000"}, containers=[{"name": "main"}])
REVIEW = Review("u", "CREATE", "Pod", "default", "joe", POD, {})
Handler = Callable[[web.Request], Awaitable[web.Response]]


def given(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(apply(POD, answer.patch)["metadata"]["annotations"][CHOSEN])
    return found


class Asking:
    """A webhook beside a scheduler that answers by `handler`."""

    def __init__(self, handler: Handler, answer_s: float = 0.2) -> None:
        self.metrics, self.now, self.asked = Metrics(), 100.0, 0
        self.rules = Rules(Settings(VENDORS))
        self.rules.adopt(SchedulingPolicy(accepts=AcceptsSettings(answer_s=answer_s)))
        self._handler = handler

    def run(self, scenario: Callable[["Asking", Adviser], Awaitable[None]]) -> None:
        asyncio.run(self._run(scenario))

    async def _run(self, scenario: Callable[["Asking", Adviser], Awaitable[None]]) -> None:
        async def handle(request: web.Request) -> web.Response:
            self.asked += 1
            return await self._handler(request)

        app = web.Application()
        app.router.add_post("/kinds", handle)
        async with TestServer(app) as server:
            where = ("127.0.0.1", server.port or 0)
            await scenario(self, Adviser(self.rules, Line(*where), self.metrics, clock=lambda: self.now))

    async def review(self, adviser: Adviser) -> dict[str, Any]:
        decide = await adviser.advise(REVIEW)
        assert decide is not None
        return given(decide(REVIEW))


async def answers(request: web.Request) -> web.Response:
    question = parse_question(await request.read())
    return web.Response(body=render_kind(KindAnswer(question.kinds[-1][0], "because", promise="p")))


async def hangs(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def leads_nowhere(_request: web.Request) -> web.Response:
    return web.Response(status=503, text="no replica of the scheduler leads at this moment\n")


async def babbles(_request: web.Request) -> web.Response:
    return web.Response(text="{}")


def test_the_schedulers_answer_decides() -> None:
    async def scenario(world: Asking, adviser: Adviser) -> None:
        found = await world.review(adviser)
        assert (found["kind"], found["why"], found["promise"]) == (ASCEND, "because", "p")

    Asking(answers).run(scenario)


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (hangs, "the scheduler gave no answer (none within 0.2 s)"),
        (leads_nowhere, "the scheduler gave no answer (status 503: no replica of the scheduler leads at this moment)"),
        (babbles, "the scheduler gave no answer (kind: 'None': send the kind that was chosen)"),
    ],
)
def test_without_a_usable_answer_the_pod_gets_its_first_kind_in_bounded_time(handler: Handler, why: str) -> None:
    async def scenario(world: Asking, adviser: Adviser) -> None:
        async with asyncio.timeout(5):
            found = await world.review(adviser)
        assert (found["kind"], found["why"]) == (GPU, f"the first kind that it may have: {why}")

    Asking(handler).run(scenario)


def test_after_a_failure_a_burst_asks_nobody_for_a_moment_and_then_asks_again() -> None:
    async def scenario(world: Asking, adviser: Adviser) -> None:
        for _ in range(20):
            await world.review(adviser)
        assert world.asked == 1
        world.now += PAUSE_S
        await world.review(adviser)
        assert world.asked == 2

    world = Asking(leads_nowhere)
    world.run(scenario)
    lines = world.metrics.render().decode()
    assert 'kerf_webhook_kind_questions_total{outcome="paused"} 19.0' in lines
    assert 'kerf_webhook_kind_questions_total{outcome="unanswered"} 2.0' in lines


def test_where_nobody_listens_pods_are_admitted_all_the_same() -> None:
    async def scenario(world: Asking, _adviser: Adviser) -> None:
        adviser = Adviser(world.rules, Line("127.0.0.1", 1), Metrics())
        assert (await world.review(adviser))["kind"] == GPU

    Asking(answers).run(scenario)


def test_a_pod_without_kinds_asks_nobody() -> None:
    async def scenario(world: Asking, adviser: Adviser) -> None:
        assert await adviser.advise(Review("u", "CREATE", "Pod", "default", "joe", a_pod(), {})) is None
        assert world.asked == 0

    Asking(answers).run(scenario)
