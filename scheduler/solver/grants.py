"""A solution's counts as grants, one a pod."""

from collections.abc import Mapping

from kerf.values.ask import ContainerAsk
from kerf.values.grant import ContainerGrant, Grant, Slice
from scheduler.solver.draft import Draft
from scheduler.solver.model import Model, Spots


def grants_of(spots: Spots, model: Model) -> list[tuple[int, Grant]]:
    """The solution's counts as grants, one a pod, in the order of nodes."""
    placed: list[tuple[int, Grant]] = []
    for (n, _), counts in spots.slices.items():
        container = spots.klass.ask.containers[0]
        on_cards = {g: model.of(count) for g, count in counts.items()}
        free = {
            g: [place.adds for var, place in spots.places.get((n, g), ()) for _ in range(model.of(var))] for g in counts
        }
        placed += [(n, _sliced(container, model.draft, (n, free), cards)) for cards in deal(on_cards, container.cards)]
    for n, grants in spots.ready.items():
        for grant, count in grants:
            placed += [(n, grant)] * model.of(count)
    return sorted(placed, key=lambda spot: spot[0])


def deal(counts: Mapping[int, int], size: int) -> list[tuple[int, ...]]:
    """Deal slices to pods of `size` distinct cards each: {0: 2, 1: 1, 2: 1}, 2 → [(0, 1), (0, 2)].

    No card has more slices than there are pods, so dealing in turn never gives a pod the same card twice.
    """
    pods = sum(counts.values()) // size
    heap = [g for g in sorted(counts) for _ in range(counts[g])]
    return [tuple(sorted(heap[pod::pods])) for pod in range(pods)]


def _sliced(
    container: ContainerAsk, draft: Draft, free: tuple[int, dict[int, list[int]]], cards: tuple[int, ...]
) -> Grant:
    """A grant on these cards of a node, at places that are taken out of those that are free there."""
    memory, cores = draft.wanted(container)
    n, places = free
    slices = []
    for g in cards:
        card, place = draft.card((n, g)), places[g].pop(0) if places[g] else 0
        slices.append(Slice(card.id, card.vendor, int(memory[n, g]), int(cores[n, g]), place))
    return Grant((ContainerGrant(container.name, tuple(slices)),))
