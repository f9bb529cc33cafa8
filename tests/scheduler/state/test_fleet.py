"""The fleet index: what is free is what was announced less what is held, in whatever order both were seen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_node_value, cards_of
from kerf.values.device import Card, Mode
from kerf.values.grant import NO_USE, CardUse
from kerf.values.health import SUSPECT
from kerf.values.node import Node
from scheduler.core.state import CardState, NodeState
from scheduler.state.fleet import UNLIMITED, Fleet

USE = CardUse(8000, 30, 1)


def a_fleet(*nodes: Node) -> Fleet:
    fleet = Fleet()
    for node in nodes:
        fleet.put_node(node)
    return fleet


def a_node_of(*held: Card, cordoned: tuple[str, ...] = ()) -> Node:
    return Node("n", held, cordoned=cordoned)


def test_a_node_without_pods_is_free():
    node = a_node_value("n", 2)

    assert a_fleet(node).state("n") == NodeState(
        "n", tuple(CardState(card, NO_USE) for card in node.cards), 96_000, 786_432
    )


def test_a_charge_counts_on_its_card_and_node():
    fleet = a_fleet(a_node_value("n", 2))

    fleet.charge("n", {"GPU-n-1": USE}, 4000, 1024)

    state = fleet.state("n")
    assert [card.used for card in state.cards] == [NO_USE, USE]
    assert (state.free_cpu_milli, state.free_memory_mib) == (92_000, 785_408)


def test_charges_are_kept_for_a_node_that_is_announced_later():
    fleet = Fleet()
    fleet.charge("n", {"GPU-n-1": USE}, 4000, 0)
    fleet.put_node(a_node_value("n", 2))

    assert [card.used for card in fleet.state("n").cards] == [NO_USE, USE]


def test_a_card_that_comes_back_finds_its_tenants():
    fleet = a_fleet(a_node_value("n", 2))
    fleet.charge("n", {"GPU-n-1": USE}, 0, 0)
    fleet.put_node(a_node_value("n", 1))
    fleet.put_node(a_node_value("n", 2))

    assert [card.used for card in fleet.state("n").cards] == [NO_USE, USE]


def test_overcommitment_multiplies_what_may_be_granted():
    fleet = Fleet()
    fleet.put_node(a_node_of(a_card(memory_mib=1000)), (1.5, 2.0))

    card = fleet.state("n").cards[0].card
    assert (card.memory_mib, card.cores, card.factory_memory_mib) == (1500, 200, 1000)


@pytest.mark.parametrize(
    ("card", "cordoned", "usable"),
    [
        ({}, (), True),
        ({"health": SUSPECT}, (), False),
        ({}, ("GPU-0",), False),
        ({"mode": Mode.MIG}, (), False),
        ({"mode": Mode.MPS}, (), False),
    ],
)
def test_usable_cards(card: dict[str, object], cordoned: tuple[str, ...], usable: bool) -> None:
    fleet = a_fleet(a_node_of(a_card(**card), cordoned=cordoned))

    assert fleet.state("n").cards[0].usable == usable


def test_cards_stand_in_the_order_of_their_index():
    first, second = cards_of("n", 2)

    assert [state.card for state in a_fleet(a_node_of(second, first)).state("n").cards] == [
        first,
        second,
    ]


def test_a_node_that_reports_no_cpu_is_not_limited_by_it():
    state = a_fleet(a_node_value("n", 1, cpu_milli=0, memory_mib=0)).state("n")

    assert (state.free_cpu_milli, state.free_memory_mib) == (UNLIMITED, UNLIMITED)


def test_an_unknown_node_has_no_cards_and_says_so():
    assert Fleet().state("n") == NodeState(
        "n", (), 0, 0, problem="the scheduler does not know this node", schedulable=False
    )


def test_rows_of_names_are_minus_one_where_unknown_and_follow_changes():
    fleet = a_fleet(a_node_value("a"), a_node_value("b"))
    names = ["b", "x", "a"]

    rows = fleet.rows(names)
    assert [fleet.name(row) if row >= 0 else None for row in rows.tolist()] == ["b", None, "a"]

    fleet.remove_node("b")
    fleet.put_node(a_node_value("x"))
    assert [fleet.name(row) if row >= 0 else None for row in fleet.rows(names).tolist()] == [None, "x", "a"]


def test_ranks_follow_the_names_not_the_order_of_arrival():
    fleet = a_fleet(a_node_value("c"), a_node_value("a"), a_node_value("b"))

    assert [int(fleet.ranks()[fleet.row(name)]) for name in "abc"] == [0, 1, 2]


def test_versions_grow_only_where_something_changed():
    fleet = a_fleet(a_node_value("a"), a_node_value("b"))
    before = fleet.versions.copy()

    fleet.charge("a", {"GPU-a-0": USE}, 0, 0)

    assert np.flatnonzero(fleet.versions > before).tolist() == [fleet.row("a")]


def test_the_fleet_grows_in_both_directions():
    nodes = [a_node_value(f"n{i:03d}", 1 + i % 11) for i in range(150)]
    fleet = a_fleet(*nodes)

    assert [len(fleet.state(node.name).cards) for node in nodes] == [len(node.cards) for node in nodes]
    assert fleet.names() == [node.name for node in nodes]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("put", "shrink", "remove", "charge", "release")), st.sampled_from("ab"), st.integers(0, 2)
    ),
    max_size=30,
)


@given(EVENTS)
def test_the_index_is_what_a_fresh_one_would_be(events: list[tuple[str, str, int]]) -> None:
    fleet = Fleet()
    nodes: dict[str, Node] = {}
    held: list[tuple[str, int]] = []
    for what, name, number in events:
        if what in {"put", "shrink"}:
            nodes[name] = a_node_value(name, number if what == "shrink" else 3)
            fleet.put_node(nodes[name])
        elif what == "remove":
            nodes.pop(name, None)
            fleet.remove_node(name)
        elif what == "charge":
            held.append((name, number))
            fleet.charge(name, {f"GPU-{name}-{number}": USE}, 100, 10)
        elif (name, number) in held:
            held.remove((name, number))
            fleet.release(name, {f"GPU-{name}-{number}": USE}, 100, 10)

    fresh = Fleet()
    for name, number in held:
        fresh.charge(name, {f"GPU-{name}-{number}": USE}, 100, 10)
    for node in nodes.values():
        fresh.put_node(node)
    assert list(fleet.states()) == list(fresh.states())
    for name in nodes:
        ours, theirs = (f.columns.take(np.array([f.row(name)])) for f in (fleet, fresh))
        for field in ("present", "usable", "used_memory", "used_cores", "used_slots", "cpu", "node_memory"):
            assert getattr(ours, field).tolist() == getattr(theirs, field).tolist()


def test_charge_and_release_leave_nothing_behind():
    fleet = a_fleet(a_node_value("n", 2))
    before = fleet.state("n")

    fleet.charge("n", {"GPU-n-0": USE, "gone": USE}, 100, 10)
    fleet.release("n", {"GPU-n-0": USE, "gone": USE}, 100, 10)

    assert fleet.state("n") == before
    assert fleet._held == {}


def test_a_label_change_keeps_what_is_held():
    fleet = a_fleet(a_node_value("n", 2))
    fleet.charge("n", {"GPU-n-0": USE}, 100, 10)
    before = fleet.state("n")

    fleet.put_node(replace(a_node_value("n", 2), labels=(("pool", "a"),)))

    assert fleet.state("n") == before
