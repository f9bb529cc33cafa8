"""A vendor's words in the pod contract, and how its numbers become MiB, percent and cards, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kerf.values.ask import ContainerAsk
from kerf.values.policy import Defaults
from kerf.values.units import MIB, parse_quantity

GIB_IN_MIB = 1024
QUOTA_DOMAIN = "quota.kerf.dev"
"""Resources of this domain are written by the webhook alone."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a container says of one vendor's cards, in that vendor's own units; None is "not said"."""

    count: int | None
    memory_mib: int | None
    cores: int | None


class CoresError(ValueError):
    """An ask that a vendor cannot answer because of its cores."""


def _as_asked(ask: ContainerAsk, _said: Said) -> ContainerAsk:
    return ask


def _nothing(_ask: ContainerAsk) -> str:
    return ""


def _no_reason(_asks: tuple[ContainerAsk, ...]) -> str:
    return ""


def _no_group(_notes: Mapping[str, Any]) -> str:
    return ""


def _no_notes(_asks: tuple[ContainerAsk, ...], _notes: Mapping[str, Any]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """A vendor's words: extended resources, annotations, environment variables, units. An empty word does not exist."""

    vendor: str
    count: str
    memory: str = ""
    memory_percent: str = ""
    cores: str = ""
    priority: str = ""
    use_ids: str = ""
    avoid_ids: str = ""
    use_types: str = ""
    avoid_types: str = ""
    modes: str = ""
    same_numa: str = ""
    mode_words: tuple[tuple[str, str], ...] = ()
    """Words a user may write in the mode annotation and the card mode they mean."""
    priority_env: str = ""
    """Environment variable in which the vendor's tools find a container's task priority; empty where none do."""
    others: tuple[str, ...] = ()
    """Resources of the domain that the vendor's own plugins serve beside Kerf; a final "*" stands for any ending."""
    opt_out_env: str = ""
    """Environment variable by which a container asks to run without the limiter; empty where there is none."""
    open_env: str = ""
    """Environment variable by which the vendor's runtime gives cards that nobody asked for; empty without one."""
    name_env: str = ""
    """Environment variable in which the vendor's runtime finds the container's name; empty where it needs none."""

    # ---- units
    count_unit: int = 1
    """How much of the count resource one card is."""
    memory_unit_mib: int = 1
    """MiB of one unit of memory."""
    memory_in_bytes: bool = False
    """Numbers from 1,048,576 on are bytes, as in "8Gi"; smaller ones are units."""
    gib_below: int = 0
    """Numbers below this one are GiB, others are MiB and count as whole GiB; 0: there is no such rule."""
    card_cores: int = 100
    """Units of cores that a card has."""
    totals: bool = False
    """Memory and cores are those of all cards of a container together."""

    # ---- meaning
    missing: Defaults | None = None
    """What a container gets that does not say; None: what the policy says."""
    fills: bool = True
    """The webhook writes memory and cores that are missing. Without it, it corrects what is there alone."""
    counts_cards: bool = True
    """The count resource is a number of cards. Without it, it is a size of the vendor's own."""
    adds_count: bool = True
    """The webhook writes the count where it is missing."""
    scheduled: bool = True
    """kube-scheduler counts the count resource. Without it only Kerf does, from what the vendor's plugin publishes."""
    same_card: bool = False
    """All containers of a pod must hold slices of one card."""
    linked: bool = False
    """Several cards of a container must be joined by links."""
    resolve: Callable[[ContainerAsk, Said], ContainerAsk] = _as_asked
    """What an ask becomes by the vendor's rules, whichever card it gets. Raises ValueError with what to write."""
    refuses: Callable[[ContainerAsk], str] = _nothing
    """Why no card of this vendor can ever answer an ask, and what to write instead; empty where some card may."""
    refuses_pod: Callable[[tuple[ContainerAsk, ...]], str] = _no_reason
    """Why the vendor's plugin cannot serve these asks of one pod, and what to write instead; empty where it can."""
    remarks: Callable[[ContainerAsk], str] = _nothing
    """What a user should know of the slice that an ask gets; empty where it gets what it says."""
    group_of: Callable[[Mapping[str, Any]], str] = _no_group
    """`ContainerAsk.group` by the pod's annotations. Raises ValueError."""
    group_key: str = ""
    """The annotation that names the group, for errors."""
    notes: Callable[[tuple[ContainerAsk, ...], Mapping[str, Any]], Mapping[str, str]] = _no_notes
    """Annotations that the webhook adds to a pod that asks for these cards."""
    domain: str = field(init=False, default="")
    """The vendor's domain: what its resources and annotations begin with."""
    all: tuple[str, ...] = field(init=False, default=())
    """Every resource name in which users ask for this vendor's cards."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "domain", self.count.partition("/")[0])
        words = (self.count, self.memory, self.memory_percent, self.cores, self.priority)
        object.__setattr__(self, "all", tuple(word for word in words if word))

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
        words = (self.memory, self.memory_percent, self.cores, self.priority)
        return (*(word for word in words if word), *self.quota)

    @property
    def selection(self) -> tuple[str, ...]:
        """Every annotation in which users choose among this vendor's cards."""
        words = (self.use_ids, self.avoid_ids, self.use_types, self.avoid_types, self.modes, self.same_numa)
        return tuple(word for word in words if word)

    @property
    def rounds_when_placed(self) -> bool:
        """Whether an ask stays as it is until a card answers it, because the vendor has no rule of its own."""
        return self.resolve is _as_asked

    # ---- numbers
    def mib(self, value: object) -> int:
        """A quantity of memory as MiB of all that it is about. Raises ValueError."""
        amount = parse_quantity(value)
        if amount < 0:
            raise ValueError(f"{value} is below 0")
        if self.memory_in_bytes and amount >= MIB:
            return int(amount // MIB)
        if amount.denominator != 1:
            raise ValueError(f"{value} is not a whole number")
        if self.gib_below:
            return int(amount if amount < self.gib_below else -(-amount // GIB_IN_MIB)) * GIB_IN_MIB
        return int(amount) * self.memory_unit_mib

    def memory_text(self, mib: int) -> str:
        """MiB as this vendor's users write them, rounded up to a whole unit."""
        if self.memory_in_bytes and mib % self.memory_unit_mib:
            return f"{mib}Mi"
        return str(-(-mib // self.memory_unit_mib))

    def percent(self, units: int) -> int:
        """Units of cores as percent of a card, rounded down, so that slices which fill a card fit on it."""
        return units if self.card_cores == 100 else units * 100 // self.card_cores

    def core_units(self, percent: int) -> int:
        """Percent of a card as units of cores: the units whose percentage it is."""
        return percent if self.card_cores == 100 else -(-percent * self.card_cores // 100)
