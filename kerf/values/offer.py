"""What a node offers to Kubernetes' own allocator: cards, in which order, with which taints."""

from dataclasses import dataclass

from kerf.values.device import Card


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
