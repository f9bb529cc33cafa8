"""No pod leaves for nothing, and no odd pod, node or moment keeps a guarantee from coming back."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_node, cards_of
from kerf.values.allocator import Allocator
from kerf.values.policy import ReclaimSettings
from kerf.values.verdict import Misfit
from scheduler.core.victims import Evictable
from scheduler.placing import preempt
from scheduler.placing.pauses import FIRST_S, LONGEST_S, Pauses
from scheduler.state.bookings import State
from scheduler.state.planning import Seeker
from tests.scheduler.placing.test_reclaim import (
    CARD,
    EACH,
    GANGS,
    MOST,
    Pod,
    World,
    member,
    pods,
    refuses,
    runs,
    waits,
)

HALF = CARD // 2


def halves(**more: Any) -> tuple[Pod, ...]:
    """The borrower has a card that it is guaranteed, and two halves of another one that it borrows."""
    labels = {"app": "b"}
    both = [runs("borrower", f"half-{i}", 0, HALF, labels=labels, **more) for i in range(2)]
    for pod in both:
        pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return (*both, runs("borrower", "whole", 1, priority=9))


def a_budget(allowed: int) -> Pod:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "all", "namespace": "borrower"},
        "spec": {"selector": {"matchLabels": {"app": "b"}}},
        "status": {"disruptionsAllowed": allowed},
    }


# ---- several pods have to leave
def test_where_one_of_two_pods_may_not_leave_the_other_one_stays_too() -> None:
    world = World({"lender": "1 card", "borrower": {"memory": CARD}}, *halves(), waits("lender"))
    world.kube.fail = refuses("half-1", "whole")

    for _ in range(3):
        world.loop.run_once()

    assert (world.accepted(), world.reserved()) == ([], [])


@pytest.mark.parametrize(("allowed", "gone"), [(1, 0), (2, 2)])
def test_a_budget_that_two_pods_share_is_counted_before_the_first_one_leaves(allowed: int, gone: int) -> None:
    world = World({"lender": "1 card", "borrower": {"memory": CARD}}, *halves(), waits("lender"))
    world.kube.put(a_budget(allowed))
    world.kube.fail = refuses("whole")

    for _ in range(3):
        world.loop.run_once()

    assert len(world.accepted()) == gone
    assert world.reserved() == (["lender/asks"] if gone else [])


def test_after_the_deadline_both_leave() -> None:
    tenants = {"lender": "1 card", "borrower": {"memory": CARD}}
    world = World(tenants, *halves(), waits("lender"), reclaim=ReclaimSettings(deadline_s=0.0))
    world.kube.fail = refuses("half-1", "half-0", "whole")

    world.loop.run_once()

    assert world.reserved() == ["lender/asks"]


@given(pods, st.sampled_from(sorted(MOST)), st.integers(1, 100))
def test_pods_leave_only_where_the_place_is_had(
    running: list[tuple[str, int, int, bool]], claimant: str, percent: int
) -> None:
    held, there, budgets = dict.fromkeys((*MOST, "none"), 0), [], []
    for number, (owner, mib, priority, has_budget) in enumerate(running):
        if sum(held.values()) + mib <= CARD:
            held[owner] += mib
            there.append(runs(owner, f"p{number}", 0, mib, priority=priority))
            budgets += [f"p{number}"] if has_budget else []
    left = MOST[claimant] - held[claimant]
    if left < 1:
        return
    asks = waits(claimant, mib=max(left * percent // 100, 1), priority=5)
    world = World({name: {"memory": mib} for name, mib in MOST.items()}, *there, asks, cards=1)
    world.kube.fail = refuses(*budgets)

    world.loop.run_once()

    if world.accepted():
        place = world.store.ledger.reservation(f"uid-{claimant}-asks")
        assert place is not None
        assert not world.store.ledger.ready(place)
        if not any(name in key for key in world.accepted() for name in budgets):
            world.leave()
            assert world.store.ledger.ready(place)


# ---- pods that could not use the place
def test_for_a_waiting_pod_that_is_being_deleted_nobody_leaves() -> None:
    """A finalizer may keep it for days, and kube-scheduler passes it over."""
    asks = waits("lender")
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1), asks)
    asks["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/keep"]}
    world.store.feed.apply_pod("MODIFIED", asks)

    world.loop.run_once()

    assert (world.gone(), world.store.desk.waiting()) == ([], [])


def test_for_a_pod_that_never_takes_its_place_nobody_leaves_again_at_once() -> None:
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1), waits("lender"))
    world.loop.run_once()
    (first,) = world.gone()
    world.leave()
    world.store.ledger.drop_reservation("uid-lender-asks")
    taken = runs("borrower", "again", 0 if first.endswith("a") else 1)
    world.store.feed.apply_pod("ADDED", taken)

    for _ in range(3):
        world.loop.run_once()

    assert world.gone() == [first]
    assert world.shows('kerf_quota_unmet_pods{tenant="lender"}') == ['kerf_quota_unmet_pods{tenant="lender"} 1.0']


def test_pauses_grow_and_end() -> None:
    now = 0.0
    pauses = Pauses(lambda: now)
    found = []
    for _ in range(8):
        pauses.note("pod")
        start = now
        while pauses.holds("pod"):
            now += FIRST_S / 2
        found.append(now - start)

    assert found == [min(LONGEST_S, FIRST_S * 2**i) for i in range(8)]
    assert not pauses.holds("another")


# ---- pods that do not end
def test_a_pod_that_is_still_there_long_after_its_grace_period_is_counted_on_no_longer() -> None:
    stuck = runs("borrower", "b", 1)
    stuck["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 10}
    world = World(EACH, runs("borrower", "a", 0), stuck, waits("lender"))
    world.loop.run_once()
    assert (world.gone(), world.reserved()) == ([], ["lender/asks"])

    world.now = 1000.0
    world.store.feed.apply_pod("MODIFIED", stuck)  # its status changes, and nothing else
    world.store.ledger.drop_reservation("uid-lender-asks")
    world.loop.run_once()

    assert (world.gone(), world.reserved()) == (["borrower/a"], ["lender/asks"])


def test_a_longer_grace_period_is_waited_for() -> None:
    slow = runs("borrower", "b", 1)
    slow["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3600}
    world = World(EACH, runs("borrower", "a", 0), slow, waits("lender"))

    world.now = 1000.0
    world.loop.run_once()

    assert (world.gone(), world.reserved()) == ([], ["lender/asks"])


def test_after_the_deadline_only_what_is_borrowed_has_to_hurry() -> None:
    """A third tenant's pod, within its guarantee, ends on the same card and takes its time."""
    theirs, mine = runs("borrower", "slow", 0, HALF), runs("third", "drains", 0, HALF)
    for pod in (theirs, mine):
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    tenants = {"lender": "1 card", "third": {"memory": CARD}, "borrower": "0 cards"}
    late = ReclaimSettings(deadline_s=0.0)
    world = World(tenants, theirs, mine, runs("third", "stays", 1, HALF), waits("lender"), reclaim=late)

    world.loop.run_once()

    assert (world.gone(), world.reserved()) == (["borrower/slow"], ["lender/asks"])


