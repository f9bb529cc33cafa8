"""What free space on a card is worth: dual prices of the share sizes in use, by column generation.

Cards are bins, slices are items. The cheapest way to pack the workload (the linear relaxation of cutting stock) gives
every size a price: the part of a card that one more slice of that size really costs. A free space is then worth the
dearest set of slices that fits into it, and placing a slice loses what the space was worth beyond the slice itself.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scheduler.core.columns import Ints

UNITS = 100
"""A card in the steps of the table: shares are rounded up to 1 %."""
WORTH = 1000
"""Worth of an empty card."""
_ROUNDS = 400  # columns; openb's 45 sizes take about 80
_EPS = 1e-9

Reals = NDArray[np.float64]
Sizes = tuple[tuple[int, int], ...]
"""(size in units, how often), sizes distinct and ascending."""


@lru_cache(maxsize=256)
def worth(sizes: Sizes) -> Ints:
    """Worth of 0..UNITS free units of a card, in thousandths of an empty one: 0 where no size comes. Read-only."""
    if not sizes:
        table = np.zeros(UNITS + 1, np.int64)
    else:
        prices = np.rint(_duals(sizes) * WORTH)
        value, _ = _knapsack(np.array([size for size, _ in sizes]), prices)
        table = np.minimum(value, WORTH).astype(np.int64)
    table.flags.writeable = False
    return table


def _duals(sizes: Sizes) -> Reals:
    """The price of each size in cards: the duals of the covering problem at its optimum."""
    widths = np.array([size for size, _ in sizes])
    demand = np.array([float(count) for _, count in sizes])
    inverse = np.diag(1.0 / (UNITS // widths))
    amounts = demand * np.diag(inverse)
    for _ in range(_ROUNDS):
        prices: Reals = inverse.sum(0)
        value, pattern = _knapsack(widths, prices)
        if value[UNITS] <= 1 + _EPS:
            break
        step = (inverse * pattern).sum(1)
        ratio = np.where(step > _EPS, amounts / np.where(step > _EPS, step, 1.0), np.inf)
        leaving = int(ratio.argmin())
        amounts -= step * ratio[leaving]
        amounts[leaving] = ratio[leaving]
        inverse[leaving] /= step[leaving]
        others = np.arange(len(widths)) != leaving
        inverse[others] -= step[others, None] * inverse[leaving]
    duals: Reals = np.maximum(inverse.sum(0), 0.0)
    return duals


def _knapsack(widths: Ints, prices: Reals) -> tuple[Reals, Ints]:
    """Dearest content of 0..UNITS free units, and the content of a whole card."""
    best = np.zeros(UNITS + 1)
    last = np.full(UNITS + 1, -1)
    for free in range(int(widths.min()), UNITS + 1):
        fitting = np.flatnonzero(widths <= free)
        values = best[free - widths[fitting]] + prices[fitting]
        dearest = int(values.argmax())
        best[free] = best[free - 1]
        if values[dearest] > best[free]:
            best[free], last[free] = values[dearest], fitting[dearest]
    pattern = np.zeros(len(widths), np.int64)
    free = UNITS
    while free > 0:
        if last[free] < 0:
            free -= 1
            continue
        pattern[last[free]] += 1
        free -= int(widths[last[free]])
    return best, pattern
