"""What a node offers to Kubernetes' own allocator: cards, in which order, with which taints."""

from dataclasses import dataclass

from kerf.values.device import Card
from kerf.values.slicing import WHOLE


@dataclass(frozen=True, slots=True, order=True)
class DeviceTaint:
    """A taint of a device: NoSchedule keeps new claims away, NoExecute evicts the pods that use it, too."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class OfferedCard:
    """One card, over-commitment included, with what an ask that names no amount gets."""

    card: Card
    default_mib: int
    default_cores: int = 0
    taints: tuple[DeviceTaint, ...] = ()
    places: int = 0
    """What is held of a card in MIG mode, place by place."""


def equal_part(card: Card) -> int:
    """What a claim without memory gets where the policy says nothing: one slot's part of the card, never all of it."""
    return max(card.factory_memory_mib // max(card.slots, 2), 1)


def most_of(card: Card) -> tuple[int, int]:
    """The largest share of a card in MiB and percent of the cores.

    All of the cores is the card alone, which no share can promise: the whole card is another device.
    """
    return min(card.factory_memory_mib, card.memory_mib), WHOLE - 1 if card.cores <= WHOLE else WHOLE