# ---- what changes meanwhile
class Meanwhile:
    """Something happens after victims were chosen and before they leave."""

    def __init__(self, world: World, what: Any) -> None:
        best = world.loop._best

        def then(seeker: Seeker) -> tuple[str, tuple[Evictable, ...]] | None:
            found = best(seeker)
            what()
            return found

        world.loop._best = then  # type: ignore[method-assign]


def test_a_policy_that_says_wait_meanwhile_is_kept() -> None:
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1), waits("lender"))
    policy = world.store.desk.policy
    waiting = replace(policy, quota=replace(policy.quota, reclaim=ReclaimSettings(enabled=False)))
    Meanwhile(world, lambda: world.store.feed.set_policy(waiting))

    world.loop.run_once()

    assert world.gone() == []


@pytest.mark.parametrize(
    ("shares", "gone"),
    [
        ({"lender": "0 cards", "borrower": "2 cards"}, 0),
        ({"lender": "1 card", "borrower": "2 cards"}, 0),
        ({"lender": "1 card"}, 1),
    ],
    ids=["the claim shrank", "the borrower was given more", "the borrower's file was deleted"],
)
def test_shares_that_change_meanwhile_are_kept(shares: dict[str, str], gone: int) -> None:
    cards = 2 if gone else 3
    theirs = [runs("borrower", f"b{i}", i) for i in range(2)]
    more = [] if gone else [runs("lender", "mine", 2)]
    tenants = {"lender": f"{cards - 1} cards", "borrower": "1 card"}
    world = World(tenants, *theirs, *more, waits("lender"), cards=cards)
    Meanwhile(world, lambda: world.promise(shares))

    world.loop.run_once()

    assert len(world.gone()) == gone


