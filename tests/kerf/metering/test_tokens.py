"""Tokens and their price: odd counters, renamed models, mixed cards, nothing served."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.metering.tokenprice import Window, difference, model_costs, prices
from kerf.metering.tokens import Start, TokenCounters
from kerf.metering.use import COST_UNITS, CardTime, Line, Use, Who
from kerf.values.engine import ModelReading, Tokens
from kerf.values.policy import TokenSettings
from kerf.values.usage import TokenPrice
from tests.kerf.metering.histories import H100, L4

PLAIN = TokenSettings(half_life_minutes=0)


def money(amount: str) -> int:
    return int(Decimal(amount) * COST_UNITS)


def a_line(workload: str, cost: str, kind=H100, namespace: str = "ns") -> tuple[Line, Use]:
    return (Who("", namespace, workload, "m"), kind), Use(cost=money(cost))


def a_window(lines: list[tuple[Line, Use]], served: dict[tuple[str, str], Tokens], cards=(), minutes=60.0) -> Window:
    """`served` is by (workload, model)."""
    return Window(dict(lines), dict(cards), {("", "ns", w, m): t for (w, m), t in served.items()}, minutes)


def outputs(found: tuple[TokenPrice, ...]) -> dict[str, Decimal]:
    return {price.model: price.output for price in found}


def test_two_dollars_an_hour_at_a_thousand_tokens_a_second_is_0_5556_a_million() -> None:
    window = a_window([a_line("D", "2")], {("D", "m"): Tokens(output=3_600_000)})

    (price,) = prices(window, (), PLAIN)
    assert price.output.quantize(Decimal("0.0001")) == Decimal("0.5556")


def test_input_and_cached_tokens_weigh_less() -> None:
    settings = TokenSettings(Decimal("0.25"), Decimal("0.05"), Decimal(1), half_life_minutes=0)
    # T = 0.25 * 2m + 0.05 * 10m + 1 * 1m = 2m; C = 2: a unit costs 1 a million
    window = a_window([a_line("D", "2")], {("D", "m"): Tokens(2_000_000, 10_000_000, 1_000_000)})

    assert prices(window, (), settings) == (TokenPrice("m", Decimal("0.25"), Decimal("0.05"), Decimal(1)),)


def test_replicas_on_different_cards_are_one_price() -> None:
    window = a_window([a_line("D", "2"), a_line("D", "1", L4)], {("D", "m"): Tokens(output=1_000_000)})

    assert outputs(prices(window, (), PLAIN)) == {"m": Decimal(3)}


def test_a_model_that_is_renamed_pays_what_each_name_served() -> None:
    window = a_window([a_line("D", "4")], {("D", "old"): Tokens(output=3_000_000), ("D", "new"): Tokens(output=10**6)})

    assert model_costs(window, PLAIN) == {"old": 3, "new": 1}
    assert outputs(prices(window, (), PLAIN)) == {"old": 1, "new": 1}


def test_one_model_of_two_workloads_has_one_price() -> None:
    served = {("D", "m"): Tokens(output=1_000_000), ("E", "m"): Tokens(output=3_000_000)}
    window = a_window([a_line("D", "2"), a_line("E", "2")], served)

    assert outputs(prices(window, (), PLAIN)) == {"m": 1}


def test_zero_tokens_keep_the_last_price_and_say_so() -> None:
    last = TokenPrice("m", Decimal(1), Decimal("0.2"), Decimal(4))

    assert prices(a_window([a_line("D", "2")], {("D", "m"): Tokens()}), (last,), PLAIN) == (
        TokenPrice("m", Decimal(1), Decimal("0.2"), Decimal(4), measured=False),
    )
    assert prices(a_window([a_line("D", "2")], {}), (), PLAIN) == ()


def test_a_price_moves_half_way_in_its_half_life() -> None:
    last = TokenPrice("m", Decimal(0), Decimal(0), Decimal(4))
    window = a_window([a_line("D", "2")], {("D", "m"): Tokens(output=10**6)}, minutes=30)

    assert outputs(prices(window, (last,), TokenSettings(half_life_minutes=30))) == {"m": 3}


@pytest.mark.parametrize(("cost", "price"), [("0.001", "0.5"), ("2", "2.4"), ("90", "9")])
def test_margin_floor_and_ceiling(cost: str, price: str) -> None:
    settings = TokenSettings(margin_percent=Decimal(20), floor=Decimal("0.5"), ceiling=Decimal(9), half_life_minutes=0)
    window = a_window([a_line("D", cost)], {("D", "m"): Tokens(output=10**6)})

    assert outputs(prices(window, (), settings)) == {"m": Decimal(price)}


def test_with_idle_a_model_pays_its_part_of_the_idle_cards_of_its_kind() -> None:
    window = a_window(
        [a_line("D", "1"), a_line("E", "1")],
        {("D", "m"): Tokens(output=10**6)},
        [(H100, CardTime(cost=money("6"))), (L4, CardTime(cost=money("100")))],
    )

    assert outputs(prices(window, (), TokenSettings(half_life_minutes=0, with_idle=True))) == {"m": 3}


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 10**9))
def test_what_tokens_bring_in_is_what_the_replicas_cost(cost: int, given_: int, cached: int, made: int) -> None:
    tokens = Tokens(given_, cached, made)
    settings = TokenSettings(half_life_minutes=0, ceiling=Decimal(10_000))
    window = a_window([a_line("D", str(Decimal(cost) / 10**6))], {("D", "m"): tokens})
    (price,) = prices(window, (), settings)
    income = (price.input * given_ + price.cached * cached + price.output * made) / 10**6

    if price.output < settings.ceiling:
        slack = Decimal(given_ + cached + made) / 10**6 / 10**6 + Decimal("0.000001")
        assert abs(income - Decimal(cost) / 10**6) <= slack


def test_a_gateway_that_reports_more_is_shown_by_how_much() -> None:
    measured = {"m": Tokens(50, 0, 50), "n": Tokens(output=10)}

    assert difference(measured, [("m", Tokens(60, 0, 60)), ("x", Tokens(output=1))]) == {"m": 0.2, "n": -1.0, "x": 1.0}


NEW = Start("uid", "t1", watched=True)
OLD = Start("uid", "t1", watched=False)


def a_reading(output: int, model: str = "m", prompt: int = 0, cached: int = 0) -> ModelReading:
    return ModelReading(model, Tokens(prompt, cached, output))


def test_a_container_that_started_under_the_meters_eyes_counts_from_zero() -> None:
    counters = TokenCounters()

    assert counters.read(NEW, [a_reading(60_000)]) == {"m": Tokens(output=60_000)}
    assert counters.read(NEW, [a_reading(60_000)]) == {}
    assert counters.read(NEW, [a_reading(90_000)]) == {"m": Tokens(output=30_000)}


def test_one_that_ran_before_counts_from_its_first_reading() -> None:
    counters = TokenCounters()

    assert counters.read(OLD, [a_reading(60_000)]) == {}
    assert counters.read(OLD, [a_reading(60_500)]) == {"m": Tokens(output=500)}


def test_a_drop_is_a_start_and_the_whole_new_value_counts() -> None:
    counters = TokenCounters()
    counters.read(NEW, [a_reading(60_000)])

    assert counters.read(NEW, [a_reading(7)]) == {"m": Tokens(output=7)}
    assert counters.read(Start("uid", "t2", watched=True), [a_reading(9)]) == {"m": Tokens(output=9)}


def test_a_model_that_appears_later_counts_from_zero() -> None:
    counters = TokenCounters()
    assert counters.read(OLD, [a_reading(10, "a"), a_reading(10, "b")]) == {}

    assert counters.read(OLD, [a_reading(10, "a"), a_reading(5, "lora")]) == {"lora": Tokens(output=5)}


def test_the_next_leader_counts_on() -> None:
    first = TokenCounters()
    first.read(NEW, [a_reading(60_000, prompt=5)])
    second = TokenCounters(first.rows())

    assert second.read(OLD, [a_reading(61_000, prompt=6)]) == {"m": Tokens(input=1, output=1_000)}


def test_pods_that_are_gone_are_forgotten() -> None:
    counters = TokenCounters()
    counters.read(NEW, [a_reading(1)])
    counters.keep([])

    assert counters.rows() == ()


PROMPTS = st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1)), min_size=1, max_size=8)


@given(PROMPTS)
def test_a_prompt_counts_once_however_its_cached_part_moves(prompts: list[tuple[int, float]]) -> None:
    counters, total, counted = TokenCounters(), 0, 0
    for more, part in prompts:
        total += more
        cached = round(total * part)
        found = counters.read(NEW, [a_reading(0, prompt=total - cached, cached=cached)])
        counted += sum(tokens.input + tokens.cached for tokens in found.values())

    assert counted == total


def test_a_cached_part_that_is_counted_late_is_no_second_prompt() -> None:
    counters = TokenCounters()
    counters.read(NEW, [a_reading(5, prompt=100)])

    assert counters.read(NEW, [a_reading(6, prompt=50, cached=60)]) == {"m": Tokens(cached=10, output=1)}
