"""A round of the lane: kube-scheduler waits with one pod, the others are bound, and both ends meet."""

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest

from kerf.kube.errors import Conflict, Forbidden, Unreachable, Unsent
from kerf.kube.watch import Follower
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_container, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.device import Card
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.extender import BindQuery
from scheduler.core.wishes import Wishes
from scheduler.express.lane import MOST_SETTLE_S, SETTLE_S, ExpressLane
from scheduler.express.seen import Pending
from scheduler.extender.bind import Binder
from scheduler.extender.door import Knock
from scheduler.metrics import SchedulerMetrics
from scheduler.state.answers import Member, NoPlace
from scheduler.state.bookings import State
from scheduler.state.seating import Seat
from scheduler.state.store import Store
from tests.scheduler.extender.test_bind import Office
from tests.scheduler.recovery.world import owned, with_owner

EVENTS = "/apis/events.k8s.io/v1"


def waiting(name: str, created: int = 0, **more: Any) -> dict[str, Any]:
    pod = a_pod(name, containers=[a_container(mem=more.pop("mem", 8000), cores=10)], **more)
    pod["spec"]["schedulerName"] = "kerf-scheduler"
    pod["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{created:02}Z"
    return pod


def a_machine(name: str = "node-1", cards: tuple[Card, ...] | int = 4) -> dict[str, Any]:
    node = a_node(name, cards)
    node["status"]["allocatable"]["pods"] = "110"
    return node


class World:
    """A fake API server, the store and the lane, as the scheduler's main connects them."""

    def __init__(self, *objects: dict[str, Any], express: bool = True, kube: FakeKube | None = None) -> None:
        self.kube = kube or FakeKube(*objects)
        self.office = Office()
        self.store = Store(SchedulingPolicy(express=express), VENDORS)
        self.registry = Metrics()
        metrics = SchedulerMetrics.build(self.registry)
        self.binder = Binder(self.store, self.kube, metrics, self.office)
        feed = self.store.feed
        self.followers = (
            Follower(self.kube, "/api/v1/nodes", feed.replace_nodes, feed.apply_node),
            Follower(self.kube, "/api/v1/pods", feed.replace_pods, feed.apply_pod),
        )
        self.lane = ExpressLane(self.store, self.kube, self.binder, metrics, self.office, self.followers)

    def live(self, test: Callable[["World"], Awaitable[None]]) -> None:
        """Run a test on the event loop while watches and lane run in their threads."""
        stop = threading.Event()
        for follower in self.followers:
            follower.start()
        for follower in self.followers:
            assert follower.synced.wait(5)
        thread = threading.Thread(target=self.lane.run, args=(stop,))
        thread.start()

        async def scenario() -> None:
            if self.store.desk.policy.express:
                await until(lambda: self.lane.wants_from() < time.monotonic())
            await test(self)

        try:
            asyncio.run(asyncio.wait_for(scenario(), 20))
        finally:
            stop.set()
            for follower in self.followers:
                follower.stop()
            thread.join(5)

    async def filter(self, name: str) -> float:
        """kube-scheduler asks about a pod. Returns how long it has waited."""
        start = time.monotonic()
        body = {"Pod": {"metadata": {"uid": f"uid-default-{name}"}}, "NodeNames": ["node-1"]}
        await self.binder.door.hold(json.dumps(body).encode())
        return time.monotonic() - start

    def bound(self) -> dict[str, str]:
        pods = self.kube.objects("/api/v1/namespaces/default/pods/")
        return {pod["metadata"]["name"]: node for pod in pods if (node := pod["spec"].get("nodeName"))}

    def is_open(self, value: int) -> bool:
        return self.registry.registry.get_sample_value("kerf_express_open") == value

    def count(self, name: str, outcome: str) -> float:
        return self.registry.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (threads make it true)
        await asyncio.sleep(0.01)


def no_answer_about_pod_2(method: str, path: str) -> None:
    """Its Binding may have been made."""
    if path.endswith("pod-2/binding") or (method, path[-5:]) == ("GET", "pod-2"):
        raise Unreachable("no answer")


def test_while_kube_scheduler_waits_with_one_pod_the_others_are_bound_with_one_write_each() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(5)])

    async def test(world: World) -> None:
        assert await world.filter("pod-0") < 0.8
        assert set(world.bound()) == {"pod-1", "pod-2", "pod-3", "pod-4"}
        writes = [path for _, path in world.kube.writes if not path.startswith(EVENTS)]
        assert sorted(writes) == [f"/api/v1/namespaces/default/pods/pod-{i}/binding" for i in (1, 2, 3, 4)]
        assert world.store.ledger.reservation("uid-default-pod-0") is not None
        assert await world.binder.bind(BindQuery("default", "pod-0", "uid-default-pod-0", "node-1")) == ""

    world.live(test)


