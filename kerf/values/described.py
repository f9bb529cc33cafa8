"""A vendor as its description says: the parts of a CardVendor document as values."""

from dataclasses import dataclass, field
from enum import StrEnum

from kerf.values.slicing import Slicing
from kerf.values.words import ResourceNames


class Source(StrEnum):
    """Where the vendor's device plugin publishes its cards."""

    REGISTER = "register"  # a node annotation in HAMi's text or JSON form
    CAPACITY = "capacity"  # the node's capacity


class Note(StrEnum):
    """What an annotation of the Binding has."""

    SLICES = "slices"  # every container's slices, as HAMi writes them
    INDEXES = "indexes"  # indexes of the cards of the last container that has any
    NODE = "node"
    SECONDS = "seconds"  # Unix time
    NANOSECONDS = "nanoseconds"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a node's cards are read.

    From capacity, `per_card` units of the resource `cards` are one card. A card has `memory_mib`, or its part of the
    resource `memory` in units of `memory_unit_mib`.
    """

    source: Source
    annotation: str = ""
    cards: str = ""
    per_card: int = 1
    memory: str = ""
    memory_unit_mib: int = 1
    memory_mib: int = 0
    card_id: str = ""
    """With `{node}` and `{index}`."""
    model: str = ""
    """The model of every card; empty: the type that each is registered with."""
    slots: int = 1
    two_numa_nodes: bool = False
    """The second half of the cards is on NUMA node 1."""
    largest_mib: int = 0
    """MiB that a card may grant at most, whatever is registered; 0 is no bound."""


@dataclass(frozen=True, slots=True)
class Description:
    """One vendor of cards that its own device plugin serves."""

    name: str
    words: ResourceNames
    slicing: Slicing
    reading: Reading
    word: str
    """The type by which HAMi's records name the vendor's devices; empty: the model of each."""
    recorded: tuple[int | None, int | None] = (None, None)
    """MiB and cores of every slice in HAMi's records; None: the slice's own."""
    notes: tuple[tuple[str, Note | str], ...] = ()
    """Annotations of the Binding; a text that is no `Note` is written as it is."""
    plugin_notes: tuple[str, ...] = ()
    """Annotations that the plugin itself writes on pods and obeys later."""
    lock: str = ""
    allocated: str = ""
    """The annotation of `notes` in which a pod's slices are recorded for good."""
    env: tuple[tuple[str, Note], ...] = field(default=())
    """Environment of containers where Kerf's own device plugin serves the cards, as it does in simulation."""
    labels: tuple[str, ...] = ()
    """Labels that discovery tools set to "true" on nodes with such cards."""
