"""Allocations of claims are let through by the scheduler's leader alone; without its answer nothing is."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_claim
from kerf.values.claim import Claim
from kerf.wire.admission import Answer, Review
from kerf.wire.allocations import AllocationQuestion, parse_question, render_answer
from kerf.wire.claims import parse_claim
from webhook.server import claims
from webhook.server.claims import NO_LINE, ClaimDesk
from webhook.server.line import Line

ALLOCATED = a_claim("c", ("gpu-0", 4096, 20))
WAITING = {**a_claim("c"), "metadata": {**a_claim("c")["metadata"], "resourceVersion": "41"}}
REVIEW = Review(
    "u", "UPDATE", "ResourceClaim", "default", "system:kube-scheduler", ALLOCATED, WAITING, "status", "resource.k8s.io"
)
Handler = Callable[[web.Request], Awaitable[web.Response]]


def answered(handler: Handler, review: Review = REVIEW) -> tuple[Answer | None, list[AllocationQuestion]]:
    """What the webhook decides beside a scheduler that answers by `handler`, and what it has asked."""
    asked: list[AllocationQuestion] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(parse_question(await request.read()))
        return await handler(request)

    async def run() -> Answer | None:
        app = web.Application()
        app.router.add_post("/claims", handle)
        async with TestServer(app) as server:
            decide = await ClaimDesk(Line("127.0.0.1", server.port or 0), Metrics()).advise(review)
            return decide(review) if decide else None

    return asyncio.run(run()), asked


async def allows(_request: web.Request) -> web.Response:
    return web.Response(body=render_answer(""))


async def refuses(_request: web.Request) -> web.Response:
    return web.Response(body=render_answer("quota: no room"))


async def hangs(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def follows(_request: web.Request) -> web.Response:
    return web.Response(status=503, text="no replica of the scheduler leads at this moment\n")


async def babbles(_request: web.Request) -> web.Response:
    return web.Response(text='{"allowed": "yes"}')


def test_the_leaders_answer_decides() -> None:
    claim: Claim = parse_claim(ALLOCATED)

    assert answered(allows) == (Answer(allowed=True), [AllocationQuestion(claim, 41)])
    assert answered(refuses)[0] == Answer(allowed=False, message="quota: no room")


def test_a_dry_run_asks_for_no_trace() -> None:
    assert answered(allows, replace(REVIEW, dry_run=True))[1][0].keep is False


@pytest.mark.parametrize("handler", [hangs, follows, babbles])
def test_without_an_answer_nothing_is_allocated(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "ANSWER_S", 0.2)

    answer, _ = answered(handler)

    assert answer is not None
    assert not answer.allowed
    assert "kube-scheduler tries again" in answer.message


def test_without_a_scheduler_nothing_is_allocated() -> None:
    async def run() -> Answer:
        decide = await ClaimDesk(None, Metrics()).advise(REVIEW)
        assert decide is not None
        return decide(REVIEW)

    assert asyncio.run(run()) == Answer(allowed=False, message=NO_LINE)


def foreign(claim: dict[str, Any]) -> dict[str, Any]:
    results = [{**r, "driver": "other.example.com"} for r in claim["status"]["allocation"]["devices"]["results"]]
    return {**claim, "status": {"allocation": {"devices": {"results": results}}}}


@pytest.mark.parametrize(
    "review",
    [
        replace(REVIEW, old=ALLOCATED),
        replace(REVIEW, object=WAITING, old=ALLOCATED),
        replace(REVIEW, object=foreign(ALLOCATED)),
        replace(REVIEW, subresource=""),
        replace(REVIEW, kind="Pod", group="", subresource=""),
        replace(REVIEW, operation="CREATE"),
        replace(REVIEW, object={}, old={}),
    ],
    ids=["reserved-again", "given-back", "of-others", "spec", "pod", "created", "empty"],
)
def test_nothing_else_is_asked_about(review: Review) -> None:
    assert answered(allows, review) == (None, [])