def test_pods_that_come_during_a_round_are_bound_in_it() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])
    terrain, reads = world.lane._terrain, itertools.count()
    queue_of = terrain.queue

    def queue(scheduler: str) -> list[Pending]:
        if next(reads) == 2:  # the first batch has been sent
            world.kube.put(waiting("late", 30))
            with terrain._changed:
                assert terrain._changed.wait_for(lambda: terrain.pending("uid-default-late"), 10)
        return queue_of(scheduler)

    terrain.queue = queue  # type: ignore[method-assign]

    async def test(world: World) -> None:
        await world.filter("pod-0")
        assert set(world.bound()) == {"pod-1", "pod-2", "pod-3", "late"}
        assert world.registry.registry.get_sample_value("kerf_express_rounds_total", {"outcome": "bound"}) == 1

    world.live(test)


def test_each_bound_pod_gets_the_event_that_users_know() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(3)])

    async def test(world: World) -> None:
        await world.filter("pod-0")
        await until(lambda: len(world.kube.objects(EVENTS)) == 2)
        notes = [event["note"] for event in world.kube.objects(EVENTS)]
        assert sorted(notes) == [f"Successfully assigned default/pod-{i} to node-1" for i in (1, 2)]
        (event, _) = world.kube.objects(EVENTS)
        assert (event["reason"], event["type"], event["reportingController"]) == (
            "Scheduled",
            "Normal",
            "kerf-scheduler",
        )

    world.live(test)


@pytest.mark.parametrize(
    ("pods", "asked", "express"),
    [
        ([waiting("a"), waiting("b")], "a", True),  # too few to be worth it
        ([waiting("a", spec={"topologySpreadConstraints": [{}]}), waiting("b", 1), waiting("c", 2)], "a", True),
        ([waiting("a", mem=90_000), waiting("b", 1), waiting("c", 2)], "a", True),  # it fits nowhere: first its refusal
        ([waiting("a"), waiting("b"), waiting("c")], "unknown", True),
        ([waiting("a"), waiting("b"), waiting("c")], "a", False),
    ],
)
def test_without_a_reason_to_wait_kube_scheduler_is_answered_and_nothing_is_bound(
    pods: list[dict[str, Any]], asked: str, express: bool
) -> None:
    world = World(a_machine(), *pods, express=express)

    async def test(world: World) -> None:
        assert await world.filter(asked) < 0.5
        assert world.bound() == {}

    world.live(test)


def test_a_pod_that_kube_scheduler_was_just_answered_about_is_its_own() -> None:
    world = World(a_machine(), waiting("answered", 0, spec={"topologySpreadConstraints": []}), waiting("b", 1))

    async def test(world: World) -> None:
        await world.filter("answered")  # one pod less than is worth it
        for i in range(3):
            world.kube.put(waiting(f"more-{i}", 5))
        await until(lambda: len(world.store.desk.waiting()) == 5)
        await until(lambda: world.lane.wants("uid-default-b"))
        await world.filter("b")
        assert set(world.bound()) == {"more-0", "more-1", "more-2"}

    world.live(test)


def test_the_pod_at_the_door_keeps_its_place_where_there_is_too_little_for_all() -> None:
    world = World(a_machine(cards=2), *[waiting(name, i, mem=60_000) for i, name in enumerate("abcd")])

    async def test(world: World) -> None:
        await world.filter("a")
        assert set(world.bound()) == {"b"}
        assert await world.binder.bind(BindQuery("default", "a", "uid-default-a", "node-1")) == ""

    world.live(test)


def test_a_pod_with_a_place_of_its_own_takes_it_also_where_others_of_its_kind_find_no_room() -> None:
    world = World(a_machine(cards=2), *[waiting(name, i, mem=60_000) for i, name in enumerate("abcd")])

    async def test(world: World) -> None:
        world.store.seating.hold("uid-default-d", ["node-1"], None, time.monotonic() + 60)
        await world.filter("a")
        assert set(world.bound()) == {"d"}

    world.live(test)


