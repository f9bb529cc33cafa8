"""What pods hold by claims is booked, in whatever order pod, claim and node are seen."""

from itertools import permutations
from threading import Thread
from unittest.mock import patch

import pytest

from kerf.testing.builders import a_card, a_claim, a_claiming_pod, a_node, a_pod
from kerf.values.allocator import Allocator
from kerf.values.grant import CardUse
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.state.claims import ClaimingPods
from scheduler.state.store import Store

CARDS = tuple(a_card(i, allocator=Allocator.DRA, memory_mib=80_000) for i in range(2))
POD = a_claiming_pod(main=["a"])
CLAIM = a_claim("a", ("gpu-0", 4096, 20), ("card-1", None, 0))
HELD = {"GPU-0": CardUse(4096, 20, 1), "GPU-1": CardUse(80_000, 100, 1)}


def a_cluster() -> tuple[Store, ClaimingPods]:
    store = Store(SchedulingPolicy(), VENDORS)
    return store, ClaimingPods(store, "nvidia")


def held(store: Store) -> dict[str, CardUse]:
    return {card: use for booking in store.ledger.bookings() for card, use in booking.uses.items()}


@pytest.mark.parametrize("order", list(permutations(("node", "pod", "claim"))), ids="-".join)
def test_pod_claim_and_node_may_come_in_any_order(order):
    store, seen = a_cluster()
    apply = {
        "node": lambda: seen.apply_node("ADDED", a_node("node-1", CARDS)),
        "pod": lambda: seen.apply_pod("ADDED", POD),
        "claim": lambda: seen.apply_claim("ADDED", CLAIM),
    }

    for one in order:
        apply[one]()

    assert held(store) == HELD


def test_lists_are_joined_as_events_are_and_a_pod_that_ends_holds_nothing():
    store, seen = a_cluster()

    seen.replace_claims([CLAIM])
    seen.replace_pods([POD, a_pod("other")])
    seen.replace_nodes([a_node("node-1", CARDS)])
    assert held(store) == HELD
    seen.apply_pod("MODIFIED", {**POD, "status": {"phase": "Succeeded"}})

    assert held(store) == {}


def test_a_pod_that_is_deleted_while_its_claim_is_taken_in_holds_nothing():
    store, seen = a_cluster()
    seen.apply_node("ADDED", a_node("node-1", CARDS))
    seen.apply_pod("ADDED", POD)
    apply, deletions = store.feed.apply_pod, []

    def as_it_is_deleted(kind, item):
        if kind == "MODIFIED":
            deletions.append(Thread(target=seen.apply_pod, args=("DELETED", POD)))
            deletions[0].start()
            deletions[0].join(0.1)
        apply(kind, item)

    with patch.object(store.feed, "apply_pod", as_it_is_deleted):
        seen.apply_claim("ADDED", CLAIM)
    deletions[0].join()

    assert held(store) == {}


def test_a_claim_of_another_pod_or_node_is_not_this_pods():
    for claim in (a_claim("a", ("gpu-0", 1, 1), pod="other"), a_claim("a", ("gpu-0", 1, 1), node="other")):
        store, seen = a_cluster()
        seen.apply_node("ADDED", a_node("node-1", CARDS))
        seen.apply_claim("ADDED", claim)
        seen.apply_pod("ADDED", POD)

        assert held(store) == {}


def test_the_scheduler_places_nothing_on_cards_that_are_not_its_own():
    store, _ = a_cluster()
    cards = tuple(a_card(i, allocator=hand) for i, hand in enumerate(Allocator))
    store.feed.apply_node("ADDED", a_node("node-1", cards))

    assert [state.usable for state in store.desk.state("node-1").cards] == [True, False, False]
