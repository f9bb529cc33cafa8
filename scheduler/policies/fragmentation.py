"""Node policy `fragmentation`: place where the fleet stays most useful to the pods that usually come.

For every class of the target workload, the free part of a node's cards is useful if the class could run there now: the
cards have its memory, its cores and, in MIG mode, a place for its instance free, there are enough of them, and the node
has the CPU. Half of the weight is on that amount, half on the part of it for which the CPU lasts. The cost of a
placement is the useful amount that it destroys beyond its own size, plus what the space on the card was worth beyond
the slice (`prices`). A class weighs as much as it comes often, and more if it can go to few cards only (`rarity`).

Nodes whose cost is within a window of the best are equals, and equals are taken in the order of their names: exact
costs with random ties scatter pods over the fleet, a window with a fixed order fills it from one end.

All amounts are thousandths of a card, weights are whole numbers, and sums stay below 2**53, so that float arithmetic
on them is exact and the answer is the same everywhere.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kerf.values.ask import PodAsk
from kerf.values.device import Card
from kerf.values.slicing import Size, size_on
from scheduler.core.bulk import Wanted, landing
from scheduler.core.columns import Bools, Columns, Ints
from scheduler.core.fit import accepts
from scheduler.core.preference import PERMILLE
from scheduler.policies.prices import UNITS, Sizes, worth
from scheduler.policies.rarity import rarity
from scheduler.policies.sights import Sight
from scheduler.policies.workload import WHOLE, Kind, Target

WINDOWS = {"none": 20, "slice": 30, "cards": 60}
"""Thousandths of a card within which nodes are equals, for pods without cards, with a slice, and with whole or several
cards. Measured on openb's traces: half or twice as much costs 0.1 to 0.3 points of allocated GPUs."""
TURNOVER_WINDOW = 5
"""The same for all pods where they leave as often as they come: holes open everywhere then, and a wide window tears
further ones. Measured on openb at 97 % offered load: 1.5 % of the GPUs asked for are lost, with the others 1.8 %."""

Reals = NDArray[np.float64]


def window(ask: PodAsk, turnover: bool = False) -> int:
    """Costs closer than this are equal for the pod."""
    if turnover:
        return TURNOVER_WINDOW
    if not ask.containers:
        return WINDOWS["none"]
    several = len(ask.containers) > 1 or ask.containers[0].cards > 1 or ask.containers[0].exclusive
    return WINDOWS["cards" if several else "slice"]


@dataclass(frozen=True, slots=True)
class Lens:
    """A target compiled for the sights of a fleet (`sights`); "kinds" below are these.

    Classes that want the same of a card share one of its `needs`, whatever CPU and however many cards they want.
    """

    memory: Ints  # kinds by needs: MiB needed of each card, _NEVER where the need does not accept the kind
    cores: Ints  # per need, or kinds by needs where a kind's slices are larger than what is asked
    need: Ints  # per class, its need
    cpu: Ints  # the amounts of CPU that classes ask for, each once and at least 1
    pods: Ints  # per class, its amount of CPU
    cards: NDArray[np.int32]  # per class
    size: Ints  # kinds by classes: thousandths of a card that one pod takes, over all its cards
    weight: Reals  # per class, as often as it comes and as rare as its cards are
    worth: Ints  # kinds by UNITS + 1
    slack: Ints  # kinds by UNITS + 1: the least that placing a slice of this size can lose
    shut: tuple[tuple[int, Ints], ...] = ()
    """Kinds in MIG mode, each with what must be free by needs and places: a card serves a need that has a place."""

    @property
    def needs(self) -> int:
        """How many things classes want of a card."""
        return int(self.memory.shape[1])


_NEVER = 2**60
_NO_CARD = Card("", 0, "", "", memory_mib=1)  # columns without a card are of kind 0


