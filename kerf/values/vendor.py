"""What a vendor is: its words in the pod contract, how its cards are sliced, what containers get, and its faults.

Everything here is data and pure functions. A vendor is one folder in `kerf.vendors` and one line in its registry; each
program's `main` passes the vendors in, and no decision imports the registry.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kerf.values.ask import ContainerAsk, Stages
from kerf.values.device import Card
from kerf.values.fault import FaultTable
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.injection import Injection, NodeFiles, Terms
from kerf.values.recorded import Device, Held, Record
from kerf.values.slicing import NotSliced, Slicing
from kerf.values.words import QUOTA_DOMAIN, ResourceNames

INVENTORY = "kerf.dev/inventory"
__all__ = ["INVENTORY", "QUOTA_DOMAIN", "OtherPlugin", "Placement", "ResourceNames", "Vendor"]


@dataclass(frozen=True, slots=True)
class Placement:
    """A pod that is about to be bound, as the vendors' device plugins will read of it."""

    node: str
    grant: Grant
    stages: Stages
    asks: tuple[ContainerAsk, ...]
    cards: Mapping[str, Card]
    """The node's cards by id."""
    now_ns: int
    """Nanoseconds since 1970."""

    def of(self, vendor: str) -> tuple[tuple[str, tuple[Slice, ...]], ...]:
        """Every container of the pod in start order, with its slices of one vendor's cards."""
        return tuple((name, tuple(s for s in self.grant.of(name) if s.vendor == vendor)) for name, _ in self.stages)

    def group(self, container: str, vendor: str) -> str:
        """The group in which a container asks for a vendor's cards."""
        return next((ask.group for ask in self.asks if (ask.name, ask.vendor) == (container, vendor)), "")

    def index(self, piece: Slice) -> int:
        """The index of a slice's card on its node."""
        return self.cards[piece.card].index if piece.card in self.cards else 0


@dataclass(frozen=True, slots=True)
class OtherPlugin:
    """The vendor's own device plugin, which serves the cards in place of Kerf's: what it publishes and reads."""

    keys: tuple[str, ...]
    """Annotations and capacities of a node of which one at least is there where the plugin runs."""
    cards: Callable[[Mapping[str, Any]], tuple[Card, ...]]
    """The cards of a Kubernetes node. Raises ValueError."""
    notes: Callable[[Placement], Mapping[str, str]]
    """Annotations of the Binding, beside the grant."""
    writes: frozenset[str] = frozenset()
    """Every key that `notes` may have, and those that the plugin writes itself: nobody else may write them."""
    obeys: frozenset[str] = frozenset()
    """Annotations of users that the plugin reads when the pod starts: they stay as they were when it was bound."""
    lock: str = ""
    """Node annotation that must name the pod while the plugin serves it; empty where the plugin needs none."""


def _injects_nothing(_slices: tuple[Slice, ...], _files: NodeFiles, _terms: Terms) -> Injection:
    return Injection()


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor of cards."""

    name: str
    words: ResourceNames
    cdi_kind: str
    """CDI kind of the node's own specs for whole cards; `<kind>=<card id>` names one."""
    slicing_of: Callable[[Card], Slicing]
    """How a card is divided, by its model and mode."""
    hami_register: str = ""
    """Node annotation in which HAMi's device plugin registers cards; empty where `plugin` reads the node."""
    hami_allocated: str = ""
    """Pod annotation in which HAMi records what a pod holds."""
    held: Held | None = None
    """What such a record means; None: MiB and cores are just those of the slices."""
    inject: Callable[[tuple[Slice, ...], NodeFiles, Terms], Injection] = _injects_nothing
    """Environment and mounts of one container for its slices of this vendor's cards, in the order of their indices."""
    faults: FaultTable = field(default_factory=FaultTable)
    """Codes of faults and what they mean; a code that is not listed warns."""
    card_labels: tuple[str, ...] = ()
    """Labels that discovery tools set to "true" on nodes with this vendor's cards."""
    probe: str = ""
    """Name of the probe that reads this vendor's cards (`kerf.probes`); empty where there is none."""
    mps_env: tuple[tuple[str, str], ...] = ()
    """Environment that MPS daemons need beside the device plugin's; empty where the cards have no such mode."""
    inventory_key: str = ""
    """Node annotation in which Kerf's device plugin publishes this vendor's cards."""
    plugin: OtherPlugin | None = None
    """The vendor's own device plugin; None where Kerf's serves the cards."""

    def __post_init__(self) -> None:
        if not self.inventory_key:
            object.__setattr__(self, "inventory_key", f"{INVENTORY}-{self.name}")


