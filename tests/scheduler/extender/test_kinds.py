"""The webhook's question over HTTP: the leader answers, a follower passes it on, and nobody else pretends to know."""

import asyncio
import threading
from collections.abc import Callable

from kerf.config.prices import read_prices
from kerf.kube.lease import Claim
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.choosing import KindQuestion, render_question
from scheduler.choosing.chooser import Chooser
from scheduler.extender.app import Extender
from scheduler.extender.bind import Binder
from scheduler.extender.peers import Peers
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store, load
from tests.kerf.http.serving import Client, serving

QUESTION = render_question(KindQuestion((("nvidia.com/gpu", a_pod()), ("nvidia.com/gpu:H100", a_pod()))))


class View:
    """Whether one replica leads, and which one it takes for the leader."""

    def __init__(self, own: int) -> None:
        self.own = own
        self.address = ""

    def term(self) -> int:
        return self.own

    def holds(self, term: int, for_s: float = 0.0) -> bool:
        return bool(self.own)

    def leader(self) -> Claim | None:
        return Claim("leader", self.address, 1, "1") if self.address else None


def a_replica(own: int, ready: bool = True, kinds: Callable[[bytes], bytes] | None = None) -> tuple[View, Extender]:
    view, registry = View(own), Metrics()
    metrics = SchedulerMetrics.build(registry)
    store = Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node("a")], [])
    prices = read_prices(None)
    verbs = Verbs(store.desk, metrics, kinds or Chooser(store, lambda: prices).answer)
    binder = Binder(store, FakeKube(), metrics, view)
    peers = Peers(view, "here:1", metrics, None)
    return view, Extender(verbs, binder, metrics, lambda: ready, registry.render, peers)


def serve(check, *, leads: int = 1, ready: bool = True) -> None:
    """A replica that may lead, and a follower of it."""

    async def run() -> None:
        _, leader = a_replica(leads, ready)
        view, follower = a_replica(0)
        async with serving(leader.server()) as one, serving(follower.server()) as other:
            view.address = f"127.0.0.1:{one.port}"
            await check(one, other, view)

    asyncio.run(run())


def test_the_leader_answers_and_a_follower_passes_the_question_on() -> None:
    async def check(leader: Client, follower: Client, view: View) -> None:
        for client in (leader, follower):
            answer = await (await client.post("/kinds", data=QUESTION)).json()
            assert answer["kind"] in {"nvidia.com/gpu", "nvidia.com/gpu:H100"}
            assert answer["fits"]

    serve(check)


def test_without_a_leader_there_is_no_answer() -> None:
    async def check(leader: Client, follower: Client, view: View) -> None:
        assert (await leader.post("/kinds", data=QUESTION)).status == 503
        assert (await follower.post("/kinds", data=QUESTION)).status == 503
        view.address = ""
        answer = await follower.post("/kinds", data=QUESTION)
        assert answer.status == 503
        assert "no replica of the scheduler leads" in await answer.text()

    serve(check, leads=0)


def test_before_the_cluster_is_read_there_is_no_answer() -> None:
    async def check(leader: Client, follower: Client, view: View) -> None:
        assert (await leader.post("/kinds", data=QUESTION)).status == 503

    serve(check, ready=False)


def test_a_malformed_question_is_a_400_and_the_next_is_answered() -> None:
    async def check(leader: Client, follower: Client, view: View) -> None:
        assert (await leader.post("/kinds", data=b"{")).status == 400
        assert (await leader.post("/kinds", data=QUESTION)).status == 200

    serve(check)


def test_other_answers_do_not_wait_for_a_choice_and_choices_are_made_one_after_the_other() -> None:
    begun, go_on, at_once = threading.Semaphore(0), threading.Event(), threading.Semaphore(1)

    def slow(body: bytes) -> bytes:
        assert at_once.acquire(blocking=False), "two choices at once might promise the same place"
        begun.release()
        assert go_on.wait(10)
        at_once.release()
        return body

    async def run() -> None:
        _, leader = a_replica(1, kinds=slow)
        async with serving(leader.server()) as client:
            asked = [asyncio.create_task(_post(client)) for _ in range(2)]
            assert await asyncio.to_thread(begun.acquire, timeout=10)
            assert (await client.get("/readyz")).status == 200
            assert not any(task.done() for task in asked)
            go_on.set()
            assert await asyncio.gather(*asked) == [200, 200]

    asyncio.run(run())


async def _post(client: Client) -> int:
    return (await client.post("/kinds", data=QUESTION)).status
