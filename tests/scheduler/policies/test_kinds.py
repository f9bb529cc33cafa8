"""The order among kinds: waited too long, wanted by others, price, the pod's own order."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.pricing.prices import PriceList, PriceRow, SpeedRow
from kerf.testing.builders import a_card
from kerf.values.accepts import AcceptsOrder
from kerf.values.grant import CardUse
from kerf.values.supply import Supply
from scheduler.policies.kinds import Cost, KindOption, choose_kind, cost_of, together

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"
PRICES = PriceList(
    prices=tuple(PriceRow(model, Supply.RENTED, Decimal(price), "s", "d") for model, price in ((H100, 4), (A100, 2))),
    speeds=(SpeedRow(H100, 1.0, "s", "d"), SpeedRow(A100, 0.4, "s", "d")),
)


def cost(hour: str, throughput: str | None = None) -> Cost:
    return Cost("m", Decimal(hour), Decimal(throughput or hour), "USD")


def an_option(name: str, hour: str = "1", throughput: str | None = None, **changes) -> KindOption:
    return KindOption(name, **{"model": name.upper(), "cost": cost(hour, throughput), **changes})


def chosen(*options: KindOption, order: AcceptsOrder = AcceptsOrder.THROUGHPUT) -> str:
    return options[choose_kind(options, order).number].name


def test_the_cheapest_throughput_wins_and_the_order_may_be_price_or_the_pods_own() -> None:
    options = (an_option("l", "3", "3"), an_option("slow", "1", "9"), an_option("fast", "4", "2"))

    assert [chosen(*options, order=order) for order in AcceptsOrder] == ["fast", "slow", "l"]


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"no_place": "full"}, {"hour": "9"}),
        ({"waited_too_long": True}, {"hour": "9"}),
        ({"wanted": "default/big"}, {"hour": "9"}),
        ({"waited_too_long": True}, {"wanted": "default/big"}),
        ({"cost": None}, {"hour": "9"}),
        ({"no_place": "no such card", "final": True}, {"no_place": "full"}),
        ({"no_place": "full", "waited_too_long": True}, {"no_place": "no such card", "final": True}),
    ],
    ids=["no place", "too long", "wanted", "too long beside wanted", "no price", "never", "too long without a place"],
)
def test_what_speaks_against_a_kind_weighs_more_than_its_price(worse: dict, better: dict) -> None:
    assert chosen(an_option("worse", **worse), an_option("better", **better)) == "better"


def test_equal_kinds_are_taken_in_the_pods_own_order() -> None:
    assert chosen(an_option("a"), an_option("b")) == "a"


def test_the_answer_says_why_with_numbers() -> None:
    why = choose_kind((an_option("a", "1.5", "3"), an_option("b", no_place="2 nodes: memory")), AcceptsOrder.PRICE).why

    assert why == ("fits on A at 1.50 USD an hour, 3.00 for an H100's throughput; b: does not fit: 2 nodes: memory")


def test_a_slice_pays_for_its_greater_part_and_computes_with_its_cores() -> None:
    card = a_card(model=A100, memory_mib=80_000)

    with_cores = cost_of(card, CardUse(20_000, 50, 1), PRICES, "rented", "")
    without = cost_of(card, CardUse(20_000, 0, 1), PRICES, "rented", "")

    assert with_cores == Cost(A100, Decimal(1), Decimal(5), "USD")
    assert without == Cost(A100, Decimal("0.5"), Decimal(5), "USD")
    assert cost_of(a_card(model="Ascend910B3"), CardUse(1, 1, 1), PRICES, "owned", "") is None


def test_several_slices_cost_their_sum_for_all_that_they_compute() -> None:
    assert together([cost("1", "2"), cost("3", "2")]) == cost("4", "2")


OPTIONS = st.builds(
    KindOption,
    name=st.sampled_from("abc"),
    model=st.just("M"),
    cost=st.none() | st.builds(cost, st.sampled_from(["0", "1", "2"])),
    no_place=st.sampled_from(["", "full"]),
    final=st.booleans(),
    waited_too_long=st.booleans(),
    wanted=st.sampled_from(["", "default/p"]),
)


@given(st.lists(OPTIONS, min_size=1, max_size=6), st.sampled_from(AcceptsOrder))
def test_no_kind_without_a_place_is_chosen_while_another_has_one(
    options: list[KindOption], order: AcceptsOrder
) -> None:
    choice = choose_kind(options, order)

    assert bool(options[choice.number].no_place) == all(option.no_place for option in options)
    assert options[choice.number].name in choice.why or options[choice.number].model in choice.why
