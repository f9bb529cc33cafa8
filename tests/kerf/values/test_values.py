"""Asks, cards and pools: the arithmetic that every decision rests on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_node_value, a_pod_ask, an_ask
from kerf.values.ask import ContainerAsk
from kerf.values.policy import Pool, SchedulingPolicy


@pytest.mark.parametrize("amounts", [{}, {"memory_mib": 1, "memory_percent": 1}], ids=["neither", "both"])
def test_an_ask_names_memory_in_exactly_one_way(amounts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exactly one of memory_mib and memory_percent"):
        ContainerAsk("main", 1, **amounts)


@given(st.integers(1, 2**31 - 1), st.lists(st.integers(1, 100), min_size=1).filter(lambda parts: sum(parts) <= 100))
def test_percentages_that_add_up_to_a_card_fit_on_it(factory: int, parts: list[int]) -> None:
    asked = [an_ask(memory_percent=part).memory_on(factory) for part in parts]

    assert sum(asked) <= factory


def test_mib_are_mib_on_every_card() -> None:
    assert an_ask(memory_mib=8000).memory_on(81_559) == 8000


def test_all_of_a_cards_cores_make_it_exclusive() -> None:
    assert (an_ask(cores=99).exclusive, an_ask(cores=100).exclusive) == (False, True)


def test_pods_of_equal_shape_differ_in_name_and_priority_only() -> None:
    one, two = a_pod_ask("a"), a_pod_ask("b", priority=7)

    assert one.shape == two.shape
    assert one.shape != a_pod_ask("c", an_ask(cores=31)).shape
    assert one.key == "default/a"


def test_overcommitment_multiplies_the_hardware_once() -> None:
    card = a_card(memory_mib=80_000).overcommitted(1.5, 2.0)

    assert (card.memory_mib, card.cores, card.factory_memory_mib) == (120_000, 200, 80_000)
    assert card.overcommitted(1.5, 1.0).memory_mib == 120_000


def test_a_node_belongs_to_the_first_pool_that_selects_it() -> None:
    policy = SchedulingPolicy(
        pools=(Pool("l4", (("gpu", "l4"),), 2.0, 3.0), Pool("rest", (), 1.5, 1.0), Pool("never", (), 9.0, 9.0))
    )

    assert policy.factors(a_node_value(labels=(("gpu", "l4"), ("zone", "a")))) == (2.0, 3.0)
    assert policy.factors(a_node_value(labels=(("gpu", "h100"),))) == (1.5, 1.0)
    assert SchedulingPolicy().factors(a_node_value()) == (1.0, 1.0)


def test_a_node_finds_its_cards_by_id() -> None:
    node = a_node_value("n", 2)

    assert (node.card("GPU-n-1"), node.card("GPU-x")) == (node.cards[1], None)
