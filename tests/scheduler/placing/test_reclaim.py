"""What a tenant is guaranteed it gets back from those who borrow it, and nobody else loses a pod for it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.kube.errors import Busy
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_container, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import QuotaEngine, QuotaSettings, ReclaimSettings, SchedulingPolicy
from kerf.values.recovery import AfterDeadline
from kerf.vendors.registry import VENDORS
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.preempt import Preemption
from scheduler.state.bookings import State
from scheduler.state.store import Store, load
from tests.scheduler.quota.tenants import SLUG

CARD = 81_559
Pod = dict[str, Any]


class Recorded:
    """Events, as they would be sent."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []

    def emit(self, about: dict[str, Any], reason: str, message: str, **_: Any) -> None:
        self.said.append((f"{about['namespace']}/{about['name']}", reason, message))


class World:
    """A node with cards, tenants, and a loop whose evictions take effect when `leave` says so."""

    def __init__(self, tenants: dict[str, Any], *pods: Pod, cards: int = 2, **quota: Any) -> None:
        quota.setdefault("reclaim", ReclaimSettings(deadline_s=1e9))  # the clock of the store does not move
        self.kube, self.now = FakeKube(*pods), 0.0
        self.store = Store(SchedulingPolicy(quota=QuotaSettings(**quota)), VENDORS, clock=lambda: self.now)
        load(self.store, [a_node("n", cards)], pods)
        self.keeper = QuotaKeeper(self.store, clock=lambda: 0.0)
        self.keeper.replace_hard([])
        self.promise(tenants)
        self.registry, self.events = Metrics(), Recorded()
        self.loop = Preemption(self.store, self.kube, SchedulerMetrics.build(self.registry), self.events)  # type: ignore[arg-type]
        for pod in pods:
            if "nodeName" not in pod["spec"]:
                self.store.desk._live.pending.refuse(pod["metadata"]["uid"], ["n"], all_nodes=1)

    def promise(self, tenants: dict[str, Any]) -> None:
        """These tenants, each with its guarantee, and no others."""
        self.keeper.replace_tenants([a_tenant(name, guaranteed) for name, guaranteed in tenants.items()])
        self.keeper.refresh()

    def gone(self) -> list[str]:
        """Pods that were evicted or deleted, in order."""
        found = []
        for verb, path in self.kube.writes:
            parts = path.removesuffix("/eviction").split("/")
            if path.endswith("/eviction") or (verb == "DELETE" and "/pods/" in path):
                found.append(f"{parts[-3]}/{parts[-1]}")
        return found

    def accepted(self) -> list[str]:
        """Pods whose eviction the API server accepted, or that were deleted."""
        there = self.kube.objects()
        evicted = {one["metadata"]["name"] for one in there if one["kind"] == "Eviction"}
        stay = {one["metadata"]["name"] for one in there if one["kind"] == "Pod"} - evicted
        return [key for key in dict.fromkeys(self.gone()) if key.partition("/")[2] not in stay]

    def leave(self) -> None:
        """The pods that were evicted have ended."""
        for key in self.gone():
            uid = f"uid-{key.replace('/', '-')}"
            self.store.feed.apply_pod("DELETED", {"metadata": {"uid": uid}, "spec": {}})

    def reserved(self) -> list[str]:
        return sorted(booking.key for booking in self.store.ledger.bookings(State.RESERVED))

    def shows(self, name: str) -> list[str]:
        return [line for line in self.registry.render().decode().splitlines() if line.startswith(name)]


def a_tenant(name: str, guaranteed: Any) -> dict[str, Any]:
    spec = {"namespaces": [name], "classes": [{"model": "H100", "guaranteed": guaranteed}]}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": spec}


def runs(tenant: str, name: str, card: int, mib: int = CARD, **more: Any) -> Pod:
    cores = 100 if mib == CARD else 0
    spec = {"priority": more.pop("priority", 0)}
    return a_pod(name, namespace=tenant, node="n", grant=a_grant(f"GPU-n-{card}", mib, cores), spec=spec, **more)


