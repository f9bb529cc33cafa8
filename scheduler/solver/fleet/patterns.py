"""Every way to fill one card with slices of a fleet's workloads, as rows of counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.solver.fleet.problem import Held, Kind, Piece, Space

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]
MOST_ROWS = 60_000
"""Rows that one card's patterns may need; beyond, only some are made and the bound is looser."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """The ways to fill a card with a given free space. `exact`: none is missing."""

    space: Space
    rows: Reals
    """One row a pattern, one column an item."""
    price: Reals
    """The part of the card's price that each pattern pays."""
    exact: bool
    sizes: Reals
    """Memory, cores and slots of each item as parts of the free space."""

    def best(self, worth: Reals, price: int) -> tuple[int, float]:
        """The row with the largest worth beyond its price, and that amount."""
        if not len(self.rows):
            return -1, 0.0
        values = self.rows @ worth - self.price * price
        row = int(values.argmax())
        return row, float(values[row])

    def most(self, worth: Reals, price: int) -> float:
        """No filling is worth more beyond its price than this."""
        _, found = self.best(worth, price)
        if self.exact:
            return max(found, 0.0)
        paid = price if self.space.held is Held.EMPTY else 0
        dense = [float((worth / np.maximum(size, 1e-9)).clip(0).max(initial=0.0)) for size in self.sizes]
        return max(found, min(dense) - paid, 0.0)


def patterns(kind: Kind, space: Space, items: Sequence[Piece]) -> Patterns:
    """Fill a card. Where a plan pays for the whole card, only fillings that take no further slice are kept."""
    sizes = np.array([(each.memory_mib, each.cores, 1) for each in items], np.int64).reshape(len(items), 3)
    free = np.array((space.memory_mib, space.cores, space.slots), np.int64)
    lone = np.array([each.alone for each in items], bool)
    rows, exact = _combine(sizes, free, lone)
    if exact and space.held is not Held.SHARED:
        left = free - rows @ sizes
        more = np.zeros(len(rows), bool)
        for i in np.flatnonzero(~lone):
            more |= _most(left, sizes[i]) > 0
        rows = rows[~more]
    untouched = space == kind.empty
    singles = np.eye(len(items), dtype=np.int64)[lone & (sizes <= free).all(1) & untouched]
    rows = np.concatenate([rows[rows.any(1)], singles])
    shares = np.array([each.share(kind) for each in items])
    paid = {Held.EMPTY: np.ones(len(rows)), Held.PAID: np.zeros(len(rows))}.get(space.held, rows @ shares)
    return Patterns(space, rows.astype(np.float64), paid, exact, (sizes / np.maximum(free, 1)).T)


def _combine(sizes: Counts, free: Counts, lone: NDArray[np.bool_]) -> tuple[Counts, bool]:
    """Every set of slices that share a card, the largest slices first; whether none is missing."""
    rows = np.zeros((1, len(sizes)), np.int64)
    left = free[None, :].copy()
    order = [i for i in np.argsort(-(sizes / np.maximum(free, 1)).max(1), kind="stable") if not lone[i]]
    for done, i in enumerate(order):
        most = _most(left, sizes[i])
        if (most + 1).sum() > MOST_ROWS:
            return _with_one_more(rows, left, sizes, order[done:]), False
        at = np.repeat(np.arange(len(rows)), most + 1)
        count = np.arange(len(at)) - np.repeat(np.cumsum(most + 1) - (most + 1), most + 1)
        rows, left = rows[at], left[at] - count[:, None] * sizes[i]
        rows[:, i] = count
    return rows, True


def _with_one_more(rows: Counts, left: Counts, sizes: Counts, rest: Sequence[int]) -> Counts:
    """Each row filled up with slices of one of the sizes that are left."""
    rows, left = rows[: MOST_ROWS // len(rest)], left[: MOST_ROWS // len(rest)]
    filled = []
    for i in rest:
        more = rows.copy()
        more[:, i] = _most(left, sizes[i])
        filled.append(more)
    return np.concatenate(filled)


def _most(left: Counts, size: Counts) -> Counts:
    """How many slices of one size fit into each space."""
    fits = np.full(len(left), 1 << 20, np.int64)
    for column in range(3):
        if size[column]:
            fits = np.minimum(fits, left[:, column] // size[column])
    return fits.clip(0)
