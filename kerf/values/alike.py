"""Which cards one container may hold together: the one rule of webhook, filter, solver and checker.

A container's cards are distinct and its slices equal. Where the pod wants it, they are also of one NUMA node, or of one
model: the ranks of a model run at the pace of the slowest card.
"""

from collections.abc import Iterable, Sequence

from kerf.values.ask import Selection
from kerf.values.device import Card

Group = tuple[object, ...]


def group_of(selection: Selection, card: Card) -> Group:
    """Equal for cards that one container may hold together."""
    return (card.numa if selection.same_numa else 0, (card.vendor, card.model) if selection.same_model else 0)


def grouped(selection: Selection, count: int, cards: Sequence[Card]) -> list[list[int]]:
    """Positions of cards by group, in the order in which the groups first appear; one group for a single card."""
    if count == 1 or not selection.alike:
        return [list(range(len(cards)))]
    groups: dict[Group, list[int]] = {}
    for position, card in enumerate(cards):
        groups.setdefault(group_of(selection, card), []).append(position)
    return list(groups.values())


def together(selection: Selection, cards: Iterable[Card]) -> bool:
    """Whether one container may hold all of these."""
    return len({group_of(selection, card) for card in cards}) < 2