def waits(tenant: str, name: str = "asks", mib: int = CARD, **spec: Any) -> Pod:
    cores = 100 if mib == CARD else 0
    return a_pod(name, namespace=tenant, containers=[a_container(mem=mib, cores=cores)], spec=spec)


EACH = {"lender": "1 card", "borrower": "1 card"}


def test_a_borrowers_newest_and_least_important_pod_leaves_for_a_guarantee_whatever_its_priority() -> None:
    old, new = runs("borrower", "old", 0, priority=1000), runs("borrower", "new", 1, priority=1000)
    old["metadata"]["creationTimestamp"], new["metadata"]["creationTimestamp"] = "2026-01-01", "2026-01-02"
    world = World(EACH, old, new, waits("lender", preemptionPolicy="Never"))

    world.loop.run_once()

    assert world.gone() == ["borrower/new"]
    assert world.reserved() == ["lender/asks"]
    why = "tenant borrower holds more than is guaranteed, and tenant lender asks for its guarantee (pod lender/asks)"
    assert world.events.said == [("borrower/new", "Reclaimed", f"evicted: {why}")]
    assert world.shows('kerf_quota_reclaimed_pods_total{how="evicted",tenant="borrower"}') == [
        'kerf_quota_reclaimed_pods_total{how="evicted",tenant="borrower"} 1.0'
    ]


def test_a_tenant_that_does_not_borrow_loses_nothing_to_any_priority() -> None:
    world = World(
        {"meek": "1 card", "loud": "1 card"},
        runs("meek", "a", 0),
        runs("loud", "b", 1, priority=1_000_000),
        waits("loud", priority=1_000_000),
    )

    world.loop.run_once()

    assert world.gone() == []


@pytest.mark.parametrize("chosen", [True, False], ids=["with cards", "for CPU alone"])
def test_kube_schedulers_own_victims_are_no_pods_within_another_tenants_guarantee(chosen: bool) -> None:
    world = World({"meek": "2 cards", "loud": "0 cards"}, runs("meek", "a", 0), runs("meek", "b", 1))
    ask, _ = world.store.desk.read(waits("loud", mib=CARD if chosen else 0, priority=1_000_000))

    assert world.store.desk.victims(ask, ["n"]) in ({"n": None}, {"n": ()}, {})
    assert not world.store.desk.spares_guarantees(ask, ["uid-meek-a"])


def test_a_pod_beyond_the_guarantee_takes_nothing_back() -> None:
    world = World({"a": "1 card", "b": "1 card"}, runs("a", "mine", 0), runs("b", "theirs", 1), waits("a"))

    world.loop.run_once()

    assert (world.gone(), world.reserved()) == ([], [])


def test_namespaces_without_a_tenant_keep_what_no_tenant_is_guaranteed() -> None:
    tenants = {"lender": "1 card"}
    both = [runs("kube-system", "a", 0), runs("default", "b", 1)]

    one_more = World(tenants, *both, waits("lender"))
    one_more.loop.run_once()
    assert len(one_more.gone()) == 1

    none = World({"lender": "1 card", "greedy": "0 cards"}, both[0], runs("greedy", "g", 1), waits("lender"))
    none.loop.run_once()
    assert none.gone() == ["greedy/g"]


@pytest.mark.parametrize(
    "quota", [{"engine": QuotaEngine.KUEUE}, {"reclaim": ReclaimSettings(enabled=False)}], ids=["kueue", "wait"]
)
def test_where_kueue_preempts_or_the_policy_waits_kerf_evicts_nobody(quota: dict[str, Any]) -> None:
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1), waits("lender"), **quota)

    world.loop.run_once()

    assert world.gone() == []


def test_pods_that_leave_already_are_waited_for_and_no_further_one_is_evicted() -> None:
    leaving = runs("borrower", "b", 1)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world = World(EACH, runs("borrower", "a", 0), leaving, waits("lender"))

    for _ in range(3):
        world.loop.run_once()

    assert (world.gone(), world.reserved()) == ([], ["lender/asks"])


def test_what_leaves_for_one_pod_is_not_counted_for_the_next() -> None:
    """Both cards were lent, one is guaranteed to each: the second pod of the lender is beyond its guarantee."""
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1), waits("lender"), waits("lender", "second"))

    for _ in range(3):
        world.loop.run_once()

    assert len(world.gone()) == 1


