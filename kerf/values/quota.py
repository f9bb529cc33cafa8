"""Quota: who may hold how much of which cards, in values and exact arithmetic."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Self

from kerf.values.ask import ContainerAsk, PodAsk, Stage, Stages
from kerf.values.card_names import meant
from kerf.values.device import Card, Mode
from kerf.values.grant import Grant
from kerf.values.slicing import ANY_SIZE, Slicing, size_on

LONGEST_SLUG = 63
"""Kubernetes' limit for the name part of a label key and for a label's value."""


@dataclass(frozen=True, slots=True, order=True)
class Amount:
    """MiB, percent of SMs, and cards (one per card of each container)."""

    memory_mib: int = 0
    cores: int = 0
    cards: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.memory_mib + other.memory_mib, self.cores + other.cores, self.cards + other.cards)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.memory_mib - other.memory_mib, self.cores - other.cores, self.cards - other.cards)

    def __mul__(self, times: int) -> "Amount":
        return Amount(self.memory_mib * times, self.cores * times, self.cards * times)

    def peak(self, other: "Amount") -> "Amount":
        """The larger of the two in every dimension."""
        return Amount(
            max(self.memory_mib, other.memory_mib), max(self.cores, other.cores), max(self.cards, other.cards)
        )

    def floor(self) -> "Amount":
        """Nothing below zero."""
        return self.peak(NOTHING)

    def __bool__(self) -> bool:
        return bool(self.memory_mib or self.cores or self.cards)


NOTHING = Amount()
DIMENSIONS = ("memory_mib", "cores", "cards")
UNKNOWN = "?"
"""The class of cards that no node has."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper limit in each dimension; None is no limit."""

    memory_mib: int | None = None
    cores: int | None = None
    cards: int | None = None

    def of(self, dimension: str) -> int | None:
        """The limit of one of `DIMENSIONS`."""
        value: int | None = getattr(self, dimension)
        return value

    def first_broken(self, held: Amount, more: Amount) -> tuple[str, int] | None:
        """The first dimension in which `more` does not fit beside `held`, with what is left of it."""
        for dimension in DIMENSIONS:
            limit, wanted = self.of(dimension), getattr(more, dimension)
            left = None if limit is None else limit - getattr(held, dimension)
            if left is not None and wanted and wanted > left:
                return dimension, max(left, 0)
        return None

    def less(self, held: Amount) -> "Bound":
        """What is left beside what is held; below zero where more is held."""
        limits = ((self.of(name), getattr(held, name)) for name in DIMENSIONS)
        return Bound(*(None if limit is None else limit - taken for limit, taken in limits))

    def names(self, asked: Amount) -> bool:
        """Whether it says something of a dimension in which something is asked."""
        return any(self.of(name) is not None and getattr(asked, name) for name in DIMENSIONS)

    def __add__(self, other: "Bound") -> "Bound":
        return Bound(*(_plus(self.of(name), other.of(name)) for name in DIMENSIONS))


@dataclass(frozen=True, slots=True, order=True)
class CardClass:
    """Cards that count as one kind: what a ResourceFlavor stands for."""

    vendor: str
    model: str
    mode: Mode = Mode.SHARED

    @property
    def slug(self) -> str:
        """The class as a name: at most 63 of [a-z0-9-], unique as long as models differ in more than punctuation."""
        return _slug(self.vendor, self.model, self.mode.value)

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes in which its cards may be: shared ones with MPS, or without."""
        return (self.mode.value, Mode.MPS.value) if self.mode is Mode.SHARED else (self.mode.value,)


def class_of(card: Card) -> CardClass:
    """The class a card belongs to. Cards that Kerf shares through MPS are of the class of those shared without.

    So a card stays in its class when it changes between the two, and quota, labels and prices stay as they are.
    """
    software = card.mode is Mode.MPS and card.backend.through_mps
    return CardClass(card.vendor, card.model, Mode.SHARED if software else card.mode)


@lru_cache(maxsize=1024)
def _slug(vendor: str, model: str, mode: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", f"{model} {mode}".lower()).strip("-")
    text = words if words.startswith(vendor) else f"{vendor}-{words}"
    if len(text) <= LONGEST_SLUG:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: LONGEST_SLUG - 9].strip('-')}-{digest}"


@dataclass(frozen=True, slots=True)
class Share:
    """What a tenant's file says of one quantity; None is "not said". `whole` counts whole cards, of any size."""

    memory_mib: int | None = None
    cores: int | None = None
    cards: int | None = None
    whole: int | None = None

    def on(self, card: Amount) -> Bound:
        """The share where one whole card is `card`: its MiB, its cores, its slots."""
        if self.whole is not None:
            return Bound(*(getattr(card, name) * self.whole for name in DIMENSIONS))
        return Bound(self.memory_mib, self.cores, self.cards)


UNBOUNDED = Share()


