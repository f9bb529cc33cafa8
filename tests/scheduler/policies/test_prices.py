"""What free space is worth: duals of cutting the workload out of whole cards."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.policies.prices import UNITS, WORTH, _duals, worth
from tests.effort import examples

sizes = st.dictionaries(st.integers(10, 100), st.integers(1, 50), min_size=1, max_size=4).map(
    lambda found: tuple(sorted(found.items()))
)


def test_half_a_card_is_worth_half_when_halves_come():
    assert [int(worth(((50, 1),))[free]) for free in (0, 49, 50, 99, 100)] == [0, 0, 500, 500, 1000]


def test_a_size_that_fills_a_card_alone_is_worth_all_of_it():
    # 81 % leaves 19 %, which nothing here can use: the small slices do not pay for the card, the large ones do
    assert [int(worth(((10, 1), (81, 20)))[free]) for free in (10, 80, 81, 100)] == [0, 0, 1000, 1000]


def test_space_that_nothing_comes_for_is_worth_nothing():
    assert worth(()).tolist() == [0] * (UNITS + 1)


def test_the_duals_solve_the_cutting_stock_of_two_sizes():
    # sizes 60 and 40 in equal numbers fit pairwise: one card a pair, so the prices add up to one
    assert float(_duals(((40, 10), (60, 10))).sum()) == 1.0


@settings(max_examples=examples(60))
@given(sizes)
def test_no_content_of_a_card_is_dearer_than_the_card(found: tuple[tuple[int, int], ...]) -> None:
    prices = _duals(found)
    widths = [size for size, _ in found]
    for pattern in product(*(range(UNITS // width + 1) for width in widths)):
        if sum(n * width for n, width in zip(pattern, widths, strict=True)) <= UNITS:
            assert float(np.dot(pattern, prices)) <= 1 + 1e-6


@settings(max_examples=examples(60))
@given(sizes)
def test_more_space_is_never_worth_less(found: tuple[tuple[int, int], ...]) -> None:
    table = worth(found)

    assert (np.diff(table) >= 0).all()
    assert (int(table[0]), int(table.max()) <= WORTH) == (0, True)
