"""What is free on a node right now, as frozen values: the input of every exact placement decision."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kerf.values.device import Card
from kerf.values.grant import NO_USE, CardUse


@dataclass(frozen=True, slots=True)
class CardState:
    """A card and what pods hold of it. `free` may be negative where hardware shrank under running pods."""

    card: Card
    used: CardUse
    usable: bool = True
    """Healthy, not cordoned, of a mode that can be sliced, and handed out by the scheduler."""

    @property
    def free(self) -> CardUse:
        """Grantable MiB, percent of SMs and slots that are free. Places have no amount."""
        return CardUse(
            self.card.memory_mib - self.used.memory_mib,
            self.card.cores - self.used.cores,
            self.card.slots - self.used.slots,
        )


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's cards by index and its unrequested CPU (thousandths) and memory (MiB)."""

    name: str
    cards: tuple[CardState, ...]
    free_cpu_milli: int
    free_memory_mib: int
    problem: str = ""
    schedulable: bool = True
    """Whether the node takes new pods."""

    def holding(self, uses: Mapping[str, CardUse]) -> "NodeState":
        """The node once pods also hold this of its cards, by card id; its CPU and memory stay."""
        cards = (replace(card, used=card.used + uses.get(card.card.id, NO_USE)) for card in self.cards)
        return replace(self, cards=tuple(cards))
