"""The nearest miss: on which node a refused pod almost fits, and which smaller ask would fit there.

Arrays propose a handful of nodes and changes; `place` confirms each before it is given, so advice is never wrong.
The cost is bounded: a few rows per kind of change, whatever the size of the fleet.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from kerf.values.ask import ContainerAsk, PodAsk, Selection
from kerf.values.device import Card
from kerf.values.grant import Grant
from kerf.values.places import first_free
from kerf.values.slicing import Size, sizes
from kerf.values.verdict import Misfit, Reason
from scheduler.core.bulk import Kinds, Room, Wanted, asked_memory, room
from scheduler.core.columns import Columns, Ints
from scheduler.core.preference import Preference

TRIES = 3
"""Nodes tried for each kind of change."""
SHORTLIST = 128
"""Rows looked at closely, per measure of nearness."""
Try = Callable[[PodAsk, int], Grant | Misfit]
"""(a pod, a row) to what `place` says."""


@dataclass(frozen=True, slots=True)
class Change:
    """A smaller ask that fits on a node: `what` is a resource of `container` or a rule, `to` its new amount."""

    what: str  # memory, cores, slice (memory, and no more cores than are left over), cards, selection, numa, model, …
    to: int
    row: int
    container: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One refused class of pods on some rows, with the rows' columns and what each container gets of their cards.

    `kinds` has an example of each kind of card, by the number in `columns.kind`.
    """

    ask: PodAsk
    rows: Ints
    ranks: Ints
    columns: Columns
    wanted: list[Wanted]
    kinds: tuple[Card, ...]
    reasons: Ints
    preference: Preference

    def room(self, index: int, ask: ContainerAsk) -> Room:
        """Where the container at `index` has room if it asks for something else, whatever the NUMA nodes."""
        accepted = self.wanted[index].accepted
        want = Kinds.of(ask, np.ones(len(self.kinds), bool), self.kinds).on(self.columns)
        return room(replace(want, accepted=accepted), self.columns, self.preference, Selection())

    def best(self, values: Ints, count: int = TRIES) -> list[int]:
        """Positions of the highest positive values, ties in the order of names."""
        order = np.lexsort((self.ranks, -values))[:count]
        return [int(i) for i in order if values[i] > 0]


def shortlist(ask: PodAsk, columns: Columns, reasons: Ints) -> Ints:
    """Positions of the rows worth a close look: those that passed most checks or have most free on enough cards."""
    if columns.rows <= SHORTLIST:
        return np.arange(columns.rows)
    count = min(max((container.cards for container in ask.containers), default=1), columns.present.shape[1])
    memory = _kth(np.where(columns.usable, columns.memory - columns.used_memory, -1), count)
    cores = _kth(np.where(columns.usable, columns.cores - columns.used_cores, -1), count)
    picked = [np.argsort(-measure, kind="stable")[:SHORTLIST] for measure in (reasons, memory, cores, columns.cpu)]
    return np.unique(np.concatenate(picked))


def nearest_row(field: Field) -> int:
    """Position of the row that passed most checks and is closest on the one that failed."""
    reasons = field.reasons
    last = int(reasons[reasons != Reason.RESERVED].max(initial=0))
    if last == 0 or not len(reasons):
        return 0
    if not field.ask.containers:  # a member of a gang that asks for no card: only CPU and memory refuse it
        return int(np.flatnonzero(reasons == last)[0])
    index = blamed(field)
    values = {
        Reason.MEMORY: _kth_memory,
        Reason.TOO_LARGE: _kth_memory,
        Reason.CORES: _kth_cores,
    }.get(Reason(last), _cards_that_fit)(field, index)
    shifted = np.where(reasons == last, values + 2, 0)
    return field.best(shifted, 1)[0]


def blamed(field: Field) -> int:
    """Index of the container that is hardest to place: the one that fits on the fewest rows."""
    fitting = [
        int((room(want, field.columns, field.preference, field.ask.selection).reasons == 0).sum())
        for want in field.wanted
    ]
    return fitting.index(min(fitting)) if fitting else 0