def with_slicing(cards: Iterable[Card], vendors: Iterable[Vendor]) -> tuple[Card, ...]:
    """The cards with their slicing as their vendors say. Cards of a vendor that is not listed are not sliced."""
    return sliced(cards, {vendor.name: vendor for vendor in vendors})


def sliced(cards: Iterable[Card], vendors: Mapping[str, Vendor]) -> tuple[Card, ...]:
    """The same, with the vendors by name."""
    return tuple([_sliced(card, vendors.get(card.vendor)) for card in cards])


def _sliced(card: Card, vendor: Vendor | None) -> Card:
    """No copy of a card that has its slicing already: a large fleet has 40,000 cards."""
    slicing = vendor.slicing_of(card) if vendor else NotSliced(f"Kerf knows no vendor {card.vendor}")
    return card if card.slicing is slicing else replace(card, slicing=slicing)


def recorded_grant(record: Record, vendors: Iterable[Vendor], cards: Iterable[Card]) -> Grant:
    """The grant that HAMi's record of a pod amounts to on the node's cards. Of unknown cards the record is taken as is.

    A record can be read before its node is: it is to be read again when the node's cards have changed.
    """
    by_name, known = {vendor.name: vendor for vendor in vendors}, {card.id: card for card in cards}
    slices: dict[str, tuple[Slice, ...]] = {}
    for part in record:
        vendor = by_name[part.vendor]
        held = vendor.held(part.devices, known, part.group) if vendor.held else as_written(part.devices, vendor.words)
        slices[part.container] = (*slices.get(part.container, ()), *held)
    return Grant(tuple(ContainerGrant(name, held) for name, held in slices.items()))


def as_written(devices: Iterable[Device], words: ResourceNames) -> tuple[Slice, ...]:
    """A record's amounts as they are. More units of cores than a card has in percent count as the whole card."""
    return tuple(Slice(card, words.vendor, mib, min(words.percent(cores), 100)) for card, _, mib, cores in devices)


def plugin_notes(vendors: Iterable[Vendor], placement: Placement) -> dict[str, str]:
    """What the vendors' own device plugins will read of the pod; nothing for cards that Kerf's plugin serves."""
    return {
        key: text for vendor in _served_elsewhere(vendors, placement) for key, text in vendor.notes(placement).items()
    }


def plugin_locks(vendors: Iterable[Vendor], placement: Placement) -> tuple[str, ...]:
    """The node locks that the vendors' own device plugins need, each once, sorted."""
    return tuple(sorted({plugin.lock for plugin in _served_elsewhere(vendors, placement) if plugin.lock}))


def _served_elsewhere(vendors: Iterable[Vendor], placement: Placement) -> list[OtherPlugin]:
    slices = (piece for container in placement.grant.containers for piece in container.slices)
    held = (placement.cards.get(piece.card) for piece in slices)
    names = {card.vendor for card in held if card is not None and card.facts}
    return [vendor.plugin for vendor in vendors if vendor.plugin and vendor.name in names]


def words_of(vendors: Iterable[Vendor]) -> tuple[ResourceNames, ...]:
    """Every vendor's words, in the same order."""
    return tuple(vendor.words for vendor in vendors)


def written_keys(vendors: Iterable[Vendor]) -> frozenset[str]:
    """Annotations that vendors' device plugins obey, so that on a pod only the scheduler and they may write them."""
    return frozenset(key for vendor in vendors if vendor.plugin for key in vendor.plugin.writes)


def fixed_keys(vendors: Iterable[Vendor]) -> frozenset[str]:
    """Annotations by which users say how a vendor's plugin serves a pod, so that nobody changes them on a bound one."""
    return frozenset(key for vendor in vendors if vendor.plugin for key in vendor.plugin.obeys)
