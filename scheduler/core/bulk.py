"""The rules of `fit` and `place` over many nodes at once. What arrays cannot decide is left to `place`.

Every function takes the rows of a `Columns`; masks and amounts are arrays over nodes by cards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kerf.values.ask import ContainerAsk, PodAsk, Stage
from kerf.values.verdict import Reason
from scheduler.core.columns import Bools, Columns, Ints
from scheduler.core.preference import PERMILLE, Preference


@dataclass(frozen=True, slots=True)
class Room:
    """One container on many nodes: the reason per node, were it alone in its pod, and the cards that fit."""

    reasons: Ints
    fits: Bools


def needed_memory(ask: ContainerAsk, columns: Columns) -> Ints:
    """MiB that the container wants on each card."""
    if ask.memory_mib is not None:
        return np.full_like(columns.factory, ask.memory_mib)
    return columns.factory * (ask.memory_percent or 0) // 100


def room(ask: ContainerAsk, columns: Columns, accepted: Bools, preference: Preference, same_numa: bool) -> Room:
    """`fit_alone` on every row. `accepted` marks the cards that the pod's selection takes."""
    need = needed_memory(ask, columns)
    alone = preference.mutex | ((ask.cores >= 100) & (columns.cores == 100))
    full = (columns.used_cores >= columns.cores) & (columns.cores > 0) if ask.cores == 0 else False
    fits = columns.present & accepted
    found = [(Reason.NO_INVENTORY, columns.present.any(1)), (Reason.TYPE, fits.any(1))]
    fits = fits & (need <= np.minimum(columns.factory, columns.memory))
    count = fits.sum(1)
    found += [(Reason.TOO_LARGE, count > 0), (Reason.TOO_FEW_CARDS, count >= ask.cards)]
    for reason, passes in (
        (Reason.UNHEALTHY, columns.usable),
        (Reason.SLOTS, columns.used_slots < columns.slots),
        (Reason.MEMORY, need <= columns.memory - columns.used_memory),
        (Reason.CORES, ask.cores <= columns.cores - columns.used_cores),
        (Reason.EXCLUSIVE, ~(alone & (columns.used_slots > 0))),
        (Reason.TAKEN, ~np.asarray(full)),
    ):
        fits = fits & passes
        found.append((reason, fits.sum(1) >= ask.cards))
    if same_numa and ask.cards > 1:
        found.append((Reason.NUMA, (_numa_mates(fits, columns) >= ask.cards).any(1)))
    reasons = np.zeros(columns.rows, np.int64)
    for reason, passed in reversed(found):
        reasons[~passed] = reason
    return Room(reasons, fits)


def _numa_mates(fits: Bools, columns: Columns) -> Ints:
    """For each card that fits, how many cards of its NUMA node fit, itself included; 0 for the others."""
    same = columns.numa[:, :, None] == columns.numa[:, None, :]
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
    ask: PodAsk, columns: Columns, accepted: Sequence[Bools], preference: Preference, check_node: bool
) -> Verdicts:
    """Decide the rows that arrays can decide; `accepted` has a mask per container."""
    same_numa = ask.selection.same_numa
    rooms = [room(c, columns, mask, preference, same_numa) for c, mask in zip(ask.containers, accepted, strict=True)]
    reasons = np.zeros(columns.rows, np.int64)
    for found in rooms:
        worse = (found.reasons > 0) & ((reasons == 0) | (found.reasons < reasons))
        reasons[worse] = found.reasons[worse]
    joined = preference.topology and any(container.cards > 1 for container in ask.containers)
    undecided = (reasons == 0) & ~columns.linked if joined else np.zeros(columns.rows, bool)
    if check_node:
        reasons[(reasons == 0) & ~undecided & ~node_fits(ask, columns)] = Reason.NODE
    if len(ask.containers) > 1:
        undecided |= (reasons == 0) & ~_surely_together(ask, columns, rooms, preference)
    return Verdicts(reasons, undecided)


