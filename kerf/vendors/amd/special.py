"""AMD's cores. HAMi 2.10.0: `pkg/device/amd/device.go`: a card's cores are compute units, a pod's are percent.

The plugin hands out whole compute units, on RDNA whole workgroup processors of two (`custominfo.cuPerWGP` of the
registration), so a share is rounded up to them. A percentage of 100 units or more is a number of units by itself.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.grant import Slice
from kerf.values.recorded import Device
from kerf.values.slicing import Exactly, Hardware, Plain, Size, Slicing
from kerf.values.words import CoresError, Said
from kerf.vendors.build import Special
from kerf.wire import hami
from kerf.wire.json import Json, at

REGISTER, TOGETHER = "hami.io/node-amd-register", "cuPerWGP"


def resolve(ask: ContainerAsk, said: Said) -> ContainerAsk:
    """Percent are from 1 to 100. Raises ValueError."""
    if said.cores is not None and not 1 <= said.cores <= 100:
        raise CoresError(f"cores are percent: {said.cores} is not from 1 to 100")
    return ask


@dataclass(frozen=True, slots=True)
class ComputeUnits(Plain):
    """Any number of MiB, and so many of the card's compute units that they have the percentage that is asked."""

    units: int
    together: int
    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """The memory that is asked, and cores rounded up to whole units."""
        memory = ask.memory_on(card.factory_memory_mib)
        if memory > card.memory_mib or ask.cores > card.cores:
            return ()
        groups = -(-max(self.units * ask.cores // 100, 1) // self.together)
        return (Size(memory, percent_of(min(groups * self.together, self.units), self.units)),)

    def largest(self, card: Hardware) -> Size:
        """The whole card."""
        return Size(card.memory_mib, min(card.cores, 100))


def slicing_of(card: Card) -> Slicing:
    """Any size, of whole compute units."""
    units, together = units_of(card), int(card.fact(TOGETHER) or 1)
    return Exactly() if units >= 100 and together == 1 else ComputeUnits(units, together)


def units_of(card: Card) -> int:
    """How many compute units the card has."""
    return max(int(card.fact("cores") or 100), 1)


def percent_of(units: int, of: int) -> int:
    """Units as a percentage of all, rounded up, so that slices which fill a card never count as less."""
    return min(-(-units * 100 // of), 100)


def cards(node: Json, found: tuple[Card, ...]) -> tuple[Card, ...]:
    """The cards, with how many of their units go together. Raises WireError."""
    text = str(at(node, "metadata", "annotations").get(REGISTER, "[]"))
    records = {str(record.get("id")): at(record, "custominfo") for record in hami.parse_records(text, REGISTER)}
    return tuple(_with_groups(card, records[card.id].get(TOGETHER)) for card in found)


def _with_groups(card: Card, together: object) -> Card:
    if not isinstance(together, int | float) or not 1 < together <= units_of(card):
        return card
    return replace(card, facts=(*card.facts, (TOGETHER, str(int(together)))))


def device(piece: Slice, card: Card) -> Device:
    """A slice in HAMi's record: the card's own type, and whole compute units, at least one."""
    units, together = units_of(card), int(card.fact(TOGETHER) or 1)
    taken = units * piece.cores // 100
    if piece.cores < 100:
        taken = max(taken // together * together, min(together, units))
    return piece.card, card.model, piece.memory_mib, taken


def means(recorded: Device, card: Card) -> Slice:
    """A recorded device as a slice."""
    return Slice(card.id, card.vendor, recorded[2], percent_of(recorded[3], units_of(card)))


SPECIAL = Special(words={"resolve": resolve}, slicing_of=slicing_of, cards=cards, device=device, means=means)