def compile_lens(
    target: Target, sights: tuple[Sight, ...], supply: tuple[int, ...], models: tuple[str, ...] = ()
) -> Lens:
    """Prepare a target for these sights, each with the number of such cards. `models` are those of the fleet."""
    sights, supply = (sights, supply) if sights else ((Sight(_NO_CARD),), (1,))
    given = [_given(target, sight, models) for sight in sights]
    shape = len(sights), len(target.kinds)
    memory = np.array([[size.memory_mib for size in row] for row in given], np.int64).reshape(shape)
    cores = np.array([[size.cores for size in row] for row in given], np.int64).reshape(shape)
    seen = zip(sights, given, strict=True)
    tables = np.array([worth(_sizes(target, *each)) for each in seen], np.int64).reshape(len(sights), UNITS + 1)
    cards = np.array([kind.cards for kind, _ in target.kinds], np.int32)
    often = np.array([weight for _, weight in target.kinds], np.float64)
    factory = np.array([[max(sight.card.factory_memory_mib, 1)] for sight in sights])
    size = np.maximum(memory * PERMILLE // factory, cores * (PERMILLE // 100)).clip(1) * (memory < _NEVER)
    needs, first, need = np.unique(np.concatenate([memory, cores]), axis=1, return_index=True, return_inverse=True)
    needed_memory, needed_cores = needs[: len(sights)], needs[len(sights) :]
    cpu = np.maximum(np.array([kind.cpu_milli for kind, _ in target.kinds], np.int64), 1)
    amounts, pods = np.unique(cpu, return_inverse=True)
    return Lens(
        memory=needed_memory,
        cores=needed_cores if (needed_cores != needed_cores[0]).any() else needed_cores[0],
        need=need.reshape(-1),
        cpu=amounts,
        pods=pods,
        cards=cards,
        size=size * cards,
        weight=np.rint(often * rarity(size > 0, np.array(supply, np.int64))),
        worth=tables,
        slack=_slack(tables),
        shut=tuple(
            (number, _shut([given[number][i] for i in first.tolist()]))
            for number, sight in enumerate(sights)
            if sight.card.mig is not None
        ),
    )


def _shut(sizes: list[Size]) -> Ints:
    """Sizes by places: what must be free there; sizes with fewer places than others repeat their last one."""
    most = max((len(size.places) for size in sizes), default=0)
    rows = [[place.blocked for place in size.places] or [0] for size in sizes]
    return np.array([(row + row[-1:] * most)[: max(most, 1)] for row in rows], np.int64).reshape(-1, max(most, 1))


def _given(target: Target, sight: Sight, models: tuple[str, ...]) -> list[Size]:
    """Per class the slice that it gets of such a card, of `_NEVER` MiB where it takes none."""
    card = replace(sight.card, memory_mib=sight.card.factory_memory_mib, physical_mib=0)
    return [
        Size(_NEVER, kind.cores) if sight.barred >> i & 1 else _slice(kind, card, models)
        for i, (kind, _) in enumerate(target.kinds)
    ]


def _slice(kind: Kind, card: Card, models: tuple[str, ...]) -> Size:
    ask = replace(kind.ask, vendor=kind.vendor or card.vendor)
    selection = replace(kind.reach.selection, use_ids=(), avoid_ids=()).among(models)  # ids are the sight's
    size = size_on(ask, card) if accepts(selection, ask, card) else None
    return size or Size(_NEVER, kind.cores)


def _sizes(target: Target, sight: Sight, given: list[Size]) -> Sizes:
    """The share sizes, rounded up to the table's units, that the target brings to such cards."""
    found: dict[int, int] = {}
    for (kind, weight), size in zip(target.kinds, given, strict=True):
        if size.memory_mib < _NEVER:
            factory = max(sight.card.factory_memory_mib, 1)
            share = max(-(-size.memory_mib * UNITS // factory), min(size.cores, UNITS), 1)
            found[share] = found.get(share, 0) + weight * kind.cards
    return tuple(sorted(found.items()))


def _slack(tables: Ints) -> Ints:
    sizes = range(UNITS + 1)
    slack = [(tables[:, size:] - tables[:, : UNITS + 1 - size]).min(1) for size in sizes]
    return np.array(slack, np.int64).T.reshape(tables.shape)


@dataclass(frozen=True, slots=True)
class Free:
    """What is free on cards: MiB and percent of SMs (negative on a card that takes no slice), and the smaller share."""

    memory: Ints
    cores: Ints
    share: Ints  # thousandths of the card
    places: Ints  # what is held of places

    @classmethod
    def of(cls, columns: Columns) -> "Free":
        """Of every card in the rows."""
        open_ = columns.present & columns.usable & (columns.used_slots < columns.slots)
        memory = (columns.memory - columns.used_memory, columns.memory)
        cores = (columns.cores - columns.used_cores, columns.cores)
        return cls.left(open_, memory, cores, columns.used_places)

    @classmethod
    def left(cls, open_: Bools, memory: tuple[Ints, Ints], cores: tuple[Ints, Ints], places: Ints) -> "Free":
        """Of (free, total) memory and cores, and what is held of places."""
        shares = [free * PERMILLE // np.maximum(total, 1) for free, total in (memory, cores)]
        share = np.maximum(np.minimum(*shares), 0) * open_
        return cls(np.where(open_, memory[0], -1), np.where(open_, cores[0], -1), share, places)

    def serves(self, kind: Ints, lens: Lens) -> Bools:
        """Which needs each card could meet: one more axis."""
        cores = lens.cores if lens.cores.ndim == 1 else lens.cores.take(kind, 0)
        found: Bools = lens.memory.take(kind, 0) <= self.memory[..., None]
        found &= cores <= self.cores[..., None]
        for number, shut in lens.shut:
            here = kind == number
            held, back = np.unique(self.places[here], return_inverse=True)
            found[here] &= ((held[:, None, None] & shut) == 0).any(-1)[back.reshape(-1)]
        return found


@dataclass(frozen=True, slots=True)
class Survey:
    """Per row and need the cards that meet it and their free share, and per row the useful amount, doubled."""

    count: NDArray[np.int32]
    amount: Reals
    useful: Reals

    @classmethod
    def empty(cls, rows: int, needs: int) -> "Survey":
        """Room for rows."""
        return cls(np.zeros((rows, needs), np.int32), np.zeros((rows, needs)), np.zeros(rows))

    def take(self, rows: Ints) -> "Survey":
        """The given rows, copied."""
        return Survey(self.count.take(rows, 0), self.amount.take(rows, 0), self.useful.take(rows))


def survey(columns: Columns, lens: Lens) -> Survey:
    """How useful the rows are now."""
    free = Free.of(columns)
    serves = free.serves(columns.kind, lens)
    count, amount = serves.sum(1, np.int32), (serves * free.share[..., None].astype(np.float64)).sum(1)
    return Survey(count, amount, _useful(count, amount, _lasting(columns, 0, lens), lens))


def _lasting(columns: Columns, cpu_milli: int, lens: Lens) -> Reals:
    """Per row and class, the amount for which the CPU lasts once `cpu_milli` of it is gone."""
    pods = np.maximum(columns.cpu - cpu_milli, 0)[:, None] // lens.cpu
    size = lens.size.take(columns.kind[:, 0], 0)
    mixed = np.flatnonzero((columns.present & (columns.kind != columns.kind[:, :1])).any(1))
    if len(mixed):
        size[mixed] = (lens.size[columns.kind[mixed]] * columns.present[mixed][..., None]).max(1)
    lasting: Reals = (pods.take(lens.pods, 1) * size).astype(np.float64)
    return lasting


def _useful(count: NDArray[np.int32], amount: Reals, lasting: Reals, lens: Lens) -> Reals:
    """Twice the weighted useful amount, from the cards that meet each need, their free shares, and the CPU.

    `lasting` is used up: large arrays are written in place, since fresh ones cost more than the arithmetic.
    """
    runs = count.take(lens.need, 1) >= lens.cards
    runs &= lasting > 0
    amounts = amount.take(lens.need, 1)
    np.minimum(amounts, lasting, out=lasting)
    lasting += amounts
    lasting *= runs
    useful: Reals = lasting @ lens.weight
    return useful


def _lost(kind: Ints, before: Ints, after: Ints, lens: Lens) -> Ints:
    """What the space on a card was worth beyond the slices placed there."""
    per_unit = PERMILLE // UNITS
    size = -((after - before) // per_unit)
    lost = lens.worth[kind, before // per_unit] - lens.worth[kind, after // per_unit] - lens.slack[kind, size]
    found: Ints = np.maximum(lost, 0)
    return found


def _thousandths(useful_lost: Reals, placed: Ints, lost: Ints) -> Ints:
    exact: Ints = useful_lost.astype(np.int64) + 2 * WHOLE * (lost - placed)
    return exact // (2 * WHOLE)


def price(want: Wanted, cpu_milli: int, columns: Columns, fits: Bools, before: Survey, lens: Lens) -> Ints:
    """Cost, in thousandths of a card, of one slice of the container on each card that fits; 0 on the others.

    `before` surveys the same rows. Of neighbouring cards that are alike, one is looked at.
    """
    twins = _twins(columns, fits)
    at = row, _ = np.nonzero(fits & ~twins)
    kind = columns.kind[at]
    free = (columns.memory - columns.used_memory)[at], (columns.cores - columns.used_cores)[at]
    total = columns.memory[at], columns.cores[at]
    slots = (columns.slots - columns.used_slots)[at]
    places = columns.used_places[at]
    was = Free.left(slots > 0, (free[0], total[0]), (free[1], total[1]), places)
    memory, cores = (amount if isinstance(amount, int) else amount[at] for amount in (want.memory, want.cores))
    after = places + landing(want, columns)[at] if want.placed else places
    left = Free.left(slots > 1, (free[0] - memory, total[0]), (free[1] - cores, total[1]), after)
    had, has = was.serves(kind, lens), left.serves(kind, lens)
    amount = before.amount.take(row, 0)
    amount -= had * was.share[:, None].astype(np.float64)
    amount += has * left.share[:, None].astype(np.float64)
    count = before.count.take(row, 0)
    count -= had ^ has  # what a card meets afterwards, it met before
    useful = _useful(count, amount, _lasting(columns, cpu_milli, lens).take(row, 0), lens)
    out = np.zeros(fits.shape, np.int64)
    lost = _lost(kind, was.share, left.share, lens)
    out[at] = _thousandths(before.useful[row] - useful, was.share - left.share, lost)
    first = np.where(twins, 0, np.arange(fits.shape[1]))
    return np.take_along_axis(out, np.maximum.accumulate(first, axis=1), 1) * fits


def _twins(columns: Columns, fits: Bools) -> Bools:
    """Cards that fit and are like the card before them, which fits as well."""
    twins = np.zeros(fits.shape, bool)
    same = fits[:, 1:] & fits[:, :-1]
    used = columns.used_memory, columns.used_cores, columns.used_slots, columns.used_places
    for array in (*used, columns.kind, *_fixed(columns)):
        same &= array[:, 1:] == array[:, :-1]
    twins[:, 1:] = same
    return twins


def _fixed(columns: Columns) -> tuple[Ints, ...]:
    return columns.memory, columns.cores, columns.slots, columns.factory


def cost(before: Columns, after: Columns, useful: Reals, lens: Lens) -> Ints:
    """Cost, in thousandths of a card, of what turned each node from `before` to `after`; `useful` is of `before`."""
    was, left = Free.of(before).share, Free.of(after).share
    lost = _lost(before.kind, was, left, lens).sum(1)
    return _thousandths(useful - survey(after, lens).useful, (was - left).sum(1), lost)
