"""The rules of `fit` and `place` over many nodes at once. What arrays cannot decide is left to `place`.

Every function takes the rows of a `Columns`; masks and amounts are arrays over nodes by cards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kerf.values.ask import ContainerAsk, PodAsk, Selection, Stage
from kerf.values.device import Card
from kerf.values.slicing import WHOLE, Size, free_places
from kerf.values.verdict import Misfit, Reason
from scheduler.core.columns import Bools, Columns, Ints
from scheduler.core.fit import slice_of
from scheduler.core.preference import PERMILLE, Preference

_NUMAS = 2**20
"""More than any machine has NUMA nodes."""
_NEVER = Size(2**40, 0)
"""Stands for the slice that a card never gives: no card has that much memory."""


@dataclass(frozen=True, slots=True)
class Room:
    """One container on many nodes: the reason per node if it were alone in its pod, and the cards that fit."""

    reasons: Ints
    fits: Bools


@dataclass(frozen=True, slots=True)
class Wanted:
    """One container on the cards of some rows: which it accepts, and the slice that each would give it.

    Amounts that are equal on every card are plain numbers. `sliced` marks the cards that give any slice, None: all.
    `blocked` has, place by place, what must be free there (see `kerf.values.places`); empty: slices lie anywhere.
    """

    cards: int
    accepted: Bools
    memory: Ints | int
    cores: Ints | int
    sliced: Bools | None = None
    blocked: tuple[Ints, ...] = ()
    kind: Ints | None = None
    """The fleet's number of each card's kind, where it matters where slices lie."""
    offers: tuple[tuple[Size, Card], ...] = ()
    """By that number, the slice and an example of the cards."""

    @property
    def placed(self) -> bool:
        """Whether it matters where slices lie on some of the cards."""
        return bool(self.blocked)


@dataclass(frozen=True, slots=True)
class Kinds:
    """One container on each kind of card, by the fleet's number. `exact` kinds give just what is asked."""

    ask: ContainerAsk
    accepted: Bools
    exact: bool
    memory: Ints
    cores: Ints
    sliced: Bools
    blocked: Ints
    """Kinds by places: what must be free at each place; 0 where slices lie anywhere."""
    offers: tuple[tuple[Size, Card], ...] = ()
    """The slice and an example of the cards by kind, where it matters where some of them lie."""

    @classmethod
    def of(cls, ask: ContainerAsk, accepted: Bools, kinds: Sequence[Card]) -> "Kinds":
        """Ask every kind's slicing once. `accepted` marks the kinds that the pod takes."""
        found = [slice_of(ask, card) if card.slicing.fixed else _asked(ask, card) for card in kinds]
        sizes = [_NEVER if isinstance(size, Misfit) else size for size in found]
        none = [isinstance(size, Misfit) and size.reason is Reason.NO_SLICE for size in found]
        return cls(
            ask=ask,
            accepted=accepted,
            exact=not any(_inexact(ask, card) for card, takes in zip(kinds, accepted, strict=True) if takes),
            memory=np.array([size.memory_mib for size in sizes], np.int64),
            cores=np.array([size.cores for size in sizes], np.int64),
            sliced=~np.array(none, bool),
            blocked=_blocked(sizes),
            offers=tuple(zip(sizes, kinds, strict=True)) if any(size.places for size in sizes) else (),
        )

    def on(self, columns: Columns) -> Wanted:
        """The container on the cards of some rows."""
        if not len(self.accepted):
            return Wanted(self.ask.cards, columns.present, 0, self.ask.cores)
        accepted = self.accepted[columns.kind]
        if not self.exact:
            kind = columns.kind
            amounts = self.memory[kind], self.cores[kind], self.sliced[kind]
            blocked = tuple(places[kind] for places in self.blocked.T)
            return Wanted(self.ask.cards, accepted, *amounts, blocked, kind, self.offers)
        return Wanted(self.ask.cards, accepted, asked_memory(self.ask, columns), self.ask.cores)


def _inexact(ask: ContainerAsk, card: Card) -> bool:
    """Whether a kind of card gives something else than is written."""
    return card.slicing.fixed or (ask.memory_mib is not None and _asked(ask, card).memory_mib != ask.memory_mib)


def _blocked(sizes: Sequence[Size]) -> Ints:
    most = max((len(size.places) for size in sizes), default=0)
    # A size with fewer places than others repeats its last one, which changes nothing.
    rows = [[place.blocked for place in size.places] or [0] for size in sizes]
    return np.array([(row + row[-1:] * most)[:most] for row in rows], np.int64).reshape(len(sizes), most)


def _asked(ask: ContainerAsk, card: Card) -> Size:
    return Size(ask.memory_on(card.factory_memory_mib, card.reserved_mib), ask.cores)


def asked_memory(ask: ContainerAsk, columns: Columns) -> Ints | int:
    """MiB that the container asks of each card."""
    return ask.memory_mib if ask.memory_mib is not None else columns.factory * (ask.memory_percent or 0) // 100


