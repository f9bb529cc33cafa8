"""A new leader sees what the last one wrote before it acts, and what it runs ends with its term."""

import threading

import pytest
from prometheus_client import Gauge

from kerf.kube import paths
from kerf.kube.watch import Follower
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.grant import CardUse
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.resources import parse_pod, stages_of
from scheduler import leader
from scheduler.leader import CatchUp, LeaderLoops
from scheduler.metering.totals import MeterMetrics
from scheduler.metrics import GatewayMetrics, QuotaMetrics, RecoveryMetrics, SchedulerMetrics
from scheduler.state.bookings import State
from scheduler.state.store import Store
from tests.limiter.harness import eventually

HELD = a_grant(card="GPU-node-1-0")


class DeafKube(FakeKube):
    """Its watches never bring anything: as if they lagged for ever."""

    def watch(self, path, resource_version, query=None, timeout_s=300):
        threading.Event().wait()
        yield "", {}


class World:
    def __init__(self) -> None:
        self.kube = DeafKube(a_node(), a_pod("early"))
        self.store = Store(SchedulingPolicy(), VENDORS)
        self.nodes = Follower(self.kube, paths.NODES, self.store.feed.replace_nodes, self.store.feed.apply_node)
        self.pods = Follower(self.kube, paths.PODS, self.store.feed.replace_pods, self.store.feed.apply_pod)
        self.catch_up = CatchUp(self.store, self.kube, self.nodes, self.pods)
        self.stop = threading.Event()

    def follow(self) -> None:
        for follower in (self.nodes, self.pods):
            follower.start()
            assert follower.synced.wait(30)

    def used(self) -> list[CardUse]:
        return [s.used for s in self.store.desk.state("node-1").cards if s.used != CardUse()]


def test_before_the_first_list_nobody_has_caught_up():
    world = World()

    assert not world.catch_up.run_once(world.stop)


@pytest.mark.parametrize("few", [0, 2_000], ids=["many pods, a watch that lags", "few pods"])
def test_what_the_last_leader_bound_is_seen_although_the_watch_has_not_brought_it(monkeypatch, few):
    monkeypatch.setattr(leader, "FEW_PODS", few)
    monkeypatch.setattr(leader, "WATCH_S", 0.1)
    world = World()
    world.follow()
    world.kube.put(a_pod("early", node="node-1", grant=HELD))
    world.kube.put(a_pod("unheard-of", node="node-1", grant=HELD))

    assert world.catch_up.run_once(world.stop)

    assert world.used() == [CardUse(16_000, 60, 2)]


def test_old_assumptions_end_with_the_api_servers_word():
    world = World()
    world.follow()
    pod = a_pod("early")
    ask = parse_pod(pod, NAMES, SchedulingPolicy().defaults)
    world.store.desk.assume(ask, "node-1", stages_of(pod["spec"]))
    assert world.store.ledger.counts()[State.ASSUMED] == 1

    assert world.catch_up.run_once(world.stop)

    assert world.used() == []


class Seat:
    def __init__(self) -> None:
        self.now = self.opened = 0

    def elected(self) -> int:
        return self.now

    def term(self) -> int:
        return self.now if self.opened == self.now else 0

    def holds(self, term: int, for_s: float = 0.0) -> bool:
        return term == self.now

    def open(self, term: int) -> None:
        self.opened = term


class Recorder:
    """A loop that records when it runs and when it ends."""

    def __init__(self, told: list) -> None:
        self._told = told

    def run(self, stop: threading.Event) -> None:
        self._told.append("begun")
        assert stop.wait(30)
        self._told.append("ended")


def test_loops_begin_after_catching_up_end_with_the_term_and_begin_again_with_the_next():
    told: list = []
    done = threading.Event()
    seat, store = Seat(), Store(SchedulingPolicy(), VENDORS)
    caught_up = iter([False, True, True])

    def catch_up(_: threading.Event) -> bool:
        told.append("looked")
        return next(caught_up)

    def heard_so_far(count: int) -> None:
        for _ in range(600):
            if len(told) >= count:
                return
            done.wait(0.05)
        raise AssertionError(told)

    loops = LeaderLoops(seat, catch_up, lambda: (Recorder(told),), store, metrics=SchedulerMetrics.build(Metrics()))
    thread = threading.Thread(target=loops.run, args=(done,))
    thread.start()
    seat.now = 1
    heard_so_far(3)
    assert (told, seat.term()) == (["looked", "looked", "begun"], 1)
    seat.now = 0
    heard_so_far(4)
    seat.now = 2
    heard_so_far(6)
    done.set()
    thread.join(30)

    assert told == ["looked", "looked", "begun", "ended", "looked", "begun", "ended"]


def test_what_only_a_leader_knows_is_shown_no_longer_once_its_term_is_over() -> None:
    registry = Metrics()
    seat, store, done = Seat(), Store(SchedulingPolicy(), VENDORS), threading.Event()
    metrics = SchedulerMetrics.build(registry)
    others = QuotaMetrics, RecoveryMetrics, GatewayMetrics, MeterMetrics
    for each in others:
        each.build(registry)

    class Shows:
        def run(self, stop: threading.Event) -> None:
            for gauge in gauges(registry):
                (gauge.labels(*gauge._labelnames) if gauge._labelnames else gauge).set(7)
            assert stop.wait(30)

    loops = LeaderLoops(seat, lambda _: True, lambda: (Shows(),), store, metrics)
    thread = threading.Thread(target=loops.run, args=(done,))
    thread.start()
    seat.now = 1
    eventually(lambda: shown(registry) and set(shown(registry).values()) == {7.0})
    seat.now = 0
    eventually(lambda: set(shown(registry)) == OF_EVERY_REPLICA)
    done.set()
    thread.join(30)


OF_EVERY_REPLICA = {"kerf_ledger_pods", "kerf_waiting_pods"}
"""Set at each scrape."""


def gauges(registry: Metrics) -> list[Gauge]:
    return [each for each in registry.registry._collector_to_names if isinstance(each, Gauge)]


def shown(registry: Metrics) -> dict[str, float]:
    """The gauges that are not 0."""
    samples = (sample for gauge in gauges(registry) for family in gauge.collect() for sample in family.samples)
    return {sample.name: sample.value for sample in samples if sample.value}
