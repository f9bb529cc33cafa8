"""Refusals in one sentence, with numbers and a change that really helps."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_node_value, a_pod_ask, an_ask
from kerf.values.ask import PodAsk, Selection, Wishes
from kerf.values.device import Card
from kerf.values.grant import CardUse, Grant
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.verdict import Misfit, Reason
from scheduler.core.explain import Explanation, explain_misfit, short_reason
from scheduler.core.nearest import changed
from scheduler.state.engine import Engine
from scheduler.state.fleet import Fleet
from tests.effort import examples
from tests.scheduler.fleets import node_states, pod_asks


def a_fleet(free: dict[str, tuple[int, ...]], **changes: object) -> Fleet:
    """Nodes whose cards have this much MiB free, of 40,000."""
    fleet = Fleet()
    for name, amounts in free.items():
        cards = tuple(a_card(i, id=f"{name}-{i}", memory_mib=40_000, **changes) for i in range(len(amounts)))
        fleet.put_node(replace_cards(name, cards))
        for card, amount in zip(cards, amounts, strict=True):
            fleet.charge(name, {card.id: CardUse(40_000 - amount, 0, 1)}, 0, 0)
    return fleet


def replace_cards(name: str, cards: tuple[Card, ...]) -> Node:
    return replace(a_node_value(name, 0), cards=cards)


def explained(fleet: Fleet, ask: PodAsk, check_node: bool = False) -> Explanation:
    engine = Engine(fleet, SchedulingPolicy(), check_node=check_node)
    return engine.explain(ask, fleet.rows(fleet.names()))


def test_memory_names_what_is_free_and_what_would_fit():
    fleet = a_fleet({"gpu-7": (28_400, 12_000), "gpu-9": (26_500, 26_000)})

    found = explained(fleet, a_pod_ask("p", an_ask(cards=2, memory_mib=30_000, cores=0)))

    assert (found.node, found.counts) == ("gpu-9", ((Reason.MEMORY, 2),))
    assert found.sentence == (
        "needs 30,000 MiB on 2 cards of one node; best node gpu-9 has 26,500 and 26,000 MiB free; "
        "26,000 MiB would fit on gpu-9 (2 nodes: 2 too little free card memory)"
    )


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        pytest.param(
            a_pod_ask("p", an_ask(memory_mib=50_000)),
            "needs 50,000 MiB and 30 % of the cores on one card; the largest such card, on a, has 40,000 MiB; "
            "20,000 MiB would fit on a",
            id="larger than any card",
        ),
        pytest.param(
            a_pod_ask("p", an_ask(cards=3, memory_mib=1000, cores=0)),
            "needs 1,000 MiB on 3 cards of one node; the largest node, a, has 2 such cards; 2 cards would fit on a",
            id="more cards than a node has",
        ),
        pytest.param(
            a_pod_ask("p", an_ask(memory_mib=1000, cores=0), selection=Selection(use_types=("a100",))),
            "needs 1,000 MiB on one card; no card is of the vendor, type, id or mode that it selects (type a100; "
            "known models: NVIDIA H100 80GB HBM3); "
            "without its card selection it would fit on a",
            id="a type that is not there",
        ),
        pytest.param(
            a_pod_ask("p", an_ask(memory_mib=None, memory_percent=100, cores=100)),
            "needs one card for itself; best node a has 20,000 and 10,000 MiB free; "
            "a slice of 20,000 MiB would fit on a",
            id="a whole card where all are shared",
        ),
        pytest.param(
            a_pod_ask("p", an_ask(name="a", memory_mib=20_000), an_ask(name="b", memory_mib=16_000)),
            "needs 20,000 MiB and 30 % of the cores on one card for a, 16,000 MiB and 30 % of the cores on one card "
            "for b; together they exceed best node a, which has 20,000 and 10,000 MiB free; "
            "10,000 MiB for b would fit on a",
            id="two containers that fit alone",
        ),
        pytest.param(
            a_pod_ask("p", an_ask(memory_mib=1000, cores=0), wishes=Wishes(card_policies=("mutex",))),
            "needs 1,000 MiB on one card; it wants cards to itself, and of best node a 0 have no other pod",
            id="no empty card",
        ),
        pytest.param(
            a_pod_ask("p", an_ask(memory_mib=30_000, cores=0), wishes=Wishes(card_policies=("mutex",))),
            "needs 30,000 MiB on one card; it wants cards to itself, and of best node a 0 have no other pod",
            id="no empty card, and too little memory beside the other pods",
        ),
        pytest.param(
            a_pod_ask("p", an_ask(cards=2, memory_mib=1000, cores=0), wishes=Wishes(card_policies=("topology",))),
            "needs 1,000 MiB on 2 cards of one node; best node a has 1 of 2: no linked cards are free; "
            "without the topology policy it would fit on a",
            id="no links",
        ),
    ],
)
def test_one_node(ask: PodAsk, sentence: str) -> None:
    assert explained(a_fleet({"a": (20_000, 10_000)}), ask).sentence == sentence


def test_cores() -> None:
    fleet = a_fleet({"a": (40_000,), "b": (40_000,)})
    fleet.charge("a", {"a-0": CardUse(0, 90, 1)}, 0, 0)
    fleet.charge("b", {"b-0": CardUse(0, 60, 1)}, 0, 0)

    assert explained(fleet, a_pod_ask("p", an_ask(memory_mib=1000, cores=50))).sentence == (
        "needs 1,000 MiB and 50 % of the cores on one card; best node b has 40 % of cores free; "
        "40 % of the cores would fit on b (2 nodes: 2 too few free cores)"
    )


def test_the_node_itself() -> None:
    ask = a_pod_ask("p", an_ask(memory_mib=1000), cpu_milli=100_000)

    assert explained(a_fleet({"a": (40_000,)}), ask, check_node=True).sentence == (
        "needs 1,000 MiB and 30 % of the cores on one card; "
        "best node a: 100,000 thousandths of a core asked, 96,000 free"
    )


def test_the_node_itself_for_a_pod_that_asks_for_no_card() -> None:
    ask = a_pod_ask("p", containers=(), cpu_milli=100_000)

    assert explained(a_fleet({"a": (40_000,)}), ask, check_node=True) == Explanation(
        ((Reason.NODE, 1),), "a", "needs no card; best node a: 100,000 thousandths of a core asked, 96,000 free"
    )


def test_no_node_at_all() -> None:
    assert explained(Fleet(), a_pod_ask("p")) == Explanation(
        (), "", "needs 8,000 MiB and 30 % of the cores on one card; no node was offered that has cards"
    )


def test_the_sentence_stays_short_in_a_large_fleet() -> None:
    fleet = a_fleet({f"node-{i:04d}": (i, i + 1, i + 2, i + 3, i + 4) for i in range(1500)})

    found = explained(fleet, a_pod_ask("p", an_ask(cards=2, memory_mib=30_000, cores=0)))

    assert found.sentence == (
        "needs 30,000 MiB on 2 cards of one node; best node node-1499 has 1,503, 1,502, 1,501 and less MiB free; "
        "1,502 MiB would fit on node-1499 (1,500 nodes: 1,500 too little free card memory)"
    )


@settings(max_examples=examples(100))
@given(st.lists(node_states(), min_size=1, max_size=3), pod_asks())
def test_every_change_that_is_named_really_fits(states: list, ask: PodAsk) -> None:
    fleet = Fleet()
    for i, state in enumerate(states):
        fleet.put_node(replace_cards(f"n{i}", tuple(held.card for held in state.cards)))
        for held in state.cards:
            fleet.charge(f"n{i}", {held.card.id: held.used}, 0, 0)
    engine = Engine(fleet, SchedulingPolicy())
    rows = fleet.rows(fleet.names())
    if engine.query(ask, rows).feasible.any():
        return

    found = engine.explain(ask, rows)

    assert sum(count for _, count in found.counts) == len(states)
    assert len(found.sentence) < 700
    if found.change is not None:
        assert isinstance(engine.place(changed(ask, found.change), found.change.row), Grant)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_short_text_without_numbers(reason: Reason) -> None:
    assert not any(char.isdigit() for char in short_reason(reason))


def test_a_misfit_is_named_with_its_numbers() -> None:
    assert explain_misfit(Misfit(Reason.MEMORY, 8000, 512, "main")) == (
        "too little free card memory: 8,000 MiB asked, 512 MiB free (main)"
    )
