"""Cards and pods, one line each."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kerf.values.allocator import Allocator
from kerf.values.device import Backend, Card, Mode
from kerf.values.grant import NO_USE, CardUse, Grant, Slice
from kerf.values.slicing import sliceable
from kerf.views.parts import FreePart, free_parts, held_parts, way_of


@dataclass(frozen=True, slots=True)
class SliceLine:
    """A slice of a card."""

    card: str
    vendor: str
    memory_mib: int
    cores: int


@dataclass(frozen=True, slots=True)
class PodLine:
    """A pod that is placed, or that needs no card."""

    namespace: str
    name: str
    phase: str
    node: str
    slices: tuple[SliceLine, ...]


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A pod that cannot be placed, and why."""

    namespace: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class CardLine:
    """A card, what is used of it, and which pods hold it."""

    node: str
    index: int
    card: str
    model: str
    memory_mib: int
    used_mib: int
    cores: int
    used_cores: int
    slices: int
    state: str
    """Empty for a card on which Kerf's scheduler places pods, else why it does not: `not sliced`, `cordoned`,
    `unhealthy`, `given to claims` or `changing hands`."""
    pods: tuple[str, ...]
    mode: str = Mode.SHARED.word
    """`preload`, `mps` or `mig`. Of another vendor's card how its driver divides it: `driver` (any size), `templates`,
    `parts`, `places` or `whole`."""
    mode_note: str = ""
    """Why it is not in the mode that its pool asks for."""
    backend: str = ""
    """What keeps the slices."""
    allocator: str = Allocator.EXTENDER.value
    """Who hands it out: `extender`, `dra`, or `none` while it changes hands."""
    parts: tuple[str, ...] = ()
    """What lies on a card of fixed sizes: MIG instances, templates, each with its pod."""
    free: tuple[FreePart, ...] = ()
    """What would still fit on it."""
    fault: str = ""
    """Why it takes no new slices, and who has to move; empty for a healthy card."""

    @property
    def native(self) -> bool:
        """Whether the driver itself keeps the pods' memory."""
        return self.backend in {Backend.NATIVE.value, Backend.NATIVE_MPS.value}


def slice_lines(grant: Grant) -> tuple[SliceLine, ...]:
    """Every slice of a grant, container by container."""
    return tuple(
        SliceLine(s.card, s.vendor, s.memory_mib, s.cores) for container in grant.containers for s in container.slices
    )


def pod_line(pod_key: str, phase: str, node: str, grant: Grant) -> PodLine:
    """A pod `namespace/name` with what it holds."""
    namespace, _, name = pod_key.partition("/")
    return PodLine(namespace, name, phase, node, slice_lines(grant))


@dataclass(frozen=True, slots=True)
class Tenant:
    """A pod by `namespace/name`, what it uses of which card, and its slices where they are known."""

    pod: str
    uses: Mapping[str, CardUse]
    slices: tuple[Slice, ...] = ()

    @property
    def name(self) -> str:
        """The pod for people."""
        return self.pod.removeprefix("default/")


def card_lines(
    node: str, cards: Iterable[Card], cordoned: Collection[str], tenants: Sequence[Tenant]
) -> tuple[CardLine, ...]:
    """A node's cards. `cordoned` are ids of cards, `tenants` the pods on the node."""
    return tuple(_card_line(node, card, card.id in cordoned, tenants) for card in cards)


def _card_line(node: str, card: Card, cordoned: bool, tenants: Sequence[Tenant]) -> CardLine:
    holders = [tenant for tenant in tenants if card.id in tenant.uses]
    used = sum((tenant.uses[card.id] for tenant in holders), NO_USE)
    held = [(tenant.name, piece) for tenant in holders for piece in tenant.slices if piece.card == card.id]
    return CardLine(
        node=node,
        index=card.index,
        card=card.id,
        model=card.model,
        memory_mib=card.memory_mib,
        used_mib=used.memory_mib,
        cores=card.cores,
        used_cores=used.cores,
        slices=used.slots,
        state=_state(card, cordoned),
        pods=tuple(sorted(tenant.name for tenant in holders)),
        mode=way_of(card),
        mode_note=card.mode_note,
        backend=card.backend.value,
        allocator=card.allocator.value,
        parts=held_parts(card, held),
        free=free_parts(card, used),
        fault=_fault(card),
    )


def _fault(card: Card) -> str:
    if not card.healthy:
        return f"{card.health}" + ("; its pods have to move" if card.health.moves else "")
    return "; ".join(f"{each.cause}; its pod has to move" for each in (card.mig.hurt if card.mig else ()))


def _state(card: Card, cordoned: bool) -> str:
    if not sliceable(card):
        return "not sliced"
    if cordoned:
        return "cordoned"
    return _HANDS[card.allocator] if card.healthy else "unhealthy"


_HANDS = {Allocator.EXTENDER: "", Allocator.DRA: "given to claims", Allocator.NONE: "changing hands"}


def json_of(pods: Sequence[PodLine], refused: Sequence[RefusedLine], cards: Sequence[CardLine]) -> dict[str, Any]:
    """The JSON form of all lines."""
    return {
        "pods": [asdict(line) for line in pods],
        "refused": [asdict(line) for line in refused],
        "cards": [asdict(line) for line in cards],
    }
