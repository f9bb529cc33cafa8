"""Enflame DRS: profiles of slices, read from the node. HAMi 2.10.0: `pkg/device/enflame/device.go`.

`enflame.com/drs-gcu: n` is one slice that has the profile of n parts. `gcu-memory` below 256 is GB, from 256 on MiB
that are rounded up to GB. (HAMi's border is twice the largest profile of the node, so that a number between the two
means different sizes on different nodes; here it is refused where no card has it.) A profile's cores are booked rounded
down: six profiles of a sixth fit on a card. HAMi's record has them rounded up.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.grant import Slice
from kerf.values.recorded import Device
from kerf.values.slicing import Hardware, NotSliced, Plain, Size, Slicing
from kerf.values.vendor import Placement
from kerf.values.words import CoresError, Said
from kerf.vendors.build import SERVED, Special
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, dumps

VENDOR = "enflamedrs"
CAPACITY = "enflame.com/gcu-drs-capacity"
INDEX, MINOR, ID = "enflame.com/gcu-assigned-index", "enflame.com/gcu-assigned-minor", "enflame.com/gcu-assigned-id"
SIZE, CONTAINERS = "enflame.com/gcu-request-size", "assigned-containers"
GIB, SMALLEST_MIB = 1024, 256
_PROFILE = re.compile(r"^(\d{1,3})g\.(\d{1,4})gb$")
_MOST = 64


def resolve(ask: ContainerAsk, said: Said) -> ContainerAsk:
    """One slice, by its number of parts or by memory and cores. Raises ValueError."""
    if said.count and (said.memory_mib is not None or said.cores is not None):
        raise ValueError("drs-gcu says the size: drop gcu-memory and gcu-core, or drop drs-gcu")
    if said.count:
        return replace(ask, cards=1, memory_mib=1, memory_percent=None, cores=0, group=str(said.count))
    if said.cores is not None and not 1 <= said.cores <= 100:
        raise CoresError(f"cores are percent: {said.cores} is not from 1 to 100")
    if said.memory_mib == 0:
        raise ValueError("write a memory above 0, or drop it")
    return replace(ask, cards=1, memory_mib=said.memory_mib or 1, memory_percent=None, cores=said.cores or 0, group="")


@dataclass(frozen=True, slots=True)
class Profiles(Plain):
    """The profiles of a card, by parts: an ask that names parts gets that profile, another the first that holds it."""

    sizes_by_parts: tuple[tuple[int, Size], ...]
    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def sizes(self, ask: ContainerAsk, _card: Hardware) -> tuple[Size, ...]:
        """The profiles that answer the ask."""
        if ask.group:
            return tuple(size for parts, size in self.sizes_by_parts if str(parts) == ask.group)
        memory = ask.memory_on(0) if ask.memory_mib is None else ask.memory_mib
        return _rising(size for _, size in self.sizes_by_parts if size.memory_mib >= memory and size.cores >= ask.cores)

    def unanswered(self, ask: ContainerAsk) -> str:
        """Which parts have a profile, where those that are asked have none."""
        parts = ", ".join(str(parts) for parts, _ in self.sizes_by_parts)
        return f"its profiles are of {parts} parts, and none of {ask.group}" if ask.group else ""

    def largest(self, _card: Hardware) -> Size:
        """The largest profile."""
        return max((size for _, size in self.sizes_by_parts), default=Size(0, 0))


def _rising(sizes: Iterable[Size]) -> tuple[Size, ...]:
    found: list[Size] = []
    for size in sizes:
        if not found or (size.memory_mib >= found[-1].memory_mib and size.cores >= found[-1].cores):
            found.append(size)
    return tuple(found)


def _ids(card: Card) -> dict[str, str]:
    """By name, the numbers of the card's profiles."""
    return dict(item.split("=", 1) for item in card.fact("profiles").split(",") if "=" in item)