@dataclass(frozen=True, slots=True)
class ClassQuota:
    """A tenant's part of one class of cards.

    `model` is a name as people write it (`kerf.values.card_names`) and has to mean one class only; an empty `vendor` is
    any.
    A dimension that `guaranteed` does not name is not limited.
    """

    model: str
    mode: Mode = Mode.SHARED
    vendor: str = ""
    guaranteed: Share = field(default_factory=lambda: Share(0, 0, 0))
    burst: Share = UNBOUNDED
    """How far beyond `guaranteed` the tenant may borrow what others leave idle; not said: all of it."""
    lendable: Share = UNBOUNDED
    """How much of `guaranteed` others may borrow while it is idle; not said: all of it."""

    def among(self, classes: Iterable[CardClass]) -> tuple[CardClass, ...]:
        """The classes that are meant."""
        able = [one for one in classes if self.vendor in ("", one.vendor) and self.mode is one.mode]
        models = meant(self.model, (one.model for one in able))
        return tuple(one for one in able if one.model in models)


class WhenOver(StrEnum):
    """What happens to running workloads when a tenant holds more than its quota has become."""

    KEEP = "keep"
    EVICT = "evict"


class ByClaims(StrEnum):
    """Whether a tenant may get cards by ResourceClaims, which Kubernetes allocates and Kerf counts."""

    REFUSE = "refuse"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class TenantQuota:
    """One tenant: its namespaces and its part of each class of cards."""

    name: str
    namespaces: tuple[str, ...]
    classes: tuple[ClassQuota, ...]
    weight: int = 1
    """Share of what is idle, beside other tenants'."""
    priority: str = "normal"
    when_over: WhenOver = WhenOver.KEEP
    claims: ByClaims = ByClaims.REFUSE
    """Kept by the API server, from the stored object."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a pod holds or asks, by class slug or by vendor, at its worst moment."""

    by: tuple[tuple[str, Amount], ...] = ()

    def of(self, name: str) -> Amount:
        """The part of one class or vendor."""
        return dict(self.by).get(name, NOTHING)

    @property
    def total(self) -> Amount:
        """All of it."""
        return total(amount for _, amount in self.by)

    @classmethod
    def build(cls, amounts: Mapping[str, Amount]) -> Self:
        """Sorted by name, zeros left out."""
        return cls(tuple(sorted((name, amount) for name, amount in amounts.items() if amount)))


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum."""
    found = NOTHING
    for amount in amounts:
        found += amount
    return found


def total_bound(bounds: Iterable[Bound]) -> Bound:
    """The sum; a dimension that one of them does not limit has none."""
    found = Bound(0, 0, 0)
    for bound in bounds:
        found += bound
    return found


def effective(parts: Iterable[tuple[Stage, Mapping[str, Amount]]]) -> Usage:
    """Kubernetes' effective-request rule over whole containers, in start order, name by name.

    max( apps + sidecars, each plain init container + the sidecars declared before it ): the very rule by which Kueue
    sums a pod's requests, so that its books and Kerf's show one number.
    """
    running: dict[str, Amount] = {}
    peak: dict[str, Amount] = {}
    for stage, amounts in parts:
        for name, amount in amounts.items():
            use = running.get(name, NOTHING) + amount
            peak[name] = peak.get(name, NOTHING).peak(use)
            if stage is not Stage.INIT:
                running[name] = use
    return Usage.build(peak)


def usage_of_grant(grant: Grant, stages: Stages, name_of: Mapping[str, str]) -> Usage:
    """What a pod holds by the name (a class's slug) of each of its cards; unknown cards count under UNKNOWN."""
    order = [*stages, *((c.name, Stage.APP) for c in grant.containers if c.name not in dict(stages))]
    parts = []
    for container, stage in order:
        amounts: dict[str, Amount] = {}
        for slice_ in grant.of(container):
            name = name_of.get(slice_.card, UNKNOWN)
            amounts[name] = amounts.get(name, NOTHING) + Amount(slice_.memory_mib, slice_.cores, 1)
        parts.append((stage, amounts))
    return effective(parts)


def a_card_of(card_class: CardClass, card_mib: int, slicing: Slicing = ANY_SIZE, reserved_mib: int = 0) -> Card:
    """A card that stands for a class. Without a slicing it gives just what is asked, the least that any card gives."""
    return Card(
        id="",
        index=0,
        vendor=card_class.vendor,
        model=card_class.model,
        memory_mib=card_mib,
        mode=card_class.mode,
        reserved_mib=reserved_mib,
        slicing=slicing,
    )


def usage_of_ask(ask: PodAsk, card: Card) -> Usage:
    """What a pod asks by vendor, on cards such as this one."""
    parts = ((container.stage, {container.vendor: amount_of(container, card)}) for container in ask.containers)
    return effective(parts)


def amount_of(ask: ContainerAsk, card: Card) -> Amount:
    """What one container gets in all of cards such as this one; what it asks, where such a card gives no slice."""
    size = size_on(ask, card) if ask.vendor == card.vendor else None
    if size is None:
        return Amount(ask.memory_on(card.factory_memory_mib, card.reserved_mib), ask.cores, 1) * ask.cards
    return Amount(size.memory_mib, size.cores, 1) * ask.cards


def _plus(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
