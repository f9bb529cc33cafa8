"""Node policy `fragmentation`: place where the fleet stays most useful to the pods that usually come.

For every class of the target workload, the free part of a node's cards is useful if the class could run there now: the
cards have its memory and its cores free, there are enough of them, and the node has the CPU. The cost of a placement
is the useful amount that it destroys beyond its own size, plus what the space on the card was worth beyond the slice
(`prices`). Costs are rounded to buckets, and nodes of one bucket are taken in the order of their names: fine costs with
random ties scatter pods over the fleet, coarse costs with a fixed order fill it from one end.

All amounts are thousandths of a card, weights are whole numbers, and sums stay below 2**53, so that float arithmetic
on them is exact and the answer is the same everywhere.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kerf.model.ask import ContainerAsk
from kerf.model.device import Card
from scheduler.core.bulk import needed_memory
from scheduler.core.columns import Bools, Columns, Ints
from scheduler.core.fit import accepts
from scheduler.core.preference import PERMILLE
from scheduler.policies.prices import UNITS, Sizes, worth
from scheduler.policies.workload import WHOLE, Kind, Target

BUCKET = 40
"""Thousandths of a card. Measured on openb: 20 to 150 differ by 0.1 points, exact costs lose 1 point."""
CHUNK = 1024  # rows evaluated at once, to bound memory

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lens:
    """A target compiled for the kinds of cards of a fleet. Demands are distinct slices, `of` maps classes to them."""

    memory: Ints  # kinds by demands: MiB needed, _NEVER where the demand does not accept the kind
    cores: Ints  # per demand
    of: Ints  # per class
    cpu: Ints  # per class
    cards: Ints  # per class
    weight: Reals  # per class
    worth: Ints  # kinds by UNITS + 1
    slack: Ints  # kinds by UNITS + 1: the least that placing a slice of this size can lose


_NEVER = 2**60
_NO_CARD = Card("", 0, "", "", memory_mib=1)  # columns without a card are of kind 0


def compile_lens(target: Target, kinds: tuple[Card, ...]) -> Lens:
    """Prepare a target for these kinds of cards, each given by an example."""
    kinds = kinds or (_NO_CARD,)
    demands = sorted({_slice_of(kind) for kind, _ in target.kinds})
    memory = [[_memory(demand, card) for demand in demands] for card in kinds]
    tables = np.array([worth(_sizes(target, card)) for card in kinds], np.int64).reshape(len(kinds), UNITS + 1)
    return Lens(
        memory=np.array(memory, np.int64).reshape(len(kinds), len(demands)),
        cores=np.array([demand.cores for demand in demands], np.int64),
        of=np.array([demands.index(_slice_of(kind)) for kind, _ in target.kinds], np.int64),
        cpu=np.array([kind.cpu_milli for kind, _ in target.kinds], np.int64),
        cards=np.array([kind.cards for kind, _ in target.kinds], np.int64),
        weight=np.array([weight for _, weight in target.kinds], np.float64),
        worth=tables,
        slack=_slack(tables),
    )


def _slice_of(kind: Kind) -> Kind:
    return replace(kind, cpu_milli=0, cards=1)


def _memory(demand: Kind, card: Card) -> int:
    accepted = accepts(demand.selection, replace(demand.ask, vendor=card.vendor), card)
    return demand.ask.memory_on(card.factory_memory_mib) if accepted else _NEVER


def _sizes(target: Target, card: Card) -> Sizes:
    """The share sizes, rounded up to the table's units, that the target brings to a kind of card."""
    found: dict[int, int] = {}
    for kind, weight in target.kinds:
        memory = _memory(_slice_of(kind), card)
        if memory <= card.factory_memory_mib:
            share = max(-(-memory * UNITS // max(card.factory_memory_mib, 1)), min(kind.cores, UNITS), 1)
            found[share] = found.get(share, 0) + weight * kind.cards
    return tuple(sorted(found.items()))


def _slack(tables: Ints) -> Ints:
    sizes = range(UNITS + 1)
    slack = [(tables[:, size:] - tables[:, : UNITS + 1 - size]).min(1) for size in sizes]
    return np.array(slack, np.int64).T.reshape(tables.shape)


@dataclass(frozen=True, slots=True)
class _Free:
    """What is free on cards: MiB and percent of SMs (negative on a card that takes no slice), and the smaller share."""

    memory: Ints
    cores: Ints
    share: Ints  # thousandths of the card

    @classmethod
    def of(cls, columns: Columns) -> "_Free":
        open_ = columns.present & columns.usable & (columns.used_slots < columns.slots)
        return cls.left(
            open_,
            (columns.memory - columns.used_memory, columns.memory),
            (columns.cores - columns.used_cores, columns.cores),
        )

    @classmethod
    def left(cls, open_: Bools, memory: tuple[Ints, Ints], cores: tuple[Ints, Ints]) -> "_Free":
        """Of (free, total) memory and cores."""
        shares = [free * PERMILLE // np.maximum(total, 1) for free, total in (memory, cores)]
        share = np.maximum(np.minimum(*shares), 0) * open_
        return cls(np.where(open_, memory[0], -1), np.where(open_, cores[0], -1), share)

    def serves(self, kind: Ints, lens: Lens) -> Bools:
        """Which demands each card could serve: one more axis."""
        found: Bools = (lens.memory[kind] <= self.memory[..., None]) & (lens.cores <= self.cores[..., None])
        return found


def _useful(count: Ints, amount: Ints, cpu: Ints, lens: Lens) -> Reals:
    """Weighted useful amount from, per node and demand, the number of cards that serve it and their free shares."""
    runs = (count[:, lens.of] >= lens.cards) & (cpu[:, None] >= lens.cpu)
    useful: Reals = (amount[:, lens.of] * runs) @ lens.weight
    return useful


def _loss(kind: Ints, before: Ints, after: Ints, lens: Lens) -> Ints:
    """What the space on a card was worth beyond the slices placed there."""
    per_unit = PERMILLE // UNITS
    size = -((after - before) // per_unit)
    lost = lens.worth[kind, before // per_unit] - lens.worth[kind, after // per_unit] - lens.slack[kind, size]
    loss: Ints = np.maximum(lost, 0)
    return loss


def _bucket(useful_lost: Reals, placed: Ints, loss: Ints) -> Ints:
    exact: Ints = useful_lost.astype(np.int64) + (loss - placed) * WHOLE
    return exact // (BUCKET * WHOLE)


def price(ask: ContainerAsk, cpu_milli: int, columns: Columns, fits: Bools, lens: Lens) -> Ints:
    """Cost, in buckets, of one slice of the container on each card that fits; 0 on the others."""
    out = np.zeros(fits.shape, np.int64)
    for start in range(0, columns.rows, CHUNK):
        part = columns.take(np.arange(start, min(start + CHUNK, columns.rows)))
        out[start : start + CHUNK] = _price(ask, cpu_milli, part, fits[start : start + CHUNK], lens)
    return out


def _price(ask: ContainerAsk, cpu_milli: int, columns: Columns, fits: Bools, lens: Lens) -> Ints:
    free = _Free.of(columns)
    serves = free.serves(columns.kind, lens)
    count, amount = serves.sum(1), (serves * free.share[..., None]).sum(1)
    useful = _useful(count, amount, columns.cpu, lens)
    row, card = np.nonzero(fits)
    at = (row, card)
    left = _Free.left(
        columns.used_slots[at] + 1 < columns.slots[at],
        ((columns.memory - columns.used_memory - needed_memory(ask, columns))[at], columns.memory[at]),
        ((columns.cores - columns.used_cores)[at] - ask.cores, columns.cores[at]),
    )
    still = left.serves(columns.kind[at], lens)
    had = serves[at]
    share = free.share[at]
    useful_then = _useful(
        count[row] - had + still,
        amount[row] - had * share[:, None] + still * left.share[:, None],
        columns.cpu[row] - cpu_milli,
        lens,
    )
    out = np.zeros(fits.shape, np.int64)
    out[at] = _bucket(useful[row] - useful_then, share - left.share, _loss(columns.kind[at], share, left.share, lens))
    return out


def cost(before: Columns, after: Columns, lens: Lens) -> Ints:
    """Cost, in buckets, of what turned each node from `before` to `after`: the lowest is taken first."""
    out = np.zeros(before.rows, np.int64)
    for start in range(0, before.rows, CHUNK):
        rows = np.arange(start, min(start + CHUNK, before.rows))
        out[rows] = _cost(before.take(rows), after.take(rows), lens)
    return out


def _cost(before: Columns, after: Columns, lens: Lens) -> Ints:
    was, left = _Free.of(before), _Free.of(after)
    useful = []
    for free, columns in ((was, before), (left, after)):
        serves = free.serves(columns.kind, lens)
        useful.append(_useful(serves.sum(1), (serves * free.share[..., None]).sum(1), columns.cpu, lens))
    loss = _loss(before.kind, was.share, left.share, lens).sum(1)
    return _bucket(useful[0] - useful[1], (was.share - left.share).sum(1), loss)
