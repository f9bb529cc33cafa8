"""The least that a fleet's cards can cost for some replicas, by trying every number of opened cards of each model.

It shares nothing with Kerf's solver. What clusters and spread allow is left out, so no plan can cost less. Nodes and
their CPU are left out too, for the same reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Model:
    """Cards of one model. `prices` has one entry a card, of all clusters; `slices` is (MiB, cores) by workload."""

    memory_mib: int
    prices: tuple[int, ...]
    slices: Mapping[str, tuple[int, int]]
    slots: int = 10

    def fillings(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        """Every way to fill one card that takes no further slice. A slice of all cores is alone."""
        found = [ways for ways in self._ways(names) if any(ways)]
        return [way for way in found if not any(_more(other, way) for other in found)]

    def _ways(self, names: Sequence[str]) -> Iterator[tuple[int, ...]]:
        most = []
        for name in names:
            memory, cores = self.slices.get(name, (self.memory_mib + 1, 0))
            most.append(min(self.memory_mib // memory, 100 // cores if cores else self.slots, self.slots))
        for way in product(*(range(n + 1) for n in most)):
            asked = [(*self.slices[name], n) for name, n in zip(names, way, strict=True) if n]
            if (
                sum(m * n for m, _, n in asked) <= self.memory_mib
                and sum(c * n for _, c, n in asked) <= 100
                and sum(way) <= self.slots
            ):
                yield way


def _more(other: tuple[int, ...], way: tuple[int, ...]) -> bool:
    return other != way and all(a >= b for a, b in zip(other, way, strict=True))


def least_cost(models: Sequence[Model], wanted: Mapping[str, int], below: int) -> int:
    """The least price of cards that hold all that is wanted; `below` where nothing cheaper than that does."""
    names = [name for name, n in wanted.items() if n]
    goal = tuple(wanted[name] for name in names)
    start = np.zeros([n + 1 for n in goal], bool)
    start[(0,) * len(goal)] = True
    return _best([sorted_by_price(each, names) for each in models], start, 0, below)


def sorted_by_price(model: Model, names: Sequence[str]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """The cheapest cards of a model come first: which of them is opened makes no other difference."""
    return tuple(sorted(model.prices)), model.fillings(names)


def _best(left: list[tuple[tuple[int, ...], list[tuple[int, ...]]]], held: Bools, cost: int, below: int) -> int:
    """`held` marks the numbers of slices that have a place on the cards that were opened."""
    if not left:
        return cost if held[tuple(n - 1 for n in held.shape)] and cost < below else below
    prices, fillings = left[0]
    for opened in range(len(prices) + 1):
        if opened:
            cost += prices[opened - 1]
            held = _with_one_more(held, fillings)
        if cost >= below:
            break
        below = _best(left[1:], held, cost, below)
    return below


def _with_one_more(held: Bools, fillings: list[tuple[int, ...]]) -> Bools:
    """What one more card adds; beyond what is wanted a slice counts for nothing."""
    found = held.copy()
    for way in fillings:
        moved = held
        for axis, n in enumerate(way):
            moved = _shifted(moved, axis, n)
        found |= moved
    return found


def _shifted(held: Bools, axis: int, by: int) -> Bools:
    size = held.shape[axis]
    by = min(by, size - 1)
    if not by:
        return held
    found = np.zeros_like(held)
    line = np.moveaxis(found, axis, 0)
    source = np.moveaxis(held, axis, 0)
    line[by:] = source[: size - by]
    line[-1] |= source[size - by - 1 :].any(0)
    return found