def test_a_victim_that_went_meanwhile_is_not_counted_twice() -> None:
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1), waits("lender"))
    gone = {"metadata": {"uid": "uid-borrower-b"}, "spec": {}}
    Meanwhile(world, lambda: world.store.feed.apply_pod("DELETED", gone))

    world.loop.run_once()

    assert (world.gone(), world.reserved()) == ([], [])


def test_the_deadline_counts_from_when_the_pod_is_within_the_guarantee() -> None:
    """It waited for an hour beyond the guarantee; the borrower's budget has its full time from then on."""
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1), waits("lender"))
    world.now = time.monotonic()
    world.store.desk._live.pending.refused["uid-lender-asks"] = world.now - 3600
    policy = world.store.desk.policy
    soon = replace(policy, quota=replace(policy.quota, reclaim=ReclaimSettings(deadline_s=1800)))
    world.store.feed.set_policy(soon)
    world.kube.fail = refuses("a", "b")

    world.loop.run_once()

    assert world.reserved() == []
    assert all(verb == "POST" for verb, _ in world.kube.writes)


def test_a_reserved_place_on_a_card_that_has_failed_is_given_back() -> None:
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1), waits("lender"))
    world.loop.run_once()
    (place,) = world.store.ledger.bookings(State.RESERVED)
    world.leave()
    node = a_node("n", 2)
    note = node["metadata"]["annotations"]["kerf.dev/inventory"]
    (card,) = place.uses
    world.store.feed.apply_node("MODIFIED", fails(node, note, card))
    ask, stages = world.store.desk.read(waits("lender"))

    answer = world.store.desk.where(replace(ask, uid="uid-lender-asks"), ["n"])

    assert list(answer.fits) == []
    assert world.reserved() == []
    assert isinstance(world.store.desk.assume(ask, "n", stages), Misfit)


def fails(node: Pod, note: str, card: str) -> Pod:
    cards = json.loads(note)
    for one in cards["cards"]:
        one["healthy"] = one["id"] != card
    node["metadata"]["annotations"]["kerf.dev/inventory"] = json.dumps(cards)
    return node


def test_two_tenants_that_ask_at_once_get_what_each_is_guaranteed_of_the_same_borrower() -> None:
    tenants = {"one": "1 card", "two": "1 card", "borrower": "1 card"}
    theirs = [runs("borrower", f"b{i}", i, priority=1000) for i in range(3)]
    world = World(tenants, *theirs, waits("one"), waits("two"), waits("two", "more"), cards=3)

    for _ in range(3):
        world.loop.run_once()

    assert len(world.gone()) == 2
    assert len(world.reserved()) == 2
    assert {key.partition("/")[0] for key in world.reserved()} == {"one", "two"}


def test_a_borrower_by_claims_whose_card_kerf_does_not_slice_does_not_leave() -> None:
    by_claim, shared = cards_of("n", 2)
    world = World({"lender": "1 card", "borrower": "0 cards"}, runs("borrower", "a", 0), runs("borrower", "b", 1))
    node = a_node("n", (replace(by_claim, allocator=Allocator.DRA), shared))
    world.store.feed.apply_node("MODIFIED", node)
    world.keeper.refresh()
    asks = waits("lender")
    world.store.feed.apply_pod("ADDED", asks)
    world.store.desk._live.pending.refuse("uid-lender-asks", ["n"], all_nodes=1)

    world.loop.run_once()

    assert (world.gone(), world.reserved()) == (["borrower/b"], ["lender/asks"])


