"""AWS Neuron's devices and cores. HAMi 2.10.0: `pkg/device/awsneuron/device.go`.

Devices of one or two cores are sliced; those with more, up to eight, are given whole. Cores are positions: which of a
device's cores a pod has is part of its grant. Several devices are neighbours, as HAMi chooses them on Inferentia.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.grant import Slice
from kerf.values.places import DIGITS, Place, counters, one, whole
from kerf.values.recorded import Device
from kerf.values.slicing import Hardware, NotSliced, Placed, Plain, Size, Slicing
from kerf.values.vendor import Placement
from kerf.values.words import Said
from kerf.vendors.build import Special, amount
from kerf.wire.json import Json, at

VENDOR = "neuron"
COUNT, CORES = "aws.amazon.com/neuron", "aws.amazon.com/neuroncore"
IDS, KIND = "AWS_NEURON_IDS", "NEURON_RESOURCE_TYPE"
TYPE_LABEL = "node.kubernetes.io/instance-type"
MEMORY_MIB = {"inf1": 8_192, "inf2": 32_768, "trn1": 32_768, "trn1n": 32_768, "trn2": 98_304}
"""MiB of a device by instance family (AWS: Inferentia 8 GB, Inferentia2 and Trainium 32 GB, Trainium2 96 GiB)."""
DEVICES, PARTS = "devices", "cores"


def resolve(ask: ContainerAsk, said: Said) -> ContainerAsk:
    """Devices are whole; cores are one, or whole devices. Raises ValueError for a number that does not fill them."""
    if said.count:
        return replace(ask, memory_mib=None, memory_percent=100, cores=100, group=DEVICES)
    wanted = said.cores or 0
    if wanted == 1:
        return replace(ask, cards=1, memory_mib=None, memory_percent=50, cores=50, group=PARTS)
    if wanted % 2:
        raise ValueError(f"write 1 or an even number: a device has two cores, {wanted} were asked")
    return replace(ask, cards=wanted // 2, memory_mib=None, memory_percent=100, cores=100, group=PARTS)


def refuses_pod(asks: tuple[ContainerAsk, ...]) -> str:
    """Devices beside cores: the pod has one list, of numbers of the one or of the other."""
    mixed = len({ask.group for ask in asks}) > 1
    return f"the pod has one list, of devices or of cores: ask for {COUNT} or for {CORES}" if mixed else ""


def remarks(ask: ContainerAsk) -> str:
    """Why cores were raised."""
    return f"{COUNT} is of whole devices: drop it to get single cores" if ask.group == DEVICES else ""


def cards(node: Json, found: tuple[Card, ...]) -> tuple[Card, ...]:
    """The devices with their cores, their instance family's memory, and links between neighbours. Raises WireError."""
    each = amount(node, "capacity", CORES) // max(len(found), 1)
    family = str(at(node, "metadata", "labels").get(TYPE_LABEL, "")).partition(".")[0]
    memory = MEMORY_MIB.get(family)
    return tuple(
        replace(
            card,
            memory_mib=memory or card.memory_mib,
            slots=max(each, 1),
            links=tuple(found[j].id for j in (i - 1, i + 1) if 0 <= j < len(found)),
            facts=(*card.facts, (PARTS, str(each))),
        )
        for i, card in enumerate(found)
    )


@dataclass(frozen=True, slots=True)
class WholeDevices(Plain):
    """Devices of several cores (Inferentia, Trainium2), given whole: a pod's cores are counted for devices of two."""

    cores: int
    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """The device, to a pod that asks for devices."""
        every = range(self.cores)
        place = Place(one(*every), whole(*every))
        return (Size(card.memory_mib, 100, "device", (place,)),) if ask.group == DEVICES else ()

    def largest(self, card: Hardware) -> Size:
        """The device."""
        return Size(card.memory_mib, 100)

    def unanswered(self, _ask: ContainerAsk) -> str:
        """That cores of such a device are not given."""
        return f"its {self.cores} cores are given together: ask for {COUNT}"


def slicing_of(card: Card) -> Slicing:
    """The device, and its cores where it has two."""
    each = int(card.fact(PARTS) or 2)
    if each > DIGITS:
        return NotSliced(f"Kerf knows devices of at most {DIGITS} cores, and this one has {each}")
    if each > 2:
        return WholeDevices(each)
    every = range(max(each, 1))
    device = Size(card.memory_mib, 100, "device", (Place(one(*every), whole(*every)),))
    if each < 2:
        return Placed((device,))
    halves = tuple(Place(one(core), whole(core)) for core in every)
    return Placed((Size(card.memory_mib // 2, 50, "core", halves), device))


def device(piece: Slice, _card: Card) -> tuple[str, str, int, int]:
    """A slice in HAMi's record: no memory, and cores as a bit mask."""
    return piece.card, "AWSNeuron", 0, sum(1 << core for core in _cores(piece))


def means(recorded: Device, card: Card) -> Slice:
    """The cores of a recorded bit mask, and their part of the device's memory."""
    each = max(int(card.fact(PARTS) or 2), 1)
    held = [core for core in range(each) if recorded[3] >> core & 1]
    part = Slice(card.id, card.vendor, card.memory_mib * len(held) // each, 100 * len(held) // each)
    return replace(part, place=one(*held)) if each <= DIGITS else part


def notes(placement: Placement) -> Mapping[str, str]:
    """Indexes of devices for containers that ask for devices, of cores (counted through the node) for the others."""
    ids: list[str] = []
    kind: dict[str, str] = {}
    for name, slices in placement.of(VENDOR):
        for piece in slices:
            index, each = placement.index(piece), int(placement.cards[piece.card].fact(PARTS) or 2)
            if placement.group(name, VENDOR) == PARTS:
                ids += [str(index * each + core) for core in _cores(piece)]
                kind = {KIND: CORES}
            else:
                ids.append(str(index))
    return {IDS: ",".join(ids), **kind}


def _cores(piece: Slice) -> list[int]:
    return [core for core, taken in enumerate(counters(piece.place)) if taken]


SPECIAL = Special(
    words={"resolve": resolve, "remarks": remarks, "refuses_pod": refuses_pod, "adds_count": False},
    slicing_of=slicing_of,
    cards=cards,
    device=device,
    means=means,
    notes=notes,
    writes=frozenset({IDS, KIND}),
)