def smallest_change(field: Field, attempt: Try) -> Change | None:
    """The change that asks for the least less, as a share of what is asked; None if no single change helps."""
    if not field.ask.containers:
        return None
    index = blamed(field)
    proposals = [(_lost(field, index, change), n, change) for n, change in enumerate(_proposals(field, index))]
    for _, _, change in sorted(proposals, key=lambda entry: entry[:2]):
        if isinstance(attempt(changed(field.ask, change), change.row), Grant):
            return change
    return _joint_change(field, attempt) if len(field.ask.containers) > 1 else None


def _joint_change(field: Field, attempt: Try) -> Change | None:
    """For containers that fit alone but not together: the memory that one of them could have beside the others."""
    free = np.maximum((field.columns.memory - field.columns.used_memory) * field.columns.usable, 0).sum(1)
    found = [
        (asked - change.to, index, change)
        for i in field.best(free, 1)
        for index, container in enumerate(field.ask.containers[:TRIES])
        if (asked := int(_asked_memory(field, index)[i].max(initial=0)))
        and (change := _most_memory(field, int(field.rows[i]), container, asked, attempt))
    ]
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def _most_memory(field: Field, row: int, ask: ContainerAsk, asked: int, attempt: Try) -> Change | None:
    """The most memory of one container, below what it asks, with which the pod fits on a row; by halving."""
    best = None
    low, high = 0, asked
    while high - low > 1:
        change = Change("memory", (low + high) // 2, row, ask.name)
        if isinstance(attempt(changed(field.ask, change), row), Grant):
            best, low = change, change.to
        else:
            high = change.to
    return best


def _asked_memory(field: Field, index: int) -> Ints:
    """MiB asked of each card, before a slicing rounds it up."""
    shape = field.columns.present.shape
    return np.broadcast_to(np.asarray(asked_memory(field.ask.containers[index], field.columns)), shape)


def changed(ask: PodAsk, change: Change) -> PodAsk:
    """The pod's ask with a change made."""
    if change.what == "numa":
        return replace(ask, selection=replace(ask.selection, same_numa=False))
    if change.what == "model":
        return replace(ask, selection=replace(ask.selection, same_model=False))
    if change.what == "selection":
        return replace(ask, selection=_anywhere(ask.selection))
    if change.what == "topology":
        chain = tuple(word for word in ask.wishes.card_policies if not word.startswith("topology")) or ("binpack",)
        return replace(ask, wishes=replace(ask.wishes, card_policies=chain))
    containers = tuple(_shrunk(c, change) if c.name == change.container else c for c in ask.containers)
    return replace(ask, containers=containers)


def _anywhere(selection: Selection) -> Selection:
    """The selection without what chooses among cards."""
    return Selection(same_numa=selection.same_numa, same_model=selection.same_model, same_card=selection.same_card)


def _shrunk(ask: ContainerAsk, change: Change) -> ContainerAsk:
    if change.what == "memory":
        return replace(ask, memory_mib=change.to, memory_percent=None)
    if change.what == "slice":
        return replace(ask, memory_mib=change.to, memory_percent=None, cores=0)
    return replace(ask, cores=change.to) if change.what == "cores" else replace(ask, cards=change.to)


def _lost(field: Field, index: int, change: Change) -> int:
    """How much less the change asks for, in permille; giving up a rule counts as much as half of an amount."""
    ask = field.ask.containers[index]
    position = int(np.flatnonzero(field.rows == change.row)[0])
    asked = {
        "memory": int(_asked_memory(field, index)[position].max(initial=0)),
        "slice": int(_asked_memory(field, index)[position].max(initial=0)),
        "cores": ask.cores,
        "cards": ask.cards,
    }.get(change.what)
    return 500 if not asked else (asked - change.to) * 1000 // asked


def _proposals(field: Field, index: int) -> Iterator[Change]:
    ask, rows, selection = field.ask.containers[index], field.rows, field.ask.selection
    memory = _kth_memory(field, index)
    for i in field.best(memory):
        if memory[i] < _asked_memory(field, index)[i].max():
            yield Change("memory", int(memory[i]), int(rows[i]), ask.name)
    cores = np.minimum(_kth_cores(field, index), ask.cores - 1)
    yield from (Change("cores", int(cores[i]), int(rows[i]), ask.name) for i in field.best(cores))
    sliced = _kth_memory(field, index, cores=0)
    for i in field.best(sliced) if ask.exclusive else []:
        yield Change("slice", min(int(sliced[i]), int(_asked_memory(field, index)[i].max())), int(rows[i]), ask.name)
    cards = _cards_that_fit(field, index)
    for i in field.best(np.where(cards < ask.cards, cards, 0)):
        yield Change("cards", int(cards[i]), int(rows[i]), ask.name)
    if selection.same_numa:
        yield from (Change("numa", 0, int(rows[i])) for i in field.best(cards))
    if selection.same_model:
        yield from (Change("model", 0, int(rows[i])) for i in field.best(cards))
    if field.preference.topology:
        yield from (Change("topology", 0, int(rows[i])) for i in field.best(cards))
    if selection != _anywhere(selection):
        everything = replace(field, wanted=[replace(w, accepted=field.columns.present) for w in field.wanted])
        freed = _cards_that_fit(everything, index)
        yield from (Change("selection", 0, int(rows[i])) for i in field.best(np.where(freed >= ask.cards, freed, 0)))


def _kth(values: Ints, count: int) -> Ints:
    """Per row the count-th highest value, -1 where there are fewer columns."""
    if count > values.shape[1]:
        return np.full(values.shape[0], -1)
    kth: Ints = np.sort(values, axis=1)[:, -count]
    return kth


def _kth_memory(field: Field, index: int, cores: int | None = None) -> Ints:
    """MiB that the container could have on each of its cards, with as many cores as it asks or as given."""
    ask = field.ask.containers[index]
    columns = field.columns
    relaxed = replace(ask, memory_mib=0, memory_percent=None, cores=ask.cores if cores is None else cores)
    fits = field.room(index, relaxed).fits
    free = np.minimum(columns.memory - columns.used_memory, np.minimum(columns.factory, columns.memory))
    free, _ = _largest(field, relaxed, free, columns.cores - columns.used_cores)
    return _kth(np.where(fits, free, -1), ask.cards)


def _kth_cores(field: Field, index: int) -> Ints:
    """Percent of SMs that the container could have on each of its cards, all else as asked."""
    ask = field.ask.containers[index]
    columns, relaxed = field.columns, replace(ask, cores=1)
    fits = field.room(index, relaxed).fits
    free = columns.memory - columns.used_memory, columns.cores - columns.used_cores
    _, cores = _largest(field, relaxed, *free)
    return _kth(np.where(fits, cores, -1), ask.cards)


def _cards_that_fit(field: Field, index: int) -> Ints:
    """Cards that have what the container wants of each."""
    found: Ints = field.room(index, field.ask.containers[index]).fits.sum(1)
    return found


def _largest(field: Field, ask: ContainerAsk, memory: Ints, cores: Ints) -> tuple[Ints, Ints]:
    """What is free, where sizes are fixed rounded down to the largest size that still answers the ask; else -1."""
    memory, cores = memory.copy(), cores.copy()
    for number, card in enumerate(field.kinds):
        here = field.columns.kind == number
        if card.slicing.exact or not here.any():
            continue
        offered = [Size(-1, -1), *sizes(ask, card)]
        ends = np.array([size.memory_mib for size in offered]), np.array([size.cores for size in offered])
        found = np.minimum(
            *(np.searchsorted(end, free[here], "right") for end, free in zip(ends, (memory, cores), strict=True))
        )
        found = np.minimum(found, _with_place(offered, field.columns.used_places[here]))
        best = np.maximum(found - 1, 0)
        memory[here], cores[here] = ends[0][best], ends[1][best]
    return memory, cores


def _with_place(offered: list[Size], used: Ints) -> Ints:
    """How many of the sizes, the first one a stand-in for none, have a free place: each lies within the one before."""
    known, back = np.unique(used, return_inverse=True)
    counts = [
        sum(not size.places or first_free(size.places, int(one)) is not None for size in offered) for one in known
    ]
    return np.array(counts, np.int64)[back.reshape(used.shape)]