def refuses(*names: str) -> Callable[[str, str], None]:
    def fail(method: str, path: str) -> None:
        if path.endswith("/eviction") and path.split("/")[-2] in names:
            raise Busy(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget")

    return fail


def test_pods_that_wait_for_a_guarantee_by_claims_have_a_series_of_their_own() -> None:
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1))
    world.store.allocations.follow(lambda: {"lender": 2, "borrower": 3, "elsewhere": 4})

    world.loop.run_once()
    assert world.shows("kerf_quota_unmet_claim_pods{") == ['kerf_quota_unmet_claim_pods{tenant="lender"} 2.0']

    world.store.allocations.follow(dict)
    world.loop.run_once()
    assert world.shows("kerf_quota_unmet_claim_pods{") == []


def test_a_budget_of_the_borrower_delays_and_after_the_deadline_does_not_prevent() -> None:
    both = [runs("borrower", "a", 0), runs("borrower", "b", 1)]
    soon = World(EACH, *both, waits("lender"))
    soon.kube.fail = refuses("a", "b")
    for _ in range(4):
        soon.loop.run_once()
    assert soon.reserved() == []
    assert soon.shows('kerf_quota_unmet_pods{tenant="lender"}') == ['kerf_quota_unmet_pods{tenant="lender"} 1.0']

    late = World(EACH, *both, waits("lender"), reclaim=ReclaimSettings(deadline_s=0.0))
    late.kube.fail = refuses("a", "b")
    late.loop.run_once()
    assert late.reserved() == ["lender/asks"]
    assert [verb for verb, _ in late.kube.writes] == ["POST", "DELETE"]

    waits_for_ever = ReclaimSettings(deadline_s=0.0, after_deadline=AfterDeadline.WAIT)
    patient = World(EACH, *both, waits("lender"), reclaim=waits_for_ever)
    patient.kube.fail = refuses("a", "b")
    patient.loop.run_once()
    assert patient.reserved() == []


