"""Places that the scheduler gives by itself: the same engine, reservations, gangs and quota as for kube-scheduler."""

from typing import Any

import numpy as np
import pytest

from kerf.testing.builders import a_node, a_pod
from kerf.values.ask import PodAsk
from kerf.values.grant import CardUse
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.core.wishes import Wishes
from scheduler.state.answers import ByCards, NoPlace
from scheduler.state.bookings import State
from scheduler.state.seating import FULL, NOT_WAITING, Seat
from scheduler.state.store import Store, load

NODES = ["node-1", "node-2", "node-3"]


def a_store(*pods: dict[str, Any], nodes: int = 3, cards: int = 1) -> Store:
    store = Store(SchedulingPolicy(), VENDORS, clock=lambda: 0.0)
    load(store, [a_node(name, cards) for name in NODES[:nodes]], pods)
    return store


def uid(name: str) -> str:
    return f"uid-default-{name}"


def take(store: Store, name: str, names: list[str] | None = None, wishes: Wishes | None = None) -> str | NoPlace:
    found = store.seating.take(uid(name), NODES if names is None else names, wishes)
    if not isinstance(found, Seat):
        return found
    found.bind.end()
    return found.node


def ask_of(store: Store, name: str) -> PodAsk:
    known = store.desk.waiting_pod(uid(name))
    assert known is not None
    return known.ask


def test_the_seat_is_the_node_that_the_verbs_put_first_and_it_is_charged() -> None:
    store = a_store(a_pod("first", mem=8000), a_pod("second", mem=8000))
    take(store, "first")

    order = store.desk.order(ask_of(store, "second"), list(NODES))

    assert take(store, "second") == NODES[int(order.argmax())]
    assert sorted(s.used for node in NODES for s in store.desk.state(node).cards if s.used != CardUse())
    assert store.ledger.counts()[State.ASSUMED] == 2


def test_only_nodes_on_offer_are_taken() -> None:
    assert take(a_store(a_pod("a")), "a", ["node-3"]) == "node-3"
    assert take(a_store(a_pod("a")), "a", []) is FULL


def test_a_pod_is_seated_once_and_not_while_another_bind_has_it() -> None:
    store = a_store(a_pod("a"), a_pod("b"))
    bind = store.desk.begin_bind(uid("b"))
    take(store, "a")

    assert (take(store, "a"), take(store, "b"), take(store, "unknown")) == (NOT_WAITING,) * 3
    assert bind is not None


def test_where_no_card_has_room_the_pod_is_not_seated_and_can_be_bound_later() -> None:
    store = a_store(a_pod("a", mem=60_000), a_pod("b", mem=60_000), nodes=1)
    take(store, "a")

    assert take(store, "b") is FULL
    assert store.desk.begin_bind(uid("b")) is not None


def test_what_a_pod_wishes_weighs_more_than_packing() -> None:
    store = a_store(a_pod("first"), a_pod("second"))
    first = take(store, "first")
    assert isinstance(first, str)
    other = next(name for name in NODES if name != first)
    weights = np.array([name == other for name in NODES]).astype(np.int64)

    assert take(store, "second", wishes=Wishes(weights, weights * 0)) == other


def test_wishes_are_scaled_by_the_nodes_that_fit() -> None:
    """By all nodes the taint of node-2 would matter more than its weight; node-1, which is full, must not count."""
    store = a_store(a_pod("holder", mem=80_000), a_pod("second", mem=8000))
    take(store, "holder", ["node-1"])
    wishes = Wishes(np.array([100, 10, 9]), np.array([0, 1, 0]))

    assert take(store, "second", wishes=wishes) == "node-3"


def test_the_planned_node_comes_first() -> None:
    store = a_store(a_pod("a"))
    store.planning.set_plan({uid("a"): "node-2"}, {})

    assert take(store, "a") == "node-2"


def test_a_member_of_a_gang_is_seated_only_on_its_reserved_place() -> None:
    notes = {"kerf.dev/gang-size": "2"}
    store = a_store(*[a_pod(name, labels={"kerf.dev/gang": "g"}, annotations=notes) for name in ("a", "b")])

    alone = take(store, "a")

    assert isinstance(alone, NoPlace)
    assert "waits for a place for all 2 pods" in alone.sentence
    assert store.desk.waiting_pod(uid("a")) is not None


def test_the_place_of_the_pod_at_the_door_is_held_and_kube_scheduler_is_sent_there() -> None:
    store = a_store(a_pod("door", mem=60_000), a_pod("other", mem=60_000), nodes=1)

    assert store.seating.hold(uid("door"), ["node-1"], None, 60.0) == "node-1"
    assert store.seating.hold(uid("door"), ["node-1"], None, 60.0) == "node-1"
    assert take(store, "other", ["node-1"]) is FULL
    where = store.desk.where(ask_of(store, "door"), ["node-1"])
    assert where.fits == ["node-1"]
    assert not isinstance(where, ByCards)


def test_a_pod_with_a_reserved_place_is_seated_there_or_not_at_all() -> None:
    store = a_store(a_pod("a"))
    store.seating.hold(uid("a"), ["node-1"], None, 60.0)

    assert take(store, "a", ["node-2", "node-3"]) == NoPlace("its reserved place is not free yet")
    assert take(store, "a") == "node-1"


def test_nothing_is_held_where_nothing_fits() -> None:
    store = a_store(a_pod("large", mem=60_000, gpu=3))

    assert store.seating.hold(uid("large"), NODES, None, 60.0) == ""
    assert store.seating.hold("unknown", NODES, None, 60.0) == ""


def test_a_pod_that_is_being_bound_goes_nowhere_else() -> None:
    store = a_store(a_pod("a"))
    node, ask = take(store, "a"), ask_of(store, "a")

    assert [store.desk.where(ask, names).fits for names in (NODES, ["node-x"])] == [[node], []]


@pytest.mark.parametrize("gates", [[{"name": "kueue.x-k8s.io/admission"}]])
def test_a_gated_pod_is_neither_seated_nor_held(gates: list[dict[str, str]]) -> None:
    store = a_store(a_pod("a", spec={"schedulingGates": gates}))

    assert take(store, "a") is NOT_WAITING
    assert store.seating.hold(uid("a"), NODES, None, 60.0) == ""