def test_the_successor_of_a_pod_that_left_takes_its_place_also_where_others_of_its_kind_find_no_room() -> None:
    successor = with_owner(waiting("d", 3, mem=60_000), owned("rs-1"))
    world = World(a_machine(cards=2), *[waiting(name, i, mem=60_000) for i, name in enumerate("abc")], successor)

    async def test(world: World) -> None:
        desk = world.store.desk
        ask, stages = desk.read(successor)
        assert desk.hold_for_successor("left", Member(ask, stages, lambda _: True), time.monotonic() + 60) is None
        await world.filter("a")
        assert set(world.bound()) == {"d"}

    world.live(test)


def test_cpu_that_kube_schedulers_bind_takes_while_a_seat_is_chosen_is_not_given_away_twice() -> None:
    """Its bind of the pod before may arrive while it waits with the next one."""
    node = a_machine()
    node["status"]["allocatable"]["cpu"] = "4"
    pods = [waiting(f"pod-{i}", i) for i in range(4)]
    for pod in pods:
        pod["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "1500m"}
    world = World(node, *pods)
    take = world.store.seating.take

    def late(uid: str, names: Sequence[str], wishes: Wishes | None) -> Seat | NoPlace:
        world.lane.take_room("uid-default-pod-3", "node-1")
        return take(uid, names, wishes)

    world.store.seating.take = late  # type: ignore[method-assign]

    async def test(world: World) -> None:
        await world.filter("pod-0")
        assert world.bound() == {}
        assert world.store.ledger.get("uid-default-pod-1") is None
        assert await world.binder.bind(BindQuery("default", "pod-3", "uid-default-pod-3", "node-1")) == ""

    world.live(test)


def test_where_the_pod_at_the_door_finds_room_there_may_be_room_for_others_of_its_kind() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])

    async def test(world: World) -> None:
        kind = world.lane._kind(pod) if (pod := world.lane._terrain.pending("uid-default-pod-1")) else None
        world.lane._full[kind] = time.monotonic() + 60  # it was full a moment ago
        await world.filter("pod-0")
        assert set(world.bound()) == {"pod-1", "pod-2", "pod-3"}

    world.live(test)


def test_pods_that_fit_nowhere_are_not_tried_in_every_round() -> None:
    """Hundreds of them, each of another kind, would take all the time of each round."""
    huge = [waiting(f"huge-{i}", 0, mem=90_000 + i) for i in range(6)]
    world = World(a_machine(), *huge, *[waiting(f"pod-{i}", 1) for i in range(6)])
    tried, take = Counter[str](), world.store.seating.take

    def counted(uid: str, names: Sequence[str], wishes: Wishes | None) -> Seat | NoPlace:
        tried[uid] += 1
        return take(uid, names, wishes)

    world.store.seating.take = counted  # type: ignore[method-assign]

    async def test(world: World) -> None:
        await world.filter("pod-0")
        for i in range(6, 9):
            world.kube.put(waiting(f"pod-{i}", 2))
        await until(lambda: len(world.store.desk.waiting()) == 10)
        await world.filter("pod-6")
        assert set(world.bound()) == {f"pod-{i}" for i in (1, 2, 3, 4, 5, 7, 8)}
        assert [tried[f"uid-default-huge-{i}"] for i in range(6)] == [1] * 6
        await until(lambda: not world.lane._full)

    world.live(test)


def test_a_pod_that_was_bound_meanwhile_is_left_where_it_is() -> None:
    """A second Binding is refused by the API server, and what was charged for it is given back."""
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])
    refused: list[str] = []

    def other_scheduler(method: str, path: str) -> None:
        if path.endswith("pod-2/binding") and not refused:
            refused.append(path)
            raise Conflict(409, "Conflict", "pod pod-2 is already assigned to node other")

    async def test(world: World) -> None:
        world.kube.fail = other_scheduler
        assert await world.filter("pod-0") < 1.5  # it does not wait for a pod that will not be bound
        await until(lambda: world.count("kerf_express_pods_total", "refused") == 1)
        assert set(world.bound()) == {"pod-1", "pod-3"}
        assert world.store.ledger.get("uid-default-pod-2") is None

    world.live(test)


