"""Nodes of which only the number of free cards matters, folded into kinds, and what each kind can hold at once."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from scheduler.solver.fleet import FAR, Flags, Fleet
from scheduler.solver.problem import PodClass

Pattern = tuple[int, ...]
"""Pods of each class that a node holds at once."""
MOST_PATTERNS = 20_000
"""Patterns over all kinds of nodes; more classes than that many patterns need are counted card by card instead."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Nodes, by position in the fleet, that can hold the same: the patterns none of which is part of another."""

    nodes: tuple[int, ...]
    patterns: tuple[Pattern, ...]


def kinds_of(fleet: Fleet, classes: tuple[PodClass, ...], groups: tuple[int, ...]) -> tuple[Kind, ...] | None:
    """The fleet's nodes by what they can hold, apart for each of `groups` (a number per node).

    None where a class does not want whole cards, where the classes accept different cards of one node, or where there
    would be too many patterns.
    """
    if not classes or not all(_whole(fleet, klass) for klass in classes):
        return None
    fitting: Flags = np.stack([fleet.fitting(klass, klass.ask.containers[0]) for klass in classes])
    free: Flags = np.logical_or.reduce(fitting)
    if not all(np.array_equal(flags, flags.any(axis=1, keepdims=True) & free) for flags in fitting):
        return None
    open_to: Flags = np.stack([fleet.node_costs(klass) < FAR for klass in classes])
    shapes = tuple((k.ask.containers[0].cards, k.ask.cpu_milli, k.ask.memory_mib) for k in classes)
    members: dict[tuple[int, tuple[Pattern, ...]], list[int]] = defaultdict(list)
    known: dict[tuple[object, ...], tuple[Pattern, ...]] = {}
    for n in np.flatnonzero(np.logical_or.reduce(open_to)):
        room = int(free[n].sum()), int(fleet.cpu[n]), int(fleet.ram[n])
        taking = tuple(bool(flag) for flag in open_to[:, n])
        if (room, taking) not in known:
            known[room, taking] = tuple(_patterns(room, shapes, taking))
        members[groups[n], known[room, taking]].append(int(n))
        if sum(len(patterns) for patterns in known.values()) > MOST_PATTERNS:
            return None
    return tuple(Kind(tuple(nodes), patterns) for (_, patterns), nodes in members.items())


def _whole(fleet: Fleet, klass: PodClass) -> bool:
    """Whether every pod of the class takes whole cards, any of those that fit."""
    if not klass.sliced or (klass.ask.selection.same_numa and klass.ask.containers[0].cards > 1):
        return False
    container = klass.ask.containers[0]
    return bool(fleet.alone(klass, container)[fleet.fitting(klass, container)].all())


def _patterns(
    room: tuple[int, int, int], shapes: tuple[tuple[int, int, int], ...], taking: tuple[bool, ...]
) -> Iterator[Pattern]:
    """Counts per class that fit in the room (cards, CPU, memory) together and leave no room for one more pod."""

    def fits(shape: tuple[int, int, int], left: tuple[int, int, int]) -> bool:
        return all(want <= have for want, have in zip(shape, left, strict=True))

    def extend(i: int, left: tuple[int, int, int], counts: Pattern) -> Iterator[Pattern]:
        if i == len(shapes):
            if not any(take and fits(shape, left) for shape, take in zip(shapes, taking, strict=True)):
                yield counts
            return
        count = 0
        while True:
            yield from extend(i + 1, left, (*counts, count))
            if not (taking[i] and fits(shapes[i], left)):
                return
            left = left[0] - shapes[i][0], left[1] - shapes[i][1], left[2] - shapes[i][2]
            count += 1

    yield from islice(extend(0, room, ()), MOST_PATTERNS + 1)
