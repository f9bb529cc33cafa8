"""A node: its cards and what Kubernetes says of its CPU and memory."""

from dataclasses import dataclass

from kerf.values.device import Card
from kerf.values.quick import quick


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint that keeps pods away: NoSchedule or NoExecute."""

    key: str
    value: str
    effect: str


@quick
@dataclass(frozen=True, slots=True)
class Node:
    """What the scheduler knows of a node before any pod is counted.

    `cordoned` holds ids of cards that take no new slices; what they hold stays counted.
    `allocatable_slots` is the kubelet's count of the vendor's extended resource, None where it is not known.
    `problem` says in one sentence why the inventory could not be read; such a node has no cards.
    """

    name: str
    cards: tuple[Card, ...] = ()
    cpu_milli: int = 0
    memory_mib: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    cordoned: tuple[str, ...] = ()
    schedulable: bool = True
    ready: bool = True
    """Whether its kubelet reports: the capacity of a lost node counts for no quota."""
    problem: str = ""
    taints: tuple[Taint, ...] = ()
    fault_cordoned: tuple[str, ...] = ()
    """Those of `cordoned` that Kerf itself cordoned because of a fault."""
    avoided: bool = False
    """It has a taint PreferNoSchedule: kube-scheduler prefers other nodes."""
    resumed: int = 0
    """When a person let recovery go on here (seconds since 1970): faults from before do not count as one event."""

    def card(self, card_id: str) -> Card | None:
        """The card with this id, or None."""
        return next((card for card in self.cards if card.id == card_id), None)
