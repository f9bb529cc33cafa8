"""Preemption: the fewest, least important pods of a node whose leaving makes room on its cards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from kerf.values.ask import PodAsk
from kerf.values.grant import NO_USE, CardUse, Grant
from kerf.values.verdict import Misfit
from scheduler.core.state import NodeState

MOST_FOR_SEARCH = 24
"""Up to so many candidates every pair is tried; beyond, one pod or the reprieve below."""

Place = Callable[[PodAsk, NodeState], Grant | Misfit]


@dataclass(frozen=True, slots=True)
class Evictable:
    """A pod that a more important one may evict."""

    uid: str
    key: str
    priority: int
    uses: Mapping[str, CardUse]
    cpu_milli: int = 0
    memory_mib: int = 0


def choose_victims(
    ask: PodAsk, node: NodeState, evictable: Sequence[Evictable], place: Place
) -> tuple[str, ...] | None:
    """The uids to evict so that `place` succeeds: none if it does already. None if evicting all of them would not help.

    One victim is better than two, two better than more; among equals the least important, then by name. With more
    than two, pods are spared from the most important on, as kube-scheduler does, which leaves no needless victim.
    """
    order = sorted(evictable, key=lambda pod: (pod.priority, pod.key, pod.uid))
    if not isinstance(place(ask, node), Misfit):
        return ()
    if not order or isinstance(place(ask, without(node, order)), Misfit):
        return None
    for size in (1, 2):
        if size == 2 and len(order) > MOST_FOR_SEARCH:
            break
        sets = sorted(
            combinations(order, size), key=lambda chosen: [(pod.priority, pod.key, pod.uid) for pod in chosen[::-1]]
        )
        for chosen in sets:
            if not isinstance(place(ask, without(node, chosen)), Misfit):
                return tuple(pod.uid for pod in chosen)
    return _spare(ask, node, order, place)


def _spare(ask: PodAsk, node: NodeState, order: list[Evictable], place: Place) -> tuple[str, ...]:
    victims = list(order)
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
