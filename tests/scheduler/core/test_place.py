"""The joint choice of cards: exact, frugal with init containers, deterministic."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings

from kerf.testing.builders import a_card, a_pod_ask, an_ask
from kerf.values.ask import PodAsk, Selection, Stage
from kerf.values.grant import NO_USE, CardUse, ContainerGrant, Grant, Slice, card_uses
from kerf.values.verdict import Misfit, Reason
from scheduler.core.place import node_misfit, place
from scheduler.core.state import CardState, NodeState
from tests.effort import examples
from tests.scheduler.fleets import choice_of, every_choice, holds, node_states, pod_asks

PACK, WEIGHTS = ("binpack",), (1, 1, 3)


def a_state(*used: CardUse, **card: object) -> NodeState:
    states = tuple(CardState(a_card(i, **{"memory_mib": 10_000, **card}), use) for i, use in enumerate(used))
    return NodeState("node-1", states, 96_000, 786_432)


def slices(grant: Grant | Misfit) -> dict[str, list[str]]:
    assert isinstance(grant, Grant)
    return {container.name: [slice_.card for slice_ in container.slices] for container in grant.containers}


@settings(max_examples=examples(400))
@given(node_states(), pod_asks())
def test_a_pod_is_placed_exactly_when_some_choice_of_cards_holds(node: NodeState, ask: PodAsk) -> None:
    found = place(ask, node, ask.wishes.card_policies, WEIGHTS, check_node=False)

    assert isinstance(found, Grant) == any(holds(ask, choice) for choice in every_choice(ask, node))
    if isinstance(found, Grant):
        assert holds(ask, choice_of(found, node))


@given(node_states(), pod_asks())
def test_a_grant_never_holds_more_than_was_free(node: NodeState, ask: PodAsk) -> None:
    found = place(ask, node, ask.wishes.card_policies, WEIGHTS)
    if isinstance(found, Misfit):
        return
    free = {state.card.id: state.free for state in node.cards}
    for card, use in card_uses(found, {c.name: c.stage for c in ask.containers}).items():
        assert use.peak(free[card]) == free[card]


@given(node_states(), pod_asks())
def test_slices_stand_in_the_order_of_the_cards(node: NodeState, ask: PodAsk) -> None:
    found = place(ask, node, ask.wishes.card_policies, WEIGHTS)
    if isinstance(found, Grant):
        order = [state.card.id for state in node.cards]
        for container in found.containers:
            assert [s.card for s in container.slices] == sorted((s.card for s in container.slices), key=order.index)


def test_binpack_takes_the_fullest_card_and_spread_the_emptiest():
    node = a_state(NO_USE, CardUse(4000, 30, 1), CardUse(1000, 10, 1))
    ask = a_pod_ask("p", an_ask(memory_mib=2000))

    assert slices(place(ask, node, ("binpack",), WEIGHTS)) == {"main": ["GPU-1"]}
    assert slices(place(ask, node, ("spread",), WEIGHTS)) == {"main": ["GPU-0"]}


def test_of_equal_cards_the_first_by_index_is_taken():
    node = a_state(NO_USE, NO_USE, NO_USE)

    grant = place(a_pod_ask("p", an_ask(cards=2, memory_mib=2000)), node, PACK, WEIGHTS)

    assert grant == Grant(
        (ContainerGrant("main", (Slice("GPU-0", "nvidia", 2000, 30), Slice("GPU-1", "nvidia", 2000, 30))),)
    )


def test_two_containers_are_placed_jointly_where_one_by_one_would_fail():
    # free 6000 and 10000: binpack puts the 5000 on the first card's 6000, and then 6000 + ... must go to the second
    node = a_state(CardUse(4000, 0, 1), NO_USE)
    small, large = an_ask(name="small", memory_mib=5000, cores=0), an_ask(name="large", memory_mib=9000, cores=0)

    assert slices(place(a_pod_ask("p", small, large), node, PACK, WEIGHTS)) == {"small": ["GPU-0"], "large": ["GPU-1"]}


def test_containers_that_fit_alone_but_not_together_are_a_joint_misfit():
    node = a_state(NO_USE)
    ask = a_pod_ask("p", an_ask(name="a", memory_mib=6000), an_ask(name="b", memory_mib=5000))

    assert place(ask, node, PACK, WEIGHTS) == Misfit(Reason.JOINT, 2, 1, "b")


def test_an_init_container_reuses_the_card_of_the_app():
    node = a_state(CardUse(1000, 10, 1), NO_USE, NO_USE)
    init = an_ask(name="init", memory_mib=9500, cores=100, stage=Stage.INIT)
    app = an_ask(name="app", memory_mib=9500, cores=100)

    assert slices(place(a_pod_ask("p", init, app), node, PACK, WEIGHTS)) == {"init": ["GPU-1"], "app": ["GPU-1"]}


def test_an_init_container_shares_what_is_free_with_the_sidecars_before_it():
    node = a_state(NO_USE)
    sidecar = an_ask(name="sidecar", memory_mib=4000, cores=0, stage=Stage.SIDECAR)
    init = an_ask(name="init", memory_mib=7000, cores=0, stage=Stage.INIT)
    app = an_ask(name="app", memory_mib=1000, cores=0)

    before = place(a_pod_ask("p", sidecar, init, app), node, PACK, WEIGHTS)
    after = place(a_pod_ask("p", init, sidecar, app), node, PACK, WEIGHTS)

    assert before == Misfit(Reason.JOINT, 3, 2, "init")
    assert slices(after) == {"init": ["GPU-0"], "sidecar": ["GPU-0"], "app": ["GPU-0"]}


def test_cards_of_one_container_come_from_one_numa_node_when_asked():
    states = tuple(CardState(a_card(i, memory_mib=10_000, numa=i % 2), NO_USE) for i in range(4))
    node = NodeState("node-1", states, 0, 0)
    ask = a_pod_ask("p", an_ask(cards=2, memory_mib=2000), selection=Selection(same_numa=True))
    three = a_pod_ask("p", an_ask(cards=3, memory_mib=2000), selection=Selection(same_numa=True))

    assert slices(place(ask, node, PACK, WEIGHTS)) == {"main": ["GPU-0", "GPU-2"]}
    assert place(three, node, PACK, WEIGHTS) == Misfit(Reason.NUMA, 3, 2, "main")


def test_topology_takes_only_cards_that_links_join():
    links = {0: ("GPU-3",), 1: (), 2: ("GPU-4",), 3: ("GPU-0",), 4: ("GPU-2",)}
    states = tuple(CardState(a_card(i, memory_mib=10_000, links=links[i]), NO_USE) for i in range(5))
    node = NodeState("node-1", states, 0, 0)
    two, three = (a_pod_ask("p", an_ask(cards=count, memory_mib=2000)) for count in (2, 3))

    assert slices(place(two, node, ("topology", "binpack"), WEIGHTS)) == {"main": ["GPU-0", "GPU-3"]}
    assert place(three, node, ("topology",), WEIGHTS) == Misfit(Reason.TOPOLOGY, 3, 2, "main")


def test_mutex_takes_only_a_card_that_nobody_holds():
    node = a_state(CardUse(1000, 10, 1), NO_USE)
    ask = a_pod_ask("p", an_ask(memory_mib=2000))

    assert slices(place(ask, node, ("mutex", "binpack"), WEIGHTS)) == {"main": ["GPU-1"]}
    two = a_pod_ask("p", an_ask(cards=2, memory_mib=2000))
    assert place(two, node, ("mutex",), WEIGHTS) == Misfit(Reason.EXCLUSIVE, 2, 1, "main")


def test_a_price_is_used_where_the_chain_says_binpack():
    node = a_state(CardUse(1000, 10, 1), NO_USE, NO_USE)
    ask = a_pod_ask("p", an_ask(memory_mib=2000))
    price = {"GPU-0": 5, "GPU-1": 5, "GPU-2": 1}

    assert slices(place(ask, node, ("binpack",), WEIGHTS, price=price)) == {"main": ["GPU-2"]}
    assert slices(place(ask, node, ("spread",), WEIGHTS, price=price)) == {"main": ["GPU-1"]}


def test_a_pod_that_asks_for_no_card_gets_an_empty_grant():
    assert place(PodAsk("default", "p", "u"), a_state(NO_USE), PACK, WEIGHTS) == Grant()


@pytest.mark.parametrize(
    ("changes", "misfit"),
    [
        ({"cpu_milli": 96_001}, Misfit(Reason.NODE, 96_001, 96_000, "cpu")),
        ({"memory_mib": 786_433}, Misfit(Reason.NODE, 786_433, 786_432, "memory")),
    ],
)
def test_the_node_itself_is_checked_only_when_asked(changes: dict[str, int], misfit: Misfit) -> None:
    ask = a_pod_ask("p", **changes)
    node = a_state(NO_USE)

    assert place(ask, node, PACK, WEIGHTS) == misfit
    assert isinstance(place(ask, node, PACK, WEIGHTS, check_node=False), Grant)


def test_a_cordoned_node_takes_no_pod():
    node = NodeState("node-1", a_state(NO_USE).cards, 96_000, 786_432, schedulable=False)

    assert node_misfit(a_pod_ask("p"), node) == Misfit(Reason.NODE, detail="cordoned")


def test_a_search_without_end_is_given_up():
    # nine containers of 51 % on eight cards: no two share a card, so one is left over, whatever is tried
    node = a_state(*[CardUse(i, 0, 1) for i in range(8)])
    asks = [an_ask(name=f"c{i}", memory_mib=5100, cores=0) for i in range(9)]

    assert place(a_pod_ask("p", *asks), node, PACK, WEIGHTS) == Misfit(Reason.JOINT, 9, 8, "c8")


def test_the_answer_does_not_depend_on_the_hash_seed():
    program = (
        "from kerf.testing.builders import a_card, a_pod_ask, an_ask\n"
        "from kerf.values.grant import NO_USE\n"
        "from scheduler.core.place import place\n"
        "from scheduler.core.state import CardState, NodeState\n"
        "links = {i: tuple(f'GPU-{j}' for j in range(8) if j % 2 == i % 2 and j != i) for i in range(8)}\n"
        "cards = tuple(CardState(a_card(i, links=links[i]), NO_USE) for i in range(8))\n"
        "ask = a_pod_ask('p', an_ask(name='a', cards=3), an_ask(name='b', cards=2))\n"
        "print(place(ask, NodeState('n', cards, 0, 0), ('topology', 'spread'), (1, 1, 3)))\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }

    assert len(answers) == 1


def test_cards_of_one_container_are_of_one_model_when_asked():
    models = ("H100", "H100", "H200", "H200")
    states = tuple(CardState(a_card(i, memory_mib=10_000, model=model), NO_USE) for i, model in enumerate(models))
    busy = (replace(states[0], used=CardUse(9_000, 0, 1)), *states[1:])
    ask = a_pod_ask("p", an_ask(cards=2, memory_mib=2000), selection=Selection(same_model=True))
    three = a_pod_ask("p", an_ask(cards=3, memory_mib=2000), selection=Selection(same_model=True))

    found = place(ask, NodeState("n", busy, 100, 100), ("binpack",), (1, 1, 3))

    assert [piece.card for piece in found.containers[0].slices] == [states[2].card.id, states[3].card.id]
    assert place(three, NodeState("n", states, 100, 100), ("binpack",), (1, 1, 3)) == Misfit(Reason.MODEL, 3, 2, "main")
