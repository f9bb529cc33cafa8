"""What a vendor is: its words in the pod contract, how its cards are sliced, what containers get, and its faults.

Everything here is data and pure functions. A vendor is one file in `kerf.vendors` and one line in its registry; each
program's `main` passes the vendors in, and no decision imports the registry.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.fault import FaultTable
from kerf.values.grant import Slice
from kerf.values.injection import Injection, NodeFiles, Terms
from kerf.values.slicing import NotSliced, Slicing

QUOTA_DOMAIN = "quota.kerf.dev"
"""Resources of this domain are written by the webhook alone."""
INVENTORY = "kerf.dev/inventory"


def _refuses_nothing(_ask: ContainerAsk) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """A vendor's words in the pod contract: extended resources, annotations, environment variables and units."""

    vendor: str
    count: str
    memory: str
    memory_percent: str
    cores: str
    priority: str
    use_ids: str
    avoid_ids: str
    use_types: str
    avoid_types: str
    modes: str
    same_numa: str
    mode_words: tuple[tuple[str, str], ...] = ()
    """Words a user may write in the mode annotation and the card mode they mean."""
    priority_env: str = ""
    """Environment variable in which the vendor's tools find a container's task priority; empty where none do."""
    others: tuple[str, ...] = ()
    """Resources of the domain that the vendor's own plugins serve beside Kerf; a final "*" stands for any ending."""
    opt_out_env: str = ""
    """Environment variable by which a container asks to run without the limiter; empty where there is none."""
    refuses: Callable[[ContainerAsk], str] = _refuses_nothing
    """Why no card of this vendor can ever answer an ask, and what to write instead; empty where some card may."""

    @property
    def domain(self) -> str:
        """The vendor's domain: what its resources and annotations begin with."""
        return self.count.partition("/")[0]

    @property
    def quota(self) -> tuple[str, str, str]:
        """What the webhook writes for quota: a container's MiB, percent of SMs and cards in all."""
        return (
            f"{QUOTA_DOMAIN}/{self.vendor}-mib",
            f"{QUOTA_DOMAIN}/{self.vendor}-cores",
            f"{QUOTA_DOMAIN}/{self.vendor}-cards",
        )

    @property
    def ignored(self) -> tuple[str, ...]:
        """Resources that only Kerf understands: kube-scheduler and kubelet ignore them."""
        return (self.memory, self.memory_percent, self.cores, self.priority, *self.quota)

    @property
    def all(self) -> tuple[str, ...]:
        """Every resource name in which users ask for this vendor's cards."""
        return (self.count, self.memory, self.memory_percent, self.cores, self.priority)

    @property
    def selection(self) -> tuple[str, ...]:
        """Every annotation in which users choose among this vendor's cards."""
        return (self.use_ids, self.avoid_ids, self.use_types, self.avoid_types, self.modes, self.same_numa)


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor of cards."""

    name: str
    words: ResourceNames
    cdi_kind: str
    """CDI kind of the node's own specs for whole cards; `<kind>=<card id>` names one."""
    hami_register: str
    """Node annotation in which HAMi's device plugin registers cards."""
    hami_allocated: str
    """Pod annotation in which HAMi records what a pod holds."""
    slicing_of: Callable[[Card], Slicing]
    """How a card is divided, by its model and mode."""
    inject: Callable[[tuple[Slice, ...], NodeFiles, Terms], Injection]
    """Environment and mounts of one container for its slices of this vendor's cards, in the order of their indices."""
    faults: FaultTable = field(default_factory=FaultTable)
    """Codes of faults and what they mean; a code that is not listed warns."""
    card_labels: tuple[str, ...] = ()
    """Labels that discovery tools set to "true" on nodes with this vendor's cards."""
    probe: str = ""
    """Name of the probe that reads this vendor's cards (`kerf.probes`); empty where there is none."""
    inventory_key: str = ""
    """Node annotation in which the device plugin publishes this vendor's cards."""

    def __post_init__(self) -> None:
        if not self.inventory_key:
            object.__setattr__(self, "inventory_key", f"{INVENTORY}-{self.name}")


def with_slicing(cards: Iterable[Card], vendors: Iterable[Vendor]) -> tuple[Card, ...]:
    """The cards with their slicing as their vendors say. Cards of a vendor that is not listed are not sliced."""
    by_name = {vendor.name: vendor for vendor in vendors}
    return tuple(_with_slicing(card, by_name.get(card.vendor)) for card in cards)


def _with_slicing(card: Card, vendor: Vendor | None) -> Card:
    """No copy of a card that has its slicing already: a large fleet has 40,000 cards."""
    slicing = vendor.slicing_of(card) if vendor else NotSliced(f"Kerf knows no vendor {card.vendor}")
    return card if card.slicing is slicing else replace(card, slicing=slicing)


def words_of(vendors: Iterable[Vendor]) -> tuple[ResourceNames, ...]:
    """Every vendor's words, in the same order."""
    return tuple(vendor.words for vendor in vendors)
