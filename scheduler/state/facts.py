"""What a node's columns say of its cards, whatever their ids and whatever pods hold: thousands of nodes share it."""

from dataclasses import dataclass

from kerf.values.device import Card
from scheduler.core.columns import Ints


@dataclass(frozen=True, slots=True)
class Facts:
    """The values by column, and those of the node: the number of its hardware, and whether every card is linked."""

    by_card: tuple[tuple[str, Ints], ...]
    hardware: int
    linked: bool


def all_linked(cards: tuple[Card, ...]) -> bool:
    """Whether every card is joined to every other."""
    ids = {card.id for card in cards}
    return all(ids <= {card.id, *card.links} for card in cards)


def hardware_of(cards: tuple[Card, ...]) -> tuple[object, ...]:
    """All fixed facts of a node's cards, with links as columns instead of ids."""
    column = {card.id: i for i, card in enumerate(cards)}
    return tuple(
        (
            (card.vendor, card.model, card.mode, card.slicing, card.memory_mib, card.factory_memory_mib),
            (card.cores, card.slots, card.numa),
            tuple(sorted(column[peer] for peer in card.links if peer in column)),
        )
        for card in cards
    )