def _profiles(names: Iterable[str]) -> tuple[tuple[int, Size], ...]:
    parsed = [(int(m[1]), int(m[2]), name) for name in names if (m := _PROFILE.match(name))]
    most = max((parts for parts, _, _ in parsed), default=1)
    return tuple((parts, Size(gb * GIB, parts * 100 // most, name)) for parts, gb, name in sorted(parsed))


def slicing_of(card: Card) -> Slicing:
    """The profiles that the node's plugin publishes."""
    known = _ids(card)
    return Profiles(_profiles(known)) if known else NotSliced("its plugin publishes no DRS profile")


def cards(node: Json, _found: tuple[Card, ...]) -> tuple[Card, ...]:
    """The cards of Enflame's own annotation. Raises WireError."""
    text = at(node, "metadata", "annotations").get(CAPACITY)
    if text is None:
        return ()
    try:
        spec = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise WireError(CAPACITY, text, f"write JSON ({error})") from error
    devices, profiles = at(spec).get("devices"), at(spec, "profiles")
    if not isinstance(devices, list) or len(devices) > _MOST or not all(isinstance(one, dict) for one in devices):
        raise WireError(CAPACITY, text, f"write an object with a list of at most {_MOST} devices")
    ids = {name: str(number) for name, number in profiles.items() if _PROFILE.match(str(name))}
    if not ids:
        raise WireError(f"{CAPACITY}.profiles", profiles, 'name profiles such as "1g.6gb"')
    name = str(at(node, "metadata").get("name", ""))
    return tuple(_card(device, i, name, ids) for i, device in enumerate(devices))


def _card(device: dict[str, Any], position: int, node: str, ids: dict[str, str]) -> Card:
    index = _number(device.get("index", position), f"{CAPACITY}.devices[{position}].index")
    slots = _number(device.get("capacity"), f"{CAPACITY}.devices[{position}].capacity")
    sizes = _profiles(ids)
    minor = str(device.get("minor") or index)[:32]
    return Card(
        id=f"{node}-enflame-drs-{index}",
        index=index,
        vendor=VENDOR,
        model="Enflame",
        memory_mib=max(size.memory_mib for _, size in sizes),
        slots=min(max(slots, 1), 127),
        facts=(SERVED, ("minor", minor), ("profiles", ",".join(f"{name}={ids[name]}" for name in sorted(ids)))),
    )


def _number(value: object, where: str) -> int:
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise WireError(where, value, "write a whole number")
    return int(text)


def device(piece: Slice, card: Card) -> tuple[str, str, int, int]:
    """A slice in HAMi's record: cores of a profile are rounded up."""
    parts, most = _parts(piece, card)
    return piece.card, "Enflame", piece.memory_mib, -(-parts * 100 // most)


def means(recorded: Device, card: Card) -> Slice:
    """The profile of a record by its MiB and cores, which are rounded up there; else just what is written."""
    _, _, memory, cores = recorded
    profiles = _profiles(_ids(card))
    most = max((parts for parts, _ in profiles), default=1)
    alike = (size for parts, size in profiles if (size.memory_mib, -(-parts * 100 // most)) == (memory, cores))
    size = next(alike, Size(memory, min(cores, 100)))
    return Slice(card.id, card.vendor, size.memory_mib, size.cores)


def notes(placement: Placement) -> Mapping[str, str]:
    """The slice of each container by profile; index, minor and size of the first one alone, as there is one of each."""
    held = [(name, slices[0]) for name, slices in placement.of(VENDOR) if slices]
    entries = {name: _entry(piece, placement.cards[piece.card]) for name, piece in held}
    first, card = held[0][1], placement.cards[held[0][1].card]
    index = str(card.index)
    return {
        INDEX: index,
        ID: index,
        MINOR: card.fact("minor"),
        SIZE: str(_parts(first, card)[0]),
        CONTAINERS: dumps(entries, sort_keys=True),
    }


def _entry(piece: Slice, card: Card) -> dict[str, Any]:
    ids = _ids(card)
    name = next((size.name for _, size in _profiles(ids) if _is(piece, size)), "")
    request = _parts(piece, card)[0]
    return {"allocated": False, "request": request, "profileID": ids.get(name, ""), "profileName": name}


def _parts(piece: Slice, card: Card) -> tuple[int, int]:
    """How many parts a slice has, of how many that the card has."""
    profiles = _profiles(_ids(card))
    parts = next((parts for parts, size in profiles if _is(piece, size)), 1)
    return parts, max((parts for parts, _ in profiles), default=1)


def _is(piece: Slice, size: Size) -> bool:
    return (piece.memory_mib, piece.cores) == (size.memory_mib, size.cores)


SPECIAL = Special(
    words={"resolve": resolve, "adds_count": False, "counts_cards": False, "gib_below": SMALLEST_MIB},
    slicing_of=slicing_of,
    cards=cards,
    reads=True,
    device=device,
    means=means,
    notes=notes,
    writes=frozenset({INDEX, MINOR, ID, SIZE, CONTAINERS}),
)
