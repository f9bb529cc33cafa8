"""Which nodes are worth offering to a class: all of them in a small or full cluster, the likely ones in a large one."""

from collections import Counter

import numpy as np

from kerf.values.grant import Grant
from scheduler.solver.draft import Draft, Ints
from scheduler.solver.problem import PodClass

MOST_COUNTS = 4_000
"""Counts (class by card) up to which every node is offered; beyond it CP-SAT needs seconds to find its feet."""
AMPLE = 3
"""A narrowed class keeps the best-fitting nodes that could hold this many times its pods, were they alone."""
LEAST_NODES = 8


def candidates(
    draft: Draft, classes: tuple[PodClass, ...], seeds: list[dict[int, list[Grant]]]
) -> tuple[list[list[int]], bool]:
    """Nodes to offer to each class, by position, and whether nothing was lost. `seeds` name nodes that must stay."""
    pods = sum(len(klass.members) for klass in classes)
    ranked = _without_twins(draft, classes, pods)
    weights = [int(_room(draft, klass).astype(bool)[nodes].sum()) for klass, nodes in zip(classes, ranked, strict=True)]
    exact = sum(weights) <= MOST_COUNTS
    kept = [
        nodes if exact else _ample(nodes, _per_node(draft, klass), AMPLE * len(klass.members))
        for klass, nodes in zip(classes, ranked, strict=True)
    ]
    return [sorted({*nodes, *seed}) for nodes, seed in zip(kept, seeds, strict=True)], exact


def _ample(nodes: list[int], per_node: Ints, wanted: int) -> list[int]:
    kept: list[int] = []
    for n in nodes:
        if wanted <= 0 and len(kept) >= LEAST_NODES:
            break
        kept.append(n)
        wanted -= int(per_node[n])
    return kept


def _room(draft: Draft, klass: PodClass) -> Ints:
    """Slices of the class's first container that each card can take at once; one per card if it asks for none."""
    if not klass.ask.containers:
        return np.ones(draft.shape, np.int64)
    container = klass.ask.containers[0]
    wanted = draft.wanted(container)
    memory = draft.memory // wanted[0].clip(1)
    cores = np.where(wanted[1] > 0, draft.cores // wanted[1].clip(1), draft.slots)
    most = memory.clip(max=cores).clip(max=draft.slots)
    most[draft.alone(klass, container)] = 1
    slices: Ints = most * draft.fitting(klass, container)
    return slices


def _per_node(draft: Draft, klass: PodClass) -> Ints:
    ask = klass.ask
    most: Ints = _room(draft, klass).sum(axis=1) // max((container.cards for container in ask.containers), default=1)
    if ask.cpu_milli:
        most = most.clip(max=draft.cpu // ask.cpu_milli)
    if ask.memory_mib:
        most = most.clip(max=draft.ram // ask.memory_mib)
    return most


def _without_twins(draft: Draft, classes: tuple[PodClass, ...], pods: int) -> list[list[int]]:
    """Every class's nodes, best fit first, with at most `pods` nodes of a kind: no plan can tell more apart."""
    ranked = [[int(n) for n in draft.best_first(klass)] for klass in classes]
    on_offer = sorted({klass.nodes for klass in classes if klass.nodes is not None}, key=sorted)
    named = {card for k in classes for card in (*k.ask.selection.use_ids, *k.ask.selection.avoid_ids)}
    seen: Counter[object] = Counter()
    kept: set[int] = set()
    for n in sorted({n for nodes in ranked for n in nodes}):
        kind = _kind(draft, n, named), *(draft.states[n].name in nodes for nodes in on_offer)
        seen[kind] += 1
        if seen[kind] <= pods:
            kept.add(n)
    return [[n for n in nodes if n in kept] for nodes in ranked]


def _kind(draft: Draft, n: int, named: set[str]) -> tuple[object, ...]:
    """Equal for nodes that are interchangeable for every class."""
    state = draft.states[n]
    place = {held.card.id: g for g, held in enumerate(state.cards)}
    cards = tuple(
        (
            *(held.card.vendor, held.card.model, held.card.mode, held.card.numa, held.used, held.usable),
            *(held.card.memory_mib, held.card.factory_memory_mib, held.card.cores, held.card.slots, held.card.slicing),
            *(held.card.id if held.card.id in named else "", tuple(sorted(place.get(i, -1) for i in held.card.links))),
        )
        for held in state.cards
    )
    return state.free_cpu_milli, state.free_memory_mib, cards
