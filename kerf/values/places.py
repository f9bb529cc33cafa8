"""Places on a card: where slices lie, and which slices can lie beside each other, as one number that adds up.

Some cards ask for more than free memory, cores and slots: a MIG instance needs the right memory slices, a card that
holds shares of one size takes no other size, a card of one sharing policy takes no other policy. All of these are
counters, one for each position, size or policy of the card. A slice adds to some counters and needs others to be zero.
The counters of a card are the digits of one number, so that what several pods hold can be added, subtracted and kept
in an array of 64-bit integers.
"""

from typing import NamedTuple

DIGITS = 8
"""Counters that a card can have: MIG has eight memory slices."""
WIDTH = 7
"""Bits of a counter. More slices than 127 fit on no card that has places."""
_ONES = (1 << WIDTH) - 1
EVERYWHERE = (1 << WIDTH * DIGITS) - 1


class Place(NamedTuple):
    """A place for a slice: what it adds to the card's counters, and the counters that have to be zero before."""

    adds: int
    blocked: int


def one(*digits: int) -> int:
    """One in each of these counters."""
    return sum(1 << WIDTH * digit for digit in digits)


def whole(*digits: int) -> int:
    """Every bit of these counters: a number has no bit in common with it where all of them are zero."""
    return sum(_ONES << WIDTH * digit for digit in digits)


def counters(number: int) -> tuple[int, ...]:
    """The counters, the first one first."""
    return tuple(number >> WIDTH * digit & _ONES for digit in range(DIGITS))


def most_places(one_number: int, other: int) -> int:
    """The larger of the two, counter by counter."""
    if one_number == other or not other:
        return one_number
    if not one_number:
        return other
    pairs = zip(counters(one_number), counters(other), strict=True)
    return sum(max(pair) << WIDTH * digit for digit, pair in enumerate(pairs))


def first_free(places: tuple[Place, ...], used: int) -> Place | None:
    """The first place that is free beside what is used; None where none is."""
    return next((place for place in places if not used & place.blocked), None)