def room(want: Wanted, columns: Columns, preference: Preference, selection: Selection) -> Room:
    """`fit_alone` on every row."""
    checks = _checks(want, columns, preference)
    fits, passed = columns.present, columns.present.astype(np.int8)
    for _, check in checks:
        fits = fits & check
        passed += fits
    reasons = _first_failed(passed, [reason for reason, _ in checks], want.cards)
    groups = groups_on(columns, selection)
    if groups is not None and want.cards > 1:
        apart = (reasons == 0) & (_mates(fits, groups) < want.cards).all(1)
        reasons[apart] = Reason.MODEL if selection.same_model else Reason.NUMA
    return Room(reasons, fits)


def fitting(want: Wanted, columns: Columns, preference: Preference) -> Bools:
    """The cards that fit, as `room` says, without the reasons."""
    fits = columns.present
    for _, check in _checks(want, columns, preference):
        fits = fits & check
    return fits


def _checks(want: Wanted, columns: Columns, preference: Preference) -> list[tuple[Reason, Bools]]:
    """What each card has to pass, in the order of `Reason`. Checks that all cards pass are left out."""
    found = [(Reason.TYPE, want.accepted)]
    if want.sliced is not None:
        found.append((Reason.NO_SLICE, want.sliced))
    found += [
        (Reason.TOO_LARGE, want.memory <= np.minimum(columns.factory, columns.memory)),
        (Reason.UNHEALTHY, columns.usable),
        (Reason.SLOTS, columns.used_slots < columns.slots),
        (Reason.MEMORY, want.memory <= columns.memory - columns.used_memory),
        (Reason.CORES, want.cores <= columns.cores - columns.used_cores),
    ]
    if want.placed:
        found.append((Reason.PLACE, _has_place(want, columns)))
    if preference.mutex or np.any(want.cores >= WHOLE):
        alone = preference.mutex | ((want.cores >= WHOLE) & (columns.cores == WHOLE))
        found.append((Reason.EXCLUSIVE, ~(alone & (columns.used_slots > 0))))
    idle = want.cores == 0
    if np.any(idle):
        full = idle & (columns.used_cores >= columns.cores) & (columns.cores > 0)
        found.append((Reason.TAKEN, ~full))
    return found


def _first_failed(passed: NDArray[np.int8], checks: list[Reason], cards: int) -> Ints:
    """Per row, the first check that leaves too few cards. `passed` counts the checks that each card passes at first.

    Up to TOO_LARGE one card is enough; from there on, as many as are asked for.
    """
    reason_of = np.array([Reason.NO_INVENTORY, *checks, Reason.FITS], np.int64)
    best = passed.max(1)
    if cards == 1:
        found: Ints = reason_of[best]
        return found
    last = np.sort(passed, axis=1)[:, -cards] if cards <= passed.shape[1] else np.zeros_like(best)
    early = 1 + checks.index(Reason.TOO_LARGE)
    reasons = reason_of[np.where(best <= early, best, last)]
    reasons[(best > early) & (last <= early)] = Reason.TOO_FEW_CARDS
    return reasons


def _has_place(want: Wanted, columns: Columns) -> Bools:
    """Cards on which a place for the slice is free."""
    found: Bools = np.logical_or.reduce([(columns.used_places & blocked) == 0 for blocked in want.blocked])
    return found


def groups_on(columns: Columns, selection: Selection) -> Ints | None:
    """`kerf.values.alike.group_of` of every card, as numbers; None where cards need not be alike."""
    if not selection.alike:
        return None
    numa = columns.numa if selection.same_numa else 0
    return numa + _NUMAS * columns.model if selection.same_model else columns.numa


def _mates(fits: Bools, groups: Ints) -> Ints:
    """For each card that fits, how many cards of its group fit, itself included; 0 for the others."""
    same = groups[:, :, None] == groups[:, None, :]
    mates: Ints = (same & fits[:, None, :]).sum(2)
    return mates * fits


