"""A plan's counts put onto the very nodes and cards that they were counted from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from scheduler.solver.fleet.problem import Block, FleetPlan, Kind, NodeSpace, Step
from scheduler.solver.fleet.shelf import place_pod, seat_block, seat_pod, with_blocks

Named = tuple[str, tuple[str, ...]]
"""A node, and the ids of its cards in the order of their free spaces."""
Seat = tuple[str, str, str, tuple[str, ...]]
"""A workload, the cluster, the node, and the ids of the cards of which one pod gets slices, sorted."""


def seats(plan: FleetPlan, nodes: Mapping[tuple[str, NodeSpace], Sequence[Named]]) -> Iterator[Seat]:
    """A seat for each pod of the plan. `nodes` are those that the problem counted, by cluster and free space."""
    for site, kind, steps in plan.steps:
        mine = ((space, found) for (name, space), found in nodes.items() if name == site)
        pool = {space: list(found) for space, found in mine if space.kind == kind.name}
        for demand, node, cards in _replayed(kind, steps, pool):
            yield demand, site, node, cards


def _replayed(
    kind: Kind, steps: Iterable[Step], pool: dict[NodeSpace, list[Named]]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for step in steps:
        waiting = pool[step.before]
        for _ in range(step.nodes):
            node, ids = waiting.pop()
            after = step.before
            for _ in range(step.times):
                after, ids, taken = _one(kind, after, ids, step)
                for demand, cards in taken:
                    yield demand, node, cards
            pool.setdefault(after, []).append((node, ids))


def _one(
    kind: Kind, node: NodeSpace, ids: tuple[str, ...], step: Step
) -> tuple[NodeSpace, tuple[str, ...], list[tuple[str, tuple[str, ...]]]]:
    """One block or pod more: the node, its cards in their new order, and who takes which."""
    if isinstance(step.what, Block):
        cards = list(node.cards)
        at = seat_block(cards, step.what)
        after = with_blocks(node, step.what, 1)
        taken = [(name, _named(ids, (at[i] for i in own))) for name, own in step.what.pods]
    else:
        demand, fit = step.what
        seated, placed = seat_pod(kind, node, demand, fit), place_pod(kind, node, demand, fit)
        assert seated is not None, "the step was made on a node such as this one"
        assert placed is not None, "a pod that has a seat has a place"
        cards, after = seated[0], placed[0]
        taken = [(demand.name, _named(ids, seated[1]))]
    order = sorted(range(len(cards)), key=lambda i: (cards[i], ids[i]))
    return after, tuple(ids[i] for i in order), taken


def _named(ids: Sequence[str], at: Iterable[int]) -> tuple[str, ...]:
    return tuple(sorted(ids[i] for i in at))