def test_after_the_deadline_a_pod_that_takes_its_time_to_leave_gets_half_a_minute() -> None:
    slow = runs("borrower", "b", 1)
    slow["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world = World(EACH, runs("borrower", "a", 0), slow, waits("lender"), reclaim=ReclaimSettings(deadline_s=0.0))
    bodies: list[object] = []
    delete = world.kube.delete
    world.kube.delete = lambda path, body=None: bodies.append(body) or delete(path, body)  # type: ignore[method-assign]

    world.loop.run_once()

    assert world.gone() == ["borrower/b"]
    assert bodies == [{"preconditions": {"uid": "uid-borrower-b"}, "gracePeriodSeconds": 30}]


def member(name: str) -> Pod:
    pod = waits("lender", name)
    pod["metadata"]["labels"] = {"kerf.dev/gang": "train"}
    pod["metadata"]["annotations"] = {"kerf.dev/gang-size": "2"}
    return pod


GANGS = {"lender": "2 cards", "borrower": "1 card"}


def test_a_gang_within_the_guarantee_gets_all_its_places_and_takes_them_together() -> None:
    theirs = [runs("borrower", f"b{i}", i) for i in range(2)]
    world = World(GANGS, *theirs, member("m0"), member("m1"), cards=3)

    world.loop.run_once()

    assert len(world.gone()) == 1
    assert world.reserved() == ["lender/m0", "lender/m1"]
    places = world.store.ledger.bookings(State.RESERVED)
    assert [world.store.ledger.ready(place) for place in places] == [False, False]
    world.leave()
    assert [world.store.ledger.ready(place) for place in places] == [True, True]


@pytest.mark.parametrize("fits", ["budget", "guarantee", "incomplete"])
def test_a_gang_that_cannot_have_all_its_places_takes_none(fits: str) -> None:
    theirs = [runs("borrower", f"b{i}", i) for i in range(2 if fits != "guarantee" else 3)]
    tenants = {**GANGS, "lender": "1 card", "borrower": "2 cards"} if fits == "guarantee" else GANGS
    members = [member("m0")] if fits == "incomplete" else [member("m0"), member("m1")]
    world = World(tenants, *theirs, *members, cards=3)
    if fits == "budget":
        world.kube.fail = refuses("b0", "b1")

    world.loop.run_once()
    world.loop.run_once()

    assert world.reserved() == []
    assert world.store.ledger.leaving() == frozenset()


MOST = {"a": 30_000, "b": 30_000, "c": 21_000}
"""Guarantees in MiB that fill a card."""
pods = st.lists(
    st.tuples(st.sampled_from([*MOST, "none"]), st.integers(1000, 40_000), st.integers(0, 9), st.booleans()), max_size=7
)


@given(pods, st.sampled_from(sorted(MOST)), st.integers(1, 100))
def test_a_guarantee_can_always_be_had_back_and_only_borrowers_lose_pods(
    running: list[tuple[str, int, int, bool]], claimant: str, percent: int
) -> None:
    held = dict.fromkeys((*MOST, "none"), 0)
    there: dict[str, tuple[str, int]] = {}
    given_pods, budgets = [], []
    for number, (owner, mib, priority, has_budget) in enumerate(running):
        if sum(held.values()) + mib > CARD:
            continue
        held[owner] += mib
        there[f"{owner}/p{number}"] = (owner, mib)
        given_pods.append(runs(owner, f"p{number}", 0, mib, priority=priority))
        budgets += [f"p{number}"] if has_budget else []
    left = MOST[claimant] - held[claimant]
    if left < 1:
        return
    asks = waits(claimant, mib=max(left * percent // 100, 1), priority=0)
    guaranteed = {name: {"memory": mib} for name, mib in MOST.items()}
    reclaim = ReclaimSettings(deadline_s=0.0)
    world = World(guaranteed, *given_pods, asks, cards=1, reclaim=reclaim)
    world.kube.fail = refuses(*budgets)

    for _ in range(3):
        world.loop.run_once()

    rest = CARD - sum(MOST.values())
    assert world.reserved() == [f"{claimant}/asks"] or world.store.planning.has_room(world.store.desk.read(asks)[0])
    for key in dict.fromkeys(world.gone()):
        owner, mib = there[key]
        assert owner != claimant
        assert mib in [m for k, (o, m) in there.items() if o == owner]
    lost = {owner: [there[key][1] for key in dict.fromkeys(world.gone()) if there[key][0] == owner] for owner in held}
    for owner, sizes in lost.items():
        if sizes:  # the last one left while its owner still held more than its guarantee
            assert held[owner] - (sum(sizes) - max(sizes)) > MOST.get(owner, rest)


@given(st.integers(1, 5), st.data())
def test_whole_cards_are_had_back_one_by_one_up_to_the_guarantee(cards: int, data: st.DataObject) -> None:
    mine = data.draw(st.integers(1, cards))
    owners = data.draw(st.lists(st.sampled_from(["mine", "other", "none"]), min_size=cards, max_size=cards))
    guaranteed = {"mine": f"{mine} cards", "other": f"{cards - mine} cards"}
    running = [runs(owner, f"p{i}", i) for i, owner in enumerate(owners)]
    more = [waits("mine", f"asks-{i}") for i in range(cards)]
    world = World(guaranteed, *running, *more, cards=cards)

    for _ in range(2 * cards):
        world.loop.run_once()

    assert owners.count("mine") + len(world.reserved()) == max(mine, owners.count("mine"))
    left = [owner for i, owner in enumerate(owners) if f"{owner}/p{i}" not in world.gone()]
    assert left.count("other") >= min(cards - mine, owners.count("other"))
    assert SLUG in world.store.desk.used()["mine"] or not world.store.desk.used()["mine"]


def test_a_pod_that_goes_while_others_are_looked_at_is_passed_over() -> None:
    world = World(EACH, waits("lender"))
    (one,) = world.store.desk.waiting()
    world.store.feed.apply_pod("DELETED", {"metadata": {"uid": one.ask.uid}, "spec": {}})

    assert list(world.store.planning._seekers(one)) == []