def _surely_together(ask: PodAsk, columns: Columns, rooms: list[Room], preference: Preference) -> Bools:
    """Rows where one of two simple arrangements holds: every slice on a card of its own, or all on one card."""
    containers = ask.containers
    fits = np.logical_and.reduce([found.fits for found in rooms])
    several = any(container.cards > 1 for container in containers)
    apart: Bools = fits.sum(1) >= sum(container.cards for container in containers)
    if several and (ask.selection.same_numa or preference.topology):
        apart = np.zeros(columns.rows, bool)
    if several or preference.mutex or any(container.exclusive for container in containers):
        return apart
    memory = np.sum([needed_memory(container, columns) for container in containers], 0)
    together = (
        fits
        & (memory <= columns.memory - columns.used_memory)
        & (sum(container.cores for container in containers) <= columns.cores - columns.used_cores)
        & (len(containers) <= columns.slots - columns.used_slots)
    )
    found: Bools = apart | together.any(1)
    return found


# ---- choice of cards


def sort_keys(ask: ContainerAsk, columns: Columns, preference: Preference, price: Ints | None) -> list[Ints]:
    """The keys of `Preference` on every card, the first key first. `price` stands where the chain says `binpack`."""
    keys: list[Ints] = []
    for name in preference.orders:
        if name == "binpack" and price is not None:
            keys.append(price)
        if name == "numa":
            keys.append(columns.numa)
        else:
            full = fullness(ask, columns, preference)
            keys.append(-full if name == "binpack" else full)
    return keys


def fullness(ask: ContainerAsk, columns: Columns, preference: Preference) -> Ints:
    """`preference.fullness` on every card."""
    slot, core, memory = preference.weights
    held = columns.used_memory + needed_memory(ask, columns)
    return (
        slot * ((columns.used_slots + 1) * PERMILLE // np.maximum(columns.slots, 1))
        + core * ((columns.used_cores + ask.cores) * PERMILLE // np.maximum(columns.cores, 1))
        + memory * (held * PERMILLE // np.maximum(columns.memory, 1))
    )


def choose(ask: ContainerAsk, columns: Columns, fits: Bools, keys: list[Ints], same_numa: bool) -> Bools:
    """The cards taken on each row: the first `ask.cards` that fit, by the keys, then by column."""
    order = np.lexsort([*reversed(keys), ~fits], axis=1)
    place_of = np.argsort(order, axis=1)
    if same_numa and ask.cards > 1:
        good = _numa_mates(fits, columns) >= ask.cards
        first = np.where(good, place_of, place_of.shape[1]).argmin(1)
        numa = np.take_along_axis(columns.numa, first[:, None], 1)
        fits = good & (columns.numa == numa)
    rank = np.where(fits, place_of, place_of.shape[1])
    taken = np.argsort(np.argsort(rank, axis=1, kind="stable"), axis=1) < ask.cards
    return taken & fits


def charged(ask: ContainerAsk, columns: Columns, taken: Bools) -> Columns:
    """The rows once the container holds the taken cards."""
    return replace(
        columns,
        used_memory=columns.used_memory + needed_memory(ask, columns) * taken,
        used_cores=columns.used_cores + ask.cores * taken,
        used_slots=columns.used_slots + taken,
    )


def after(
    ask: PodAsk, columns: Columns, accepted: Sequence[Bools], preference: Preference, price: Ints | None
) -> Columns:
    """The rows once the pod's running containers hold cards, hardest first, each by its own preference.

    Exact for one container. With several it is the first path of `place`; rows where that path is a dead end keep
    what could be placed, which is good enough to rank them. `price` is used for a single container only.
    """
    running = [i for i, container in enumerate(ask.containers) if container.stage is not Stage.INIT]
    running.sort(key=lambda i: (-ask.containers[i].cards, -ask.containers[i].cores, i))
    for i in running or range(len(ask.containers)):
        container = ask.containers[i]
        fits = room(container, columns, accepted[i], preference, ask.selection.same_numa).fits
        keys = sort_keys(container, columns, preference, price if len(ask.containers) == 1 else None)
        columns = charged(container, columns, choose(container, columns, fits, keys, ask.selection.same_numa))
    return replace(columns, cpu=columns.cpu - ask.cpu_milli, node_memory=columns.node_memory - ask.memory_mib)
