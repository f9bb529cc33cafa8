"""Preemption for cards: the fewest, least important pods, through the Eviction API, and what they free is kept."""

from kerf.kube.errors import Busy, Unreachable
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.preempt import Preemption
from scheduler.placing.wake import PLAN
from scheduler.state.bookings import State
from scheduler.state.store import Store, load


class World:
    def __init__(self, *pods: dict) -> None:
        self.kube = FakeKube(*pods)
        self.store = Store(SchedulingPolicy(), VENDORS, clock=lambda: 0.0)
        load(self.store, [a_node("n", 2), a_node("other", 0)], pods)
        self.loop = Preemption(self.store, self.kube, SchedulerMetrics.build(Metrics()))

    def refuse(self, pod: dict) -> None:
        self.store.desk._live.pending.refuse(pod["metadata"]["uid"], ["n"], all_nodes=2)

    def evicted(self) -> list[str]:
        return [path.split("/")[-2] for verb, path in self.kube.writes if path.endswith("/eviction")]


def running(name: str, card: int, memory: int, priority: int = 0) -> dict:
    return a_pod(name, node="n", grant=a_grant(f"GPU-n-{card}", memory, 0), spec={"priority": priority})


def waiting(memory: int = 50_000, priority: int = 100, **spec: object) -> dict:
    return a_pod("important", mem=memory, cores=0, spec={"priority": priority, **spec})


def test_the_one_pod_whose_card_makes_room_is_evicted_and_its_room_is_kept():
    pod = waiting()
    world = World(running("small", 0, 30_000), running("big", 0, 45_000), running("dear", 1, 70_000, 200), pod)
    world.refuse(pod)

    world.loop.run_once()

    assert world.evicted() == ["big"]
    assert [t.key for t in world.store.ledger.bookings() if t.state is State.RESERVED] == ["default/important"]


def test_until_the_victim_is_gone_the_reservation_is_not_ready():
    pod = waiting()
    victim = running("big", 0, 81_559)
    world = World(victim, running("dear", 1, 81_559, 200), pod)
    world.refuse(pod)
    world.loop.run_once()
    held = world.store.ledger.reservation("uid-default-important")

    assert held is not None
    assert not world.store.ledger.ready(held)
    world.store.feed.apply_pod("DELETED", victim)
    assert world.store.ledger.ready(held)


def test_nobody_is_evicted_for_a_pod_that_is_not_more_important():
    pod = waiting(priority=0)
    world = World(running("a", 0, 81_559), running("b", 1, 81_559), pod)
    world.refuse(pod)

    world.loop.run_once()

    assert world.evicted() == []


def test_nobody_is_evicted_for_a_pod_that_may_not_preempt():
    pod = waiting(preemptionPolicy="Never")
    world = World(running("a", 0, 81_559), running("b", 1, 81_559), pod)
    world.refuse(pod)

    world.loop.run_once()

    assert world.evicted() == []


def test_nobody_is_evicted_on_a_node_that_kube_scheduler_did_not_offer():
    pod = waiting()
    world = World(running("a", 0, 81_559), running("b", 1, 81_559), pod)
    world.store.desk._live.pending.refuse("uid-default-important", ["other"], all_nodes=2)

    world.loop.run_once()

    assert world.evicted() == []


def test_nobody_is_evicted_for_a_pod_that_has_room_already():
    pod = waiting()
    world = World(running("a", 0, 81_559), pod)
    world.refuse(pod)

    world.loop.run_once()

    assert world.evicted() == []


def test_nobody_is_evicted_when_that_would_not_help():
    pod = waiting(memory=81_559)
    world = World(running("a", 0, 1000, 200), running("b", 1, 1000, 200), pod)
    world.refuse(pod)

    world.loop.run_once()

    assert world.evicted() == []


def test_a_disruption_budget_that_says_no_ends_the_attempt_and_nothing_stays_reserved():
    pod = waiting()
    world = World(running("a", 0, 81_559), running("b", 1, 81_559), pod)
    world.refuse(pod)

    def budget(method: str, path: str) -> None:
        if path.endswith("/eviction"):
            raise Busy(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget")

    world.kube.fail = budget
    world.loop.run_once()

    assert [t for t in world.store.ledger.bookings() if t.state is State.RESERVED] == []


def test_a_victim_that_a_disruption_budget_protects_is_not_chosen_again_and_another_is():
    pod = waiting()
    world = World(running("a", 0, 81_559), running("b", 1, 81_559), pod)
    world.refuse(pod)

    def budget(method: str, path: str) -> None:
        if path.endswith("/a/eviction"):
            raise Busy(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget")

    world.kube.fail = budget
    world.loop.run_once()
    world.loop.run_once()

    assert world.evicted() == ["a", "b"]  # asked of the API server; the first was refused


def test_kube_scheduler_is_woken_once_when_the_room_is_free_and_the_pod_still_waits():
    pod, victim = waiting(), running("big", 0, 81_559)
    world = World(victim, running("dear", 1, 81_559, 200), pod)
    world.refuse(pod)
    world.kube.put(a_node("n", 2))

    def calls() -> list[str]:
        return [path for verb, path in world.kube.writes if path == "/api/v1/nodes/n"]

    for _ in range(3):
        world.loop.run_once()
    assert calls() == [], "the victim has not left yet"
    world.store.feed.apply_pod("DELETED", victim)
    world.loop.run_once()
    assert calls() == [], "kube-scheduler may come by itself"
    for _ in range(3):
        world.loop.run_once()
    assert calls() == ["/api/v1/nodes/n"]


def test_kube_scheduler_is_woken_again_where_the_api_server_did_not_take_the_first_call():
    pod, victim = waiting(), running("big", 0, 81_559)
    world = World(victim, running("dear", 1, 81_559, 200), pod)
    world.refuse(pod)
    world.kube.put(a_node("n", 2))
    world.loop.run_once()
    world.store.feed.apply_pod("DELETED", victim)

    def away(verb: str, path: str) -> None:
        if path == "/api/v1/nodes/n":
            raise Unreachable("no route")

    world.kube.fail = away
    for _ in range(3):
        world.loop.run_once()
    world.kube.fail = lambda verb, path: None
    for _ in range(3):
        world.loop.run_once()

    assert world.kube.get("/api/v1/nodes/n")["metadata"]["annotations"][PLAN] == f"room-{pod['metadata']['uid']}"
