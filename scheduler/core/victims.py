"""Preemption: the fewest, least important pods of a node whose leaving makes room on its cards."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from kerf.values.ask import PodAsk
from kerf.values.grant import NO_USE, CardUse, Grant
from kerf.values.quota import Usage
from kerf.values.verdict import Misfit
from scheduler.core.state import NodeState

MOST_FOR_SEARCH = 24
"""Up to so many candidates every pair is tried; beyond, one pod or the reprieve below."""

Place = Callable[[PodAsk, NodeState], Grant | Misfit]


@dataclass(frozen=True, slots=True)
class Evictable:
    """A pod that may leave for another one."""

    uid: str
    key: str
    priority: int
    uses: Mapping[str, CardUse]
    cpu_milli: int = 0
    memory_mib: int = 0
    created: str = ""
    owner: str = ""
    """Its tenant; empty for none."""
    holds: Usage = field(default_factory=Usage)
    """What it holds by class."""
    guarded: bool = False
    """It may leave only while its owner borrows."""
    borrowed: bool = False
    """It leaves for a guarantee, whatever its priority."""


Allowed = Callable[[Sequence[Evictable]], bool]


def _always(_: Sequence[Evictable]) -> bool:
    return True


def in_turn(pods: Iterable[Evictable]) -> list[Evictable]:
    """Who leaves first: what is borrowed, the least important, the newest."""
    newest = sorted(sorted(pods, key=lambda pod: (pod.key, pod.uid)), key=lambda pod: pod.created, reverse=True)
    return sorted(newest, key=lambda pod: (not pod.borrowed, pod.priority))


def choose_victims(
    ask: PodAsk, node: NodeState, evictable: Sequence[Evictable], place: Place, allowed: Allowed = _always
) -> tuple[str, ...] | None:
    """The uids to evict so that `place` succeeds: none if it does already. None if evicting all of them would not help.

    One victim is better than two, two better than more; among equals those that come first `in_turn`. With more than
    two, pods are spared from the last on, as kube-scheduler does, which leaves no needless victim. `allowed` says
    whether some of them may leave together; what holds for some holds for fewer.
    """
    order = in_turn(evictable)
    if not isinstance(place(ask, node), Misfit):
        return ()
    if not order or isinstance(place(ask, without(node, order)), Misfit):
        return None
    for size in (1, 2):
        if size == 2 and len(order) > MOST_FOR_SEARCH:
            break
        for numbers in sorted(combinations(range(len(order)), size), key=lambda chosen: chosen[::-1]):
            chosen = [order[number] for number in numbers]
            if allowed(chosen) and not isinstance(place(ask, without(node, chosen)), Misfit):
                return tuple(pod.uid for pod in chosen)
    return next(
        (found for together in _together(order, allowed) if (found := _spare(ask, node, together, place))), None
    )


def _together(order: list[Evictable], allowed: Allowed) -> Iterable[list[Evictable]]:
    """Sets that may leave together, as large as they get: in turn, and for each card those first that use it."""
    yield _as_many(order, allowed)
    if not allowed(order):
        for card in sorted({card for pod in order for card in pod.uses}):
            yield _as_many(sorted(order, key=lambda pod: card not in pod.uses), allowed)


def _as_many(order: list[Evictable], allowed: Allowed) -> list[Evictable]:
    if allowed(order):
        return order
    chosen: list[Evictable] = []
    for pod in order:
        if allowed([*chosen, pod]):
            chosen.append(pod)
    return chosen


def _spare(ask: PodAsk, node: NodeState, order: list[Evictable], place: Place) -> tuple[str, ...]:
    """Those of the pods that have to leave; none if all of them are not enough."""
    victims = list(order)
    if isinstance(place(ask, without(node, victims)), Misfit):
        return ()
    for pod in reversed(order):
        rest = [other for other in victims if other is not pod]
        if not isinstance(place(ask, without(node, rest)), Misfit):
            victims = rest
    return tuple(pod.uid for pod in victims)


def without(node: NodeState, pods: Sequence[Evictable]) -> NodeState:
    """The node as it would be without these pods."""
    gone: dict[str, CardUse] = {}
    for pod in pods:
        for card, use in pod.uses.items():
            gone[card] = gone.get(card, NO_USE) + use
    return replace(
        node,
        cards=tuple(replace(state, used=state.used - gone.get(state.card.id, NO_USE)) for state in node.cards),
        free_cpu_milli=node.free_cpu_milli + sum(pod.cpu_milli for pod in pods),
        free_memory_mib=node.free_memory_mib + sum(pod.memory_mib for pod in pods),
    )
