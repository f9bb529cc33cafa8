"""What is free on a node right now, as frozen values: the input of every exact placement decision."""

from dataclasses import dataclass

from kerf.values.device import Card
from kerf.values.grant import CardUse


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
