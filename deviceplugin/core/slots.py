"""Slots: the anonymous ids that the kubelet counts, and the CDI device names that represent a set of them.

A slot belongs to no card. An id depends on its number only, so ids survive every restart.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from kerf.values.allocator import Allocator
from kerf.values.device import Card
from kerf.values.slicing import sliceable
from kerf.wire.cdi import KIND, device_id

LONGEST_STEM = 100
"""Characters. The stem is part of a file name, which may have 255."""
TURNS = 4
"""How many containers of one pod can hold the same slots and still be distinguished."""


@dataclass(frozen=True, slots=True)
class Resource:
    """An extended resource by which the kubelet counts the slots of one vendor's cards."""

    name: str
    vendor: str
    suffix: str = ""
    """Distinguishes the slots and the socket from those of other vendors on the node."""

    @property
    def prefix(self) -> str:
        """What the resource's slot ids start with."""
        return f"kerf{self.suffix}-"


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as ListAndWatch reports it."""

    id: str
    healthy: bool = True


def slots_of(resource: Resource, cards: Iterable[Card], withdrawn: frozenset[str] = frozenset()) -> tuple[Slot, ...]:
    """The slots of all cards of the resource that Kerf slices, in any health. Withdrawn slots are unhealthy."""
    total = sum(card.slots for card in _sliced(resource, cards))
    names = (f"{resource.prefix}{number}" for number in range(total))
    return tuple(Slot(name, name not in withdrawn) for name in names)


def inherited(slots: Iterable[str]) -> bool:
    """Whether another device plugin handed out these slots before the node moved to Kerf.

    The kubelet still honours them. This cannot be forged: since Kerf's plugin registered, the kubelet hands out
    Kerf's ids only.
    """
    return all(not slot.startswith("kerf-") for slot in slots)


def withdraw(resource: Resource, cards: Iterable[Card], held: frozenset[str], before: frozenset[str]) -> frozenset[str]:
    """Which slots are unhealthy: as many as the unhealthy cards and those of DRA have, but never one that a pod holds.

    Slots are anonymous, so any free slot will do: first those withdrawn before, then from the highest number down. A
    held slot stays healthy, because the kubelet would refuse to restart a container whose own card is healthy.
    """
    known = tuple(_sliced(resource, cards))
    names = [slot.id for slot in slots_of(resource, known)]
    sick = sum(card.slots for card in known if not card.healthy or card.allocator is not Allocator.EXTENDER)
    free = [name for name in reversed(names) if name not in held]
    ranked = sorted(free, key=lambda name: name not in before)
    return frozenset(ranked[:sick])


def stem(slots: Iterable[str]) -> str:
    """A name for a set of slots that is valid as a CDI device and as a file. Many slots are named by their digest."""
    text = device_id(tuple(slots))
    if len(text) <= LONGEST_STEM:
        return text
    return f"kerf-many-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def turn_name(slots: Iterable[str], turn: int) -> str:
    """The CDI device that the `turn`-th Allocate of these slots answers with.

    The kubelet gives an init container's slots to a later container of the same pod. Each Allocate of the same
    slots therefore returns another device name, and the kubelet remembers which container got which name.
    """
    return f"{stem(slots)}.{turn % TURNS}"


def turn_names(slots: Iterable[str]) -> tuple[str, ...]:
    """Every device name these slots can have."""
    listed = tuple(slots)
    return tuple(turn_name(listed, turn) for turn in range(TURNS))


def qualified(name: str) -> str:
    """The fully qualified CDI name, as Allocate answers it."""
    return f"{KIND}={name}"


def _sliced(resource: Resource, cards: Iterable[Card]) -> Iterable[Card]:
    return (card for card in cards if card.vendor == resource.vendor and sliceable(card))
