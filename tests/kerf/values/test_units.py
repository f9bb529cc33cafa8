"""Quantities are exact, whatever the notation."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.units import milli, parse_quantity, parse_whole, show, show_mib, to_mib

# Written out, not computed as the parser does: the reference must not share its mistakes.
FACTORS = {
    "": 1,
    "k": 1_000,
    "M": 1_000_000,
    "G": 1_000_000_000,
    "T": 1_000_000_000_000,
    "P": 1_000_000_000_000_000,
    "E": 1_000_000_000_000_000_000,
    "Ki": 1_024,
    "Mi": 1_048_576,
    "Gi": 1_073_741_824,
    "Ti": 1_099_511_627_776,
    "Pi": 1_125_899_906_842_624,
    "Ei": 1_152_921_504_606_846_976,
    "m": Fraction(1, 1_000),
    "u": Fraction(1, 1_000_000),
    "n": Fraction(1, 1_000_000_000),
    "e3": 1_000,
    "E+6": 1_000_000,
    "e-3": Fraction(1, 1_000),
}
DECIMALS = st.decimals(min_value=0, max_value=10**12, places=3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3k", 3_000),
        ("8000", 8_000),
        (8000, 8_000),
        ("1.5Gi", 1_610_612_736),  # 1.5 * 2^30
        ("1e3", 1_000),
        ("1E", 10**18),
        ("1E2", 100),
        ("250m", Fraction(1, 4)),
        ("0.1", Fraction(1, 10)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("-2Ki", -2_048),
        ("+7", 7),
        (1.5, Fraction(3, 2)),
    ],
)
def test_a_notation_is_its_number(text: object, value: Fraction | int) -> None:
    assert parse_quantity(text) == value


@given(DECIMALS, st.sampled_from(sorted(FACTORS)), st.sampled_from(["", "-", "+"]))
def test_every_notation_is_exact(number: Decimal, suffix: str, sign: str) -> None:
    expected = Fraction(str(number)) * FACTORS[suffix] * (-1 if sign == "-" else 1)

    assert parse_quantity(f"{sign}{number:f}{suffix}") == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", "k", "1kk", "1 k", "1,5", "1..5", "0x10", "1e", "1e19", "1e-19", "1e1.5", "--1", "+-1", "NaN"),
        *("\u0661", "1" * 65, None, True, [], {}, float("inf"), float("nan")),
    ],
)
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 2**31 - 1))
def test_whole_numbers_come_back(number: int) -> None:
    assert parse_whole(str(number)) == number


@pytest.mark.parametrize(
    ("text", "why"),
    [("1.5", "1.5 is not a whole number"), ("-1", "-1 is outside 0..100"), ("101", "101 is outside 0..100")],
)
def test_a_number_that_is_not_whole_or_out_of_bounds_says_so(text: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared)
        parse_whole(text, most=100)

    assert str(caught.value) == why


@given(st.integers(0, 10**15))
def test_mib_and_milli_are_rounded_up(number: int) -> None:
    # the smallest whole number of MiB, of thousandths, that holds the amount
    assert (to_mib(str(number)) - 1) * 1_048_576 < number <= to_mib(str(number)) * 1_048_576
    assert milli(f"{number}u") - 1 < Fraction(number, 1_000) <= milli(f"{number}u")


def test_numbers_for_people() -> None:
    assert (show(28_400), show_mib(81_559)) == ("28,400", "81,559 MiB")
