"""What HAMi's records of its pods mean: the inverse of what Kerf writes into a Binding for a vendor's own plugin.

A record has no more than an id, MiB and cores in the vendor's own units. The card says the rest: how large a whole one
is, which template has so many MiB, where on the card a slice lies.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kerf.values.device import Card
from kerf.values.grant import Slice
from kerf.values.places import one
from kerf.values.recorded import Device, Held
from kerf.values.slicing import Exactly, Partitions, Size, Templates, WholeCard
from kerf.values.vendor import as_written
from kerf.values.words import ResourceNames

Meaning = Callable[[Device, Card], Slice]
"""The slice of a card that a recorded device is."""
Owner = Callable[[str, Mapping[str, Card]], Card | None]
"""The card of a recorded id."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How one vendor's records are read."""

    words: ResourceNames
    meaning: Meaning | None = None
    """None: what is written is MiB and percent, and the card's slicing says the rest."""
    owner: Owner | None = None
    """None: every id is a card's own."""

    def held(self, devices: tuple[Device, ...], cards: Mapping[str, Card], group: str) -> tuple[Slice, ...]:
        """The slices of one container. What is recorded of a card that the node does not have is taken as written."""
        found: dict[str, Slice] = {}
        for device in devices:
            card = self.owner(device[0], cards) if self.owner else cards.get(device[0])
            piece = as_written((device,), self.words)[0]
            if card is not None:
                piece = self.meaning(device, card) if self.meaning else _on(card, piece, group)
            found[piece.card] = _both(found[piece.card], piece) if piece.card in found else piece
        return tuple(found.values())


def reader(words: ResourceNames, meaning: Meaning | None, owner: Owner | None) -> Held:
    """How a vendor's records are read."""
    return Reader(words, meaning, owner).held


def share_of(card: Card) -> Slice:
    """A place on a card that is never divided: all of it, or its part where the plugin lets several pods on it."""
    slots = max(card.slots, 1)
    return Slice(card.id, card.vendor, card.memory_mib // slots, min(card.cores, 100) // slots)


def _on(card: Card, piece: Slice, group: str) -> Slice:
    match card.slicing:
        case WholeCard():
            return share_of(card)
        case Templates() as slicing:
            return _sized(piece, slicing.offered(card))
        case Partitions() as slicing:
            part = slicing.largest(card)
            return replace(piece, memory_mib=part.memory_mib, cores=part.cores)
        case Exactly(groups) if groups:
            names = [name for name, _ in groups]
            return replace(piece, place=one(names.index(group))) if group in names else piece
        case _:
            return piece


def _sized(piece: Slice, offered: tuple[Size, ...]) -> Slice:
    """The template or whole card of so many MiB; a record of another size stays as it is written."""
    found = next((size for size in offered if size.memory_mib == piece.memory_mib), None)
    if found is None:
        return piece
    return replace(piece, cores=found.cores, place=found.places[0].adds if found.places else 0)


def _both(first: Slice, second: Slice) -> Slice:
    """Two recorded devices that are parts of one card."""
    memory, cores = first.memory_mib + second.memory_mib, min(first.cores + second.cores, 100)
    return replace(first, memory_mib=memory, cores=cores)