def test_a_pod_whose_binding_is_refused_is_left_to_kube_scheduler_which_reports_it() -> None:
    """An admission webhook may refuse for good: the lane does not ask again in every round."""
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(9)])
    asked: list[str] = []

    def webhook(method: str, path: str) -> None:
        if path.endswith("pod-2/binding"):
            asked.append(path)
            raise Forbidden(403, "Forbidden", "an admission webhook says no")

    async def test(world: World) -> None:
        world.kube.fail = webhook
        await world.filter("pod-0")
        await until(lambda: world.count("kerf_express_pods_total", "refused") == 1)
        for i in range(3):
            world.kube.put(waiting(f"late-{i}", 20))
        await until(lambda: world.lane.wants("uid-default-late-0"))
        await world.filter("late-0")
        await until(lambda: {"late-1", "late-2"} <= set(world.bound()))

        assert len(asked) == 1
        query = BindQuery("default", "pod-2", "uid-default-pod-2", "node-1")
        assert "an admission webhook says no" in await world.binder.bind(query)

    world.live(test)


def test_pods_that_could_not_be_sent_are_the_lanes_again_as_soon_as_the_api_server_is_back() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])
    tries: list[str] = []

    def away(method: str, path: str) -> None:
        if path.endswith("/binding") and len(tries) < 3:
            tries.append(path)
            raise Unsent("connection refused")

    async def test(world: World) -> None:
        world.kube.fail = away
        await world.filter("pod-0")
        assert world.bound() == {}
        await world.filter("pod-0")
        assert set(world.bound()) == {"pod-1", "pod-2", "pod-3"}

    world.live(test)


def test_a_round_is_over_when_its_filter_must_be_answered_and_none_begins_after_that() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])
    answered = threading.Event()

    async def test(world: World) -> None:
        now = time.monotonic()
        world.lane.knock(Knock("uid-default-pod-0", asyncio.get_running_loop(), now - 3, now - 1, answered.set))
        await until(answered.is_set)
        assert world.bound() == {}

    world.live(test)


def test_where_the_answer_to_a_binding_is_lost_the_pod_stays_charged() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])

    async def test(world: World) -> None:
        world.kube.fail = no_answer_about_pod_2
        await world.filter("pod-0")
        await until(lambda: world.count("kerf_express_pods_total", "unknown") == 1)
        booking = world.store.ledger.get("uid-default-pod-2")
        assert booking is not None
        assert booking.state is State.ASSUMED

    world.live(test)


def test_a_replica_that_leads_no_more_binds_nothing() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])

    async def test(world: World) -> None:
        world.office.now = 0
        assert await world.filter("pod-0") < 0.8
        assert world.bound() == {}

    world.live(test)


def test_a_bind_of_kube_scheduler_for_a_pod_that_the_lane_is_binding_waits_and_succeeds() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])

    async def test(world: World) -> None:
        waits = asyncio.create_task(world.filter("pod-0"))
        await until(lambda: bool(world.bound()))
        assert await world.binder.bind(BindQuery("default", "pod-1", "uid-default-pod-1", "node-1")) == ""
        await waits

    world.live(test)


def test_where_kube_scheduler_asks_about_a_pod_that_the_lane_has_bound_later_answers_wait_longer_for_its_watch() -> (
    None
):
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])

    async def test(world: World) -> None:
        await world.filter("pod-0")
        await until(lambda: len(world.bound()) == 3)
        before = world.lane.settle_s
        for _ in range(20):
            await world.filter("pod-1")
        assert before < SETTLE_S * 2
        assert world.lane.settle_s == MOST_SETTLE_S

    world.live(test)


def test_a_knock_that_the_lane_cannot_take_up_any_longer_is_answered() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])
    answered = threading.Event()

    async def test(world: World) -> None:
        door, close = world.binder.door, world.binder.door.close
        now = time.monotonic()
        knock = Knock("uid-default-pod-0", asyncio.get_running_loop(), now, now + 60, answered.set)

        def late() -> None:
            close()
            world.lane.knock(knock)

        door.close = late  # type: ignore[method-assign]
        world.store.feed.set_policy(SchedulingPolicy())
        await until(answered.is_set)

    world.live(test)


def test_however_often_the_policy_is_switched_one_thread_writes_events() -> None:
    world = World(a_machine())

    async def test(world: World) -> None:
        for is_open in (0, 1, 0, 1):
            world.store.feed.set_policy(SchedulingPolicy(express=bool(is_open)))
            await until(partial(world.is_open, is_open))
        assert sum(thread.name == "express events" for thread in threading.enumerate()) == 1

    world.live(test)


def test_when_the_policy_is_switched_off_the_door_is_open_to_all() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])

    async def test(world: World) -> None:
        world.store.feed.set_policy(SchedulingPolicy())
        await until(lambda: world.registry.registry.get_sample_value("kerf_express_open") == 0)
        await world.filter("pod-0")
        assert world.bound() == {}

    world.live(test)