# ---- gangs
def test_while_a_gangs_member_was_not_refused_yet_none_of_them_gets_a_place() -> None:
    theirs = [runs("borrower", f"b{i}", i) for i in range(3)]
    world = World(GANGS, *theirs, member("m0"), member("m1"), cards=3)
    world.store.desk._live.pending.refused.pop("uid-lender-m1")

    world.loop.run_once()
    assert (world.gone(), world.reserved()) == ([], [])

    world.store.desk._live.pending.refuse("uid-lender-m1", ["n"], all_nodes=1)
    world.loop.run_once()
    assert (len(world.gone()), world.reserved()) == (2, ["lender/m0", "lender/m1"])


def test_of_a_gang_with_more_pods_than_its_size_as_many_as_are_missing_get_places() -> None:
    theirs = [runs("borrower", f"b{i}", i) for i in range(3)]
    world = World(GANGS, *theirs, member("m0"), member("m1"), member("m2"), cards=3)

    world.loop.run_once()

    assert (len(world.gone()), world.reserved()) == (2, ["lender/m0", "lender/m1"])


@pytest.mark.parametrize("size", ["1", None], ids=["of one pod", "without a size"])
def test_a_gang_that_does_not_wait_for_others_gets_its_guarantee_as_any_pod(size: str | None) -> None:
    one = member("m0")
    one["metadata"]["annotations"] = {"kerf.dev/gang-size": size} if size else {}
    world = World(EACH, runs("borrower", "a", 0), runs("borrower", "b", 1), one)

    world.loop.run_once()

    assert (len(world.gone()), world.reserved()) == (1, ["lender/m0"])


def test_of_a_gang_one_victim_that_stays_keeps_all_of_them() -> None:
    theirs = [runs("borrower", f"b{i}", i) for i in range(3)]
    world = World(GANGS, *theirs, member("m0"), member("m1"), cards=3)
    world.kube.fail = refuses("b1", "b2")

    for _ in range(3):
        world.loop.run_once()

    assert (world.accepted(), world.reserved()) == ([], [])


def test_after_the_deadline_borrowers_hurry_for_a_gang_too() -> None:
    theirs = [runs("borrower", f"b{i}", i) for i in range(3)]
    for pod in theirs[:2]:
        pod["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3600}
    world = World(GANGS, *theirs, member("m0"), member("m1"), cards=3, reclaim=ReclaimSettings(deadline_s=0.0))

    world.loop.run_once()

    assert world.gone() == ["borrower/b0", "borrower/b1"]
    assert world.reserved() == ["lender/m0", "lender/m1"]


def test_kube_scheduler_is_woken_once_when_a_gangs_places_are_free() -> None:
    theirs = [runs("borrower", f"b{i}", i) for i in range(3)]
    world = World(GANGS, *theirs, member("m0"), member("m1"), cards=3)
    world.kube.put(a_node("n", 3))
    world.loop.run_once()
    world.leave()

    for _ in range(4):
        world.loop.run_once()

    assert [path for verb, path in world.kube.writes if verb == "PATCH"] == ["/api/v1/nodes/n"]


# ---- large fleets
def test_of_a_fleet_that_is_too_large_for_one_round_each_round_looks_at_other_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The node with the most borrowed pods has only small ones beside a guaranteed one: it does not help."""
    monkeypatch.setattr(preempt, "MOST_NODES", 1)
    small = [runs("borrower", f"s{i}", 0, 1000) for i in range(5)]
    tenants = {"lender": {"memory": CARD}, "keeps": {"memory": CARD}, "borrower": {"memory": 0}}
    blocks = runs("keeps", "k", 0, CARD - 10_000)
    large = runs("borrower", "large", 0)
    large["spec"]["nodeName"] = "m"
    large["metadata"]["annotations"]["kerf.dev/grant"] = large["metadata"]["annotations"]["kerf.dev/grant"].replace(
        "GPU-n-0", "GPU-m-0"
    )
    world = World(tenants, *small, blocks, waits("lender"), cards=1)
    world.store.feed.apply_node("ADDED", a_node("m", 1))
    world.store.feed.apply_pod("ADDED", large)
    world.keeper.refresh()
    world.store.desk._live.pending._offered.clear()

    world.loop.run_once()
    assert world.gone() == []
    world.loop.run_once()

    assert (world.gone(), world.reserved()) == (["borrower/large"], ["lender/asks"])