def node_fits(ask: PodAsk, columns: Columns) -> Bools:
    """Rows whose node itself can take the pod: not cordoned, with the CPU and the memory."""
    return columns.schedulable & (ask.cpu_milli <= columns.cpu) & (ask.memory_mib <= columns.node_memory)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Per node: the reason (0 where the pod fits) and whether that is certain. Uncertain rows need `place`."""

    reasons: Ints
    open: Bools


def verdicts(
    ask: PodAsk, columns: Columns, wanted: Sequence[Wanted], preference: Preference, check_node: bool
) -> Verdicts:
    """Decide the rows that arrays can decide; `wanted` has an entry per container."""
    rooms = [room(want, columns, preference, ask.selection) for want in wanted]
    reasons = np.zeros(columns.rows, np.int64)
    for found in rooms:
        worse = (found.reasons > 0) & ((reasons == 0) | (found.reasons < reasons))
        reasons[worse] = found.reasons[worse]
    joined = preference.topology and any(container.cards > 1 for container in ask.containers)
    undecided = (reasons == 0) & ~columns.linked if joined else np.zeros(columns.rows, bool)
    if check_node:
        reasons[(reasons == 0) & ~undecided & ~node_fits(ask, columns)] = Reason.NODE
    if len(ask.containers) > 1:
        undecided |= (reasons == 0) & ~_surely_together(ask, columns, list(zip(wanted, rooms, strict=True)), preference)
    return Verdicts(reasons, undecided)


def _surely_together(ask: PodAsk, columns: Columns, rooms: list[tuple[Wanted, Room]], preference: Preference) -> Bools:
    """Rows where one of two simple arrangements holds: every slice on a card of its own, or all on one card."""
    containers = ask.containers
    fits = np.logical_and.reduce([found.fits for _, found in rooms])
    several = any(container.cards > 1 for container in containers)
    apart: Bools = fits.sum(1) >= sum(container.cards for container in containers)
    if ask.selection.same_card or (several and (ask.selection.alike or preference.topology)):
        apart = np.zeros(columns.rows, bool)
    if several or preference.mutex or any(np.any(want.cores >= WHOLE) or want.placed for want, _ in rooms):
        return apart
    together = (
        fits
        & (sum(want.memory for want, _ in rooms) <= columns.memory - columns.used_memory)
        & (sum(want.cores for want, _ in rooms) <= columns.cores - columns.used_cores)
        & (len(containers) <= columns.slots - columns.used_slots)
    )
    found: Bools = apart | together.any(1)
    return found


# ---- choice of cards


def sort_keys(want: Wanted, columns: Columns, preference: Preference, price: Ints | None) -> list[Ints]:
    """The keys of `Preference` on every card, the first key first. `price` replaces `binpack` in the chain."""
    keys: list[Ints] = []
    for name in preference.orders:
        if name == "binpack" and price is not None:
            keys.append(price)
        if name == "numa":
            keys.append(columns.numa)
        else:
            full = fullness(want, columns, preference)
            keys.append(-full if name == "binpack" else full)
    return keys


def fullness(want: Wanted, columns: Columns, preference: Preference) -> Ints:
    """`preference.fullness` on every card."""
    slot, core, memory = preference.weights
    held = columns.used_memory + want.memory
    full: Ints = (
        slot * ((columns.used_slots + 1) * PERMILLE // np.maximum(columns.slots, 1))
        + core * ((columns.used_cores + want.cores) * PERMILLE // np.maximum(columns.cores, 1))
        + memory * (held * PERMILLE // np.maximum(columns.memory, 1))
    )
    return full


def choose(cards: int, fits: Bools, keys: list[Ints], groups: Ints | None) -> Bools:
    """The cards taken on each row: the first `cards` that fit, by the keys, then by column; of one group."""
    order = np.lexsort([*reversed(keys), ~fits], axis=1)
    place_of = np.argsort(order, axis=1)
    if groups is not None and cards > 1:
        good = _mates(fits, groups) >= cards
        first = np.where(good, place_of, place_of.shape[1]).argmin(1)
        fits = good & (groups == np.take_along_axis(groups, first[:, None], 1))
    rank = np.where(fits, place_of, place_of.shape[1])
    taken = np.argsort(np.argsort(rank, axis=1, kind="stable"), axis=1) < cards
    return taken & fits


def landing(want: Wanted, columns: Columns) -> Ints:
    """What a slice adds to the places of each card where it goes to the place that spoils least; else 0."""
    adds = np.zeros_like(columns.used_places)
    if want.kind is None or not want.offers:
        return adds
    for number in np.unique(want.kind[columns.present & want.accepted]).tolist():
        size, card = want.offers[number]
        if size.places:
            here = columns.present & (want.kind == number)
            used, back = np.unique(columns.used_places[here], return_inverse=True)
            first = [next((p.adds for p in free_places(size, card, one)), 0) for one in used.tolist()]
            adds[here] = np.array(first, np.int64)[back.reshape(-1)]
    return adds


def charged(want: Wanted, columns: Columns, taken: Bools) -> Columns:
    """The rows once the container holds the taken cards."""
    return replace(
        columns,
        used_memory=columns.used_memory + want.memory * taken,
        used_cores=columns.used_cores + want.cores * taken,
        used_slots=columns.used_slots + taken,
        used_places=columns.used_places + landing(want, columns) * taken if want.placed else columns.used_places,
    )


def after(
    ask: PodAsk, columns: Columns, wanted: Sequence[Wanted], preference: Preference, price: Ints | None
) -> Columns:
    """The rows once the pod's running containers hold cards, hardest first, each by its own preference.

    Exact for one container. With several it is the first path of `place`; rows where that path is a dead end keep
    what could be placed, which is good enough to rank them. `price` is used for a single container only.
    """
    running = [i for i, container in enumerate(ask.containers) if container.stage is not Stage.INIT]
    running.sort(key=lambda i: (-ask.containers[i].cards, -ask.containers[i].cores, i))
    for i in running or range(len(ask.containers)):
        want, groups = wanted[i], groups_on(columns, ask.selection)
        fits = fitting(want, columns, preference)
        keys = sort_keys(want, columns, preference, price if len(ask.containers) == 1 else None)
        columns = charged(want, columns, choose(want.cards, fits, keys, groups))
    return replace(columns, cpu=columns.cpu - ask.cpu_milli, node_memory=columns.node_memory - ask.memory_mib)
