"""A description becomes a vendor: how its nodes are read, and what its device plugin finds on a pod."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kerf.values.ask import ContainerAsk
from kerf.values.described import Description, Note, Reading, Source
from kerf.values.device import BY_INDEX, Card
from kerf.values.grant import Slice
from kerf.values.health import HEALTHY, SUSPECT, Health, State
from kerf.values.injection import Injection, NodeFiles, Terms
from kerf.values.recorded import Device
from kerf.values.slicing import Slicing, Templates
from kerf.values.units import parse_quantity, show
from kerf.values.vendor import OtherPlugin, Placement, Vendor
from kerf.values.words import ResourceNames
from kerf.vendors.held import Meaning, Owner, reader
from kerf.wire import hami
from kerf.wire.errors import WireError
from kerf.wire.inventory import distinct
from kerf.wire.json import Json, at

SERVED = ("plugin", "vendor")
"""The fact of every card that the vendor's own device plugin serves."""
SILENT = Health(State.SUSPECT, "the vendor's device plugin offers no card to the kubelet")
MOST_CARDS = hami.MOST_CARDS
LARGEST_MIB = 2**31 - 1
_MARKS = (",", ":", ";")
Render = Callable[[Slice, Card], Device]
"""A slice as HAMi's records have it."""


@dataclass(frozen=True, slots=True)
class Special:
    """What no description can say of a vendor: pure functions in the place of the usual ones."""

    words: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ResourceNames`."""
    slicing_of: Callable[[Card], Slicing] | None = None
    cards: Callable[[Json, tuple[Card, ...]], tuple[Card, ...]] | None = None
    """The node's cards, from the node and from what the description reads of it."""
    reads: bool = False
    """`cards` reads the node alone: its annotation has a form of the vendor's own."""
    device: Render | None = None
    means: Meaning | None = None
    """The inverse of `device`: the slice of a card that a device of HAMi's record is."""
    owner: Owner | None = None
    """The card that has a recorded id, where ids may be those of parts of cards."""
    notes: Callable[[Placement], Mapping[str, str]] | None = None
    """Further annotations of the Binding."""
    writes: frozenset[str] = frozenset()
    """Their keys."""
    obeys: frozenset[str] = frozenset()
    """Annotations of users that the plugin reads when a pod starts."""


_PLAIN = Special()


def vendor_of(description: Description, special: Special = _PLAIN) -> Vendor:
    """The vendor that a description describes."""
    remarks = partial(_template_of, description.slicing)
    words: ResourceNames = replace(description.words, **{"remarks": remarks, **special.words})
    name, reading = description.name, description.reading
    render = special.device or _usual(description.word, *description.recorded)

    def cards(node: Json) -> tuple[Card, ...]:
        found = () if special.reads else _READERS[reading.source](node, reading, name)
        found = special.cards(node, found) if special.cards else found
        return _with_health(found, node, words.count)

    def notes(placement: Placement) -> Mapping[str, str]:
        if not any(slices for _, slices in placement.of(name)):
            return {}
        usual = {key: _note(note, placement, name, render) for key, note in description.notes}
        bound = hami.bound_notes(placement.node, placement.now_ns // 10**9)
        return {**bound, **usual, **(special.notes(placement) if special.notes else {})}

    keys = (reading.annotation or reading.cards,)
    writes = frozenset((*(key for key, _ in description.notes), *description.plugin_notes)) | special.writes
    return Vendor(
        name=name,
        words=words,
        cdi_kind=words.count,
        slicing_of=special.slicing_of or (lambda _card: description.slicing),
        hami_allocated=description.allocated,
        held=reader(words, special.means, special.owner),
        inject=_injector(description.env),
        card_labels=description.labels,
        plugin=OtherPlugin(keys, cards, notes, writes, special.obeys, description.lock),
    )


def _template_of(slicing: Slicing, ask: ContainerAsk) -> str:
    """What an ask in MiB is rounded to; empty where it gets just that, or where the slicing has no templates."""
    if not isinstance(slicing, Templates) or ask.memory_mib is None:
        return ""
    holding = (one for one in slicing.templates if one.memory_mib >= (ask.memory_mib or 0) and one.cores >= ask.cores)
    found = next(holding, None)
    if found is None:
        return "no template holds what is asked: the pod gets a whole card" if slicing.whole else ""
    if found.memory_mib == ask.memory_mib:
        return ""
    return (
        f"the pod gets the template {found.name}, {show(found.memory_mib)} MiB, the smallest that holds what is asked"
    )


# ---- reading nodes
def _registered(node: Json, reading: Reading, vendor: str) -> tuple[Card, ...]:
    key = reading.annotation
    notes = at(node, "metadata", "annotations")
    if key not in notes:
        return ()
    records = hami.parse_records(str(notes[key]), key)
    cards = tuple(_registered_card(record, f"{key}[{i}]", reading, vendor) for i, record in enumerate(records))
    return tuple(sorted(distinct(cards, key), key=BY_INDEX))


def _registered_card(record: dict[str, Any], where: str, reading: Reading, vendor: str) -> Card:
    identity, model = record.get("id"), reading.model or record.get("type")
    if not isinstance(identity, str) or not identity or not isinstance(model, str) or not model:
        raise WireError(where, record, "write the device's id and type")
    check_marks(where, identity, "" if reading.model else model)
    memory = hami.number_in(record, "devmem", where, 0)
    return Card(
        id=identity,
        index=hami.number_in(record, "index", where, 0),
        vendor=vendor,
        model=model,
        memory_mib=min(memory, reading.largest_mib or memory),
        slots=min(max(hami.number_in(record, "count", where, 1), 1), 127),
        numa=hami.numa_in(record, where),
        health=HEALTHY if record.get("health") is True else SUSPECT,
        facts=(SERVED, ("cores", str(hami.number_in(record, "devcore", where, 100)))),
    )


def check_marks(where: str, *texts: str) -> None:
    """Raises WireError for a text that a record on a pod cannot have, because it would be read as several."""
    marked = next((text for text in texts if any(mark in text for mark in _MARKS)), None)
    if marked is not None:
        fix = f"register it without {' '.join(_MARKS)} which divide the devices that are written on pods"
        raise WireError(where, marked, fix)


def _counted(node: Json, reading: Reading, vendor: str) -> tuple[Card, ...]:
    units = amount(node, "capacity", reading.cards)
    count = -(-units // reading.per_card)
    if not 0 <= count <= MOST_CARDS:
        raise WireError(f"status.capacity[{reading.cards}]", units, f"a node has at most {MOST_CARDS} cards")
    memory = reading.memory_mib
    if reading.memory and units:
        of_node = amount(node, "capacity", reading.memory) * reading.memory_unit_mib
        memory = of_node * reading.per_card // units
    if not 0 <= memory <= LARGEST_MIB:
        raise WireError(f"status.capacity[{reading.memory}]", memory, f"a card has from 0 to {LARGEST_MIB} MiB")
    name = str(at(node, "metadata").get("name", ""))
    return tuple(
        Card(
            id=reading.card_id.format(node=name, index=i),
            index=i,
            vendor=vendor,
            model=reading.model,
            memory_mib=memory,
            slots=reading.slots,
            numa=int(reading.two_numa_nodes and i >= (count + 1) // 2),
            facts=(SERVED,),
        )
        for i in range(count)
    )


_READERS = {Source.REGISTER: _registered, Source.CAPACITY: _counted}


def amount(node: Json, of: str, resource: str) -> int:
    """A whole number of a node's capacity or of what it can allocate, 0 where there is none. Raises WireError."""
    value = at(node, "status", of).get(resource, 0)
    try:
        return int(parse_quantity(value))
    except ValueError as error:
        raise WireError(f"status.{of}[{resource}]", value, "write a Kubernetes quantity") from error


def _with_health(cards: tuple[Card, ...], node: Json, count: str) -> tuple[Card, ...]:
    """A stopped plugin offers nothing to the kubelet; a node that says nothing of itself (a file's) is well."""
    if not at(node, "status", "allocatable") or amount(node, "allocatable", count):
        return cards
    return tuple(replace(card, health=SILENT) if card.healthy else card for card in cards)


# ---- writing pods
def _usual(word: str, memory: int | None, cores: int | None) -> Render:
    return lambda piece, card: (
        piece.card,
        word or card.model,
        piece.memory_mib if memory is None else memory,
        piece.cores if cores is None else cores,
    )


def slices_text(placement: Placement, vendor: str, render: Render) -> str:
    """What a pod's containers hold of one vendor's cards, as HAMi writes it."""
    cards = placement.cards
    return hami.render_devices(
        [render(piece, cards[piece.card]) for piece in slices if piece.card in cards]
        for _, slices in placement.of(vendor)
    )


def indexes_of(placement: Placement, slices: Iterable[Slice]) -> str:
    """The indexes of the slices' cards: "0,1"."""
    return ",".join(str(placement.index(piece)) for piece in slices)


def _note(note: Note | str, placement: Placement, vendor: str, render: Render) -> str:
    match note:
        case Note.SLICES:
            return slices_text(placement, vendor, render)
        case Note.INDEXES:
            held = [slices for _, slices in placement.of(vendor) if slices]
            return indexes_of(placement, held[-1])
        case Note.NODE:
            return placement.node
        case Note.SECONDS:
            return str(placement.now_ns // 10**9)
        case Note.NANOSECONDS:
            return str(placement.now_ns)
        case _:
            return str(note)


def _injector(env: tuple[tuple[str, Note], ...]) -> Callable[[tuple[Slice, ...], NodeFiles, Terms], Injection]:
    def inject(slices: tuple[Slice, ...], _files: NodeFiles, _terms: Terms) -> Injection:
        texts = {
            Note.SLICES: ",".join(f"{piece.card}:{piece.memory_mib}MiB:{piece.cores}%" for piece in slices),
            Note.INDEXES: ",".join(piece.card for piece in slices),
        }
        return Injection(env=tuple((name, texts.get(note, "")) for name, note in env))

    return inject
