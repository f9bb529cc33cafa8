"""The live state: what is charged when, whatever the watches and the binds do, and in whatever order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kerf.testing.builders import a_container, a_grant, a_node, a_pod
from kerf.values.grant import CardUse, ContainerGrant, Grant, Slice
from kerf.values.policy import Defaults, SchedulingPolicy
from kerf.values.verdict import Misfit
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.resources import parse_pod, stages_of
from scheduler.state.bookings import State
from scheduler.state.store import Store, load
from tests.effort import examples

NODES = ("node-1", "node-2")


def a_store(*objects: dict, policy: SchedulingPolicy | None = None) -> Store:
    store = Store(policy or SchedulingPolicy(), VENDORS, clock=lambda: 0.0)
    load(store, [o for o in objects if o["kind"] == "Node"], [o for o in objects if o["kind"] == "Pod"])
    return store


def used(store: Store, node: str = "node-1") -> dict[str, CardUse]:
    return {s.card.id: s.used for s in store.desk.state(node).cards if s.used != CardUse()}


def assume(store: Store, pod: dict, node: str = "node-1") -> Grant | Misfit:
    ask = parse_pod(pod, NAMES, store.desk.policy.defaults)
    return store.desk.assume(ask, node, stages_of(pod["spec"]))


def bound(pod: dict, node: str, grant: Grant) -> dict:
    notes = {**pod["metadata"]["annotations"], GRANT: render_grant(grant)}
    return {
        **pod,
        "metadata": {**pod["metadata"], "annotations": notes},
        "spec": {**pod["spec"], "nodeName": node},
    }


def test_a_bound_pod_is_charged_from_its_grant():
    store = a_store(a_node(), a_pod(node="node-1", grant=a_grant("GPU-node-1-2", 8000, 30)))

    assert used(store) == {"GPU-node-1-2": CardUse(8000, 30, 1)}


def test_a_pod_that_is_announced_before_its_node_is_charged_all_the_same():
    store = a_store(a_pod(node="node-1", grant=a_grant("GPU-node-1-2", 8000, 30)))

    load(store, [a_node()], [])

    assert used(store) == {"GPU-node-1-2": CardUse(8000, 30, 1)}


def test_the_workload_has_a_pod_with_its_vendor_also_before_its_node_is_known():
    store, seen = a_store(), []
    store.ledger._fleet.on_charge = lambda uses, cpu, vendor, reach: seen.append(vendor)
    half = Grant((ContainerGrant("main", (Slice("Ascend910B3-0", "ascend910b3", 32_768, 50),)),))

    load(store, [], [a_pod(node="node-1", grant=half)])

    assert seen == ["ascend910b3"]


def test_a_grant_on_a_pod_that_is_not_bound_is_a_forgery_and_counts_nothing():
    assert used(a_store(a_node(), a_pod(grant=a_grant("GPU-node-1-2", 8000, 30)))) == {}


def test_what_hami_records_on_a_pod_of_another_node_counts_nothing():
    notes = {"hami.io/vgpu-node": "node-2", "hami.io/vgpu-devices-allocated": "GPU-node-1-0,NVIDIA,8000,30:;"}

    assert used(a_store(a_node(), a_pod(node="node-1", annotations=notes))) == {}


def test_a_live_pod_that_hami_placed_is_counted():
    notes = {"hami.io/vgpu-node": "node-1", "hami.io/vgpu-devices-allocated": "GPU-node-1-0,NVIDIA,8000,30:;"}

    assert used(a_store(a_node(), a_pod(node="node-1", annotations=notes))) == {"GPU-node-1-0": CardUse(8000, 30, 1)}


def test_a_finished_pod_gives_its_slice_back():
    pod = a_pod(node="node-1", grant=a_grant("GPU-node-1-2"))
    store = a_store(a_node(), pod)

    store.feed.apply_pod("MODIFIED", {**pod, "status": {"phase": "Succeeded"}})

    assert used(store) == {}
    assert store.desk.changed.is_set()


def test_a_terminating_pod_still_counts():
    pod = a_pod(node="node-1", grant=a_grant("GPU-node-1-2"))
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert used(a_store(a_node(), pod)) == {"GPU-node-1-2": CardUse(8000, 30, 1)}


def test_a_grant_that_is_changed_on_a_running_pod_changes_nothing():
    pod = a_pod(node="node-1", grant=a_grant("GPU-node-1-2", 8000, 30))
    store = a_store(a_node(), pod)

    store.feed.apply_pod("MODIFIED", a_pod(node="node-1", grant=a_grant("GPU-node-1-2", 1, 0)))

    assert used(store) == {"GPU-node-1-2": CardUse(8000, 30, 1)}


def test_assume_then_the_watch_charges_once():
    pod = a_pod()
    store = a_store(a_node(), pod)

    grant = assume(store, pod)
    store.feed.apply_pod("MODIFIED", bound(pod, "node-1", grant))

    assert list(used(store).values()) == [CardUse(8000, 30, 1)]
    assert store.ledger.counts() == {State.ASSUMED: 0, State.CONFIRMED: 1, State.RESERVED: 0}


def test_a_pod_that_was_assumed_is_as_old_as_one_that_was_only_watched():
    moment, pod = "2026-01-02T00:00:00Z", a_pod()
    pod["metadata"]["creationTimestamp"] = moment
    store = a_store(a_node(), pod)

    grant = assume(store, pod)
    store.feed.apply_pod("MODIFIED", bound(pod, "node-1", grant))

    assert [booking.created for booking in store.ledger.bookings(State.CONFIRMED)] == [moment]


def test_an_assumed_pod_shares_its_template_with_others_once_the_watch_shows_it():
    pods = [a_pod(f"pod-{i}", annotations={"nvidia.com/use-gputype": "H100"}) for i in range(3)]
    store = a_store(a_node(), *pods)
    grants = [assume(store, pod) for pod in pods]
    store.desk.changed.clear()
    for pod, grant in zip(pods, grants, strict=True):
        store.feed.apply_pod("MODIFIED", bound(pod, "node-1", grant))

    assert not store.desk.changed.is_set()  # nothing came free
    first, *others = (booking.template for booking in store.ledger.bookings(State.CONFIRMED))

    assert first.subject.workload
    assert all(other is first for other in others)


def test_what_was_charged_otherwise_than_the_watch_shows_is_charged_again():
    """The pod's CPU was changed after it was assumed."""
    pod = a_pod()
    store = a_store(a_node(), pod)
    grant = assume(store, pod)
    free = store.desk.state("node-1").free_cpu_milli

    resized = bound(pod, "node-1", grant)
    resized["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "3"}
    store.feed.apply_pod("MODIFIED", resized)
    assert store.desk.state("node-1").free_cpu_milli == free - 3000
    assert used(store) == {piece.card: CardUse(8000, 30, 1) for piece in grant.slices}

    store.feed.apply_pod("DELETED", resized)
    assert (used(store), store.desk.state("node-1").free_cpu_milli) == ({}, free)


@pytest.mark.parametrize("holds", [{"grant": a_grant("GPU-node-1-2")}, {"containers": [{"name": "main"}]}])
def test_a_pod_that_is_resized_in_place_takes_what_it_takes_now(holds: dict):
    pod = a_pod(node="node-1", **holds)
    store = a_store(a_node(), pod)
    free, cards = store.desk.state("node-1").free_cpu_milli, used(store)
    pod["metadata"]["generation"] = 2
    pod["spec"]["containers"][0].setdefault("resources", {})["requests"] = {"cpu": "3"}

    store.feed.apply_pod("MODIFIED", pod)
    assert (store.desk.state("node-1").free_cpu_milli, used(store)) == (free - 3000, cards)

    pod["status"]["containerStatuses"] = [{"name": "main", "allocatedResources": {"cpu": "5"}}]
    store.feed.apply_pod("MODIFIED", pod)
    assert store.desk.state("node-1").free_cpu_milli == free - 5000

    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "many"  # what cannot be read changes nothing
    store.feed.apply_pod("MODIFIED", pod)
    assert store.desk.state("node-1").free_cpu_milli == free - 5000

    store.feed.apply_pod("DELETED", pod)
    assert (store.desk.state("node-1").free_cpu_milli, used(store)) == (free, {})


def test_waiting_pods_ask_by_the_defaults_of_the_policy_in_force():
    stated, silent = a_pod("stated"), a_pod("silent", mem=None)
    store = a_store(a_node(), stated, silent, policy=SchedulingPolicy(defaults=Defaults(memory_mib=1000)))

    store.feed.set_policy(SchedulingPolicy(defaults=Defaults(memory_mib=2000)))

    for pod in (stated, silent):
        waiting = store.desk.waiting_pod(pod["metadata"]["uid"])
        assert waiting is not None
        assert (waiting.ask, waiting.stages) == store.desk.read(pod)
    bind = store.desk.begin_bind("uid-default-silent")
    assert bind is not None
    assert bind.known is not None
    assert bind.known.ask.containers[0].memory_mib == 2000


def test_a_pod_that_is_read_while_the_policy_changes_asks_by_the_new_defaults(monkeypatch: pytest.MonkeyPatch):
    pod, store = a_pod(mem=None), a_store(a_node(), policy=SchedulingPolicy(defaults=Defaults(memory_mib=1000)))
    read = store.feed._read

    def slowly(kind: str, item: dict) -> object:
        seen = read(kind, item)
        store.feed.set_policy(SchedulingPolicy(defaults=Defaults(memory_mib=2000)))
        return seen

    monkeypatch.setattr(store.feed, "_read", slowly)
    store.feed.apply_pod("ADDED", pod)

    waiting = store.desk.waiting_pod(pod["metadata"]["uid"])
    assert waiting is not None
    assert waiting.ask == store.desk.read(pod)[0]


def test_undo_gives_an_assumption_back_but_never_a_bound_pod():
    pod = a_pod()
    store = a_store(a_node(), pod)
    grant = assume(store, pod)

    store.feed.apply_pod("MODIFIED", bound(pod, "node-1", grant))
    store.ledger.undo(pod["metadata"]["uid"])

    assert list(used(store).values()) == [CardUse(8000, 30, 1)]


def test_a_second_bind_to_the_same_node_gets_the_same_grant():
    pod = a_pod()
    store = a_store(a_node(), pod)

    assert assume(store, pod) == assume(store, pod)
    assert list(used(store).values()) == [CardUse(8000, 30, 1)]


def test_a_second_bind_to_another_node_is_refused():
    pod = a_pod()
    store = a_store(a_node(), a_node("node-2"), pod)
    assume(store, pod)

    assert isinstance(assume(store, pod, "node-2"), Misfit)
    assert used(store, "node-2") == {}


def test_a_relist_forgets_pods_that_are_gone_and_keeps_assumptions():
    old, new = a_pod("old", node="node-1", grant=a_grant("GPU-node-1-0")), a_pod("new")
    store = a_store(a_node(), old, new)
    assume(store, new)

    store.feed.replace_pods([new])

    assert store.ledger.counts() == {State.ASSUMED: 1, State.CONFIRMED: 0, State.RESERVED: 0}


def test_a_node_that_vanishes_and_returns_finds_its_tenants():
    store = a_store(a_node(), a_pod(node="node-1", grant=a_grant("GPU-node-1-2")))

    store.feed.apply_node("DELETED", a_node())
    store.feed.apply_node("ADDED", a_node())

    assert used(store) == {"GPU-node-1-2": CardUse(8000, 30, 1)}


def test_a_node_whose_inventory_is_no_json_has_no_cards_and_says_why():
    store = a_store(a_node(**{"kerf.dev/inventory": "not json"}))

    assert store.desk.state("node-1").cards == ()
    assert "kerf.dev/inventory" in store.desk.node("node-1").problem


class Interleavings(RuleBasedStateMachine):
    """Filters, binds, failures, deletions, restarts and lost watches in any order never over-commit a card."""

    @initialize()
    def begin(self) -> None:
        self.world: dict[str, dict] = {}
        self.number = 0
        self.restart()

    @rule(memory=st.sampled_from([1000, 8000, 40_000, 81_559]), cores=st.sampled_from([0, 30, 100]))
    def create(self, memory: int, cores: int) -> None:
        self.number += 1
        pod = a_pod(f"pod-{self.number}", containers=[a_container(mem=memory, cores=cores)])
        self.world[pod["metadata"]["uid"]] = pod
        self.store.feed.apply_pod("ADDED", pod)

    @rule(pick=st.integers(0, 10**6), node=st.sampled_from(NODES), fate=st.sampled_from(["ok", "refused", "lost"]))
    def bind(self, pick: int, node: str, fate: str) -> None:
        waiting = [pod for pod in self.world.values() if not pod["spec"].get("nodeName")]
        if not waiting:
            return
        pod = waiting[pick % len(waiting)]
        grant = assume(self.store, pod, node)
        if isinstance(grant, Misfit):
            return
        if fate == "refused":
            self.store.ledger.undo(pod["metadata"]["uid"])
            return
        done = bound(pod, node, grant)
        self.world[pod["metadata"]["uid"]] = done
        if fate == "ok":
            self.store.feed.apply_pod("MODIFIED", done)

    @rule(pick=st.integers(0, 10**6), seen=st.booleans())
    def delete(self, pick: int, seen: bool) -> None:
        if self.world:
            uid = sorted(self.world)[pick % len(self.world)]
            pod = self.world.pop(uid)
            if seen:
                self.store.feed.apply_pod("DELETED", pod)

    @rule(pick=st.integers(0, 10**6), node=st.sampled_from(NODES), kept=st.booleans())
    def reserve(self, pick: int, node: str, kept: bool) -> None:
        waiting = [pod for pod in self.world.values() if not pod["spec"].get("nodeName")]
        if waiting:
            pod = waiting[pick % len(waiting)]
            ask, stages = self.store.desk.read(pod)
            grant = self.store.desk.by_cards_alone(ask, self.store.desk.state(node))
            if isinstance(grant, Grant):
                self.store.ledger.reserve(ask, node, grant, stages, until=1.0)
            if not kept:
                self.store.ledger.drop_reservation(ask.uid)

    @rule()
    def relist(self) -> None:
        self.store.feed.replace_nodes([a_node(name, 2) for name in NODES])
        self.store.feed.replace_pods(list(self.world.values()))

    @rule()
    def restart(self) -> None:
        self.store = a_store(*[a_node(name, 2) for name in NODES], *self.world.values())

    @rule(node=st.sampled_from(NODES), gone=st.booleans())
    def node_flaps(self, node: str, gone: bool) -> None:
        if gone:
            self.store.feed.apply_node("DELETED", a_node(node, 2))
        self.store.feed.apply_node("ADDED", a_node(node, 2))

    @invariant()
    def bookings_by_state_are_those_of_all(self) -> None:
        ledger = self.store.ledger
        for state in State:
            expected = sorted(booking.uid for booking in ledger.bookings() if booking.state is state)
            assert sorted(booking.uid for booking in ledger.bookings(state)) == expected
            assert ledger.counts()[state] == len(expected)

    @invariant()
    def no_card_holds_more_than_it_has(self) -> None:
        truth = a_store(*[a_node(name, 2) for name in NODES], *self.world.values())
        for name in NODES:
            for state in truth.desk.state(name).cards:
                free = state.free
                assert min(free.memory_mib, free.cores, free.slots) >= 0, (name, state)


def test_a_pod_that_asks_for_more_cpu_than_numbers_have_keeps_nobody_from_being_seen() -> None:
    greedy = a_pod("greedy", containers=[{"name": "main", "resources": {"requests": {"cpu": "9E", "memory": "9E"}}}])
    greedy["spec"]["nodeName"] = "node-1"
    store = Store(SchedulingPolicy(), VENDORS)
    store.feed.apply_node("ADDED", a_node("node-1"))

    store.feed.replace_pods([greedy, a_pod("p")])

    assert store.desk.waiting_pod("uid-default-p") is not None
    assert store.desk.state("node-1").free_cpu_milli < 0


Interleavings.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
test_interleavings = Interleavings.TestCase
