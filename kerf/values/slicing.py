"""Slicing: how a card is divided, and which slices answer an ask. The arithmetic asks here and knows no vendor."""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar, Protocol

from kerf.values.ask import ContainerAsk
from kerf.values.places import EVERYWHERE, Place, one, whole

WHOLE = 100
"""Percent of a card's cores that make a slice the whole card."""


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """A slice that a card can give: MiB, percent of cores, and the vendor's name for it where it has one.

    `places` are where on the card it may lie, the best first; without any it may lie anywhere.
    """

    memory_mib: int
    cores: int
    name: str = ""
    places: tuple[Place, ...] = ()


class Hardware(Protocol):
    """What a slicing needs to know of a card; `kerf.values.device.Card` is one."""

    @property
    def memory_mib(self) -> int:
        """MiB that may be granted."""

    @property
    def cores(self) -> int:
        """Percent of cores that may be granted."""

    @property
    def factory_memory_mib(self) -> int:
        """MiB of the hardware."""

    @property
    def reserved_mib(self) -> int:
        """MiB beside these that the driver keeps for itself."""

    @property
    def slicing(self) -> "Slicing":
        """How the card is divided."""


class Slicing(Protocol):
    """A frozen, hashable value that says how cards are divided.

    `sizes` lists the slices by which a card can answer an ask, the smallest first; none means that it never can. Each
    further size is larger than the one before it in both amounts, so a card without room for the first has none for
    the others. `refusal` says in one sentence why a card takes no slice at all; it is empty for cards that Kerf slices.
    Sizes that are `fixed` by the hardware cannot be over-committed. A slicing that is `exact` gives just what is asked.
    """

    def __hash__(self) -> int:
        """Slicings are keys of caches."""

    @property
    def refusal(self) -> str:
        """Why the card takes no slice, or nothing."""

    @property
    def fixed(self) -> bool:
        """Whether the hardware fixes the sizes."""

    @property
    def exact(self) -> bool:
        """Whether a slice is just what is asked."""

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """The slices of the card that answer the ask."""

    def largest(self, card: Hardware) -> Size:
        """The largest slice that the card could ever give."""

    def unanswered(self, ask: ContainerAsk) -> str:
        """Why no slice answers the ask, where neither memory nor cores say it; empty where there is no such reason."""


class Plain:
    """A slicing whose answers depend on memory, cores and groups alone."""

    __slots__ = ()

    def unanswered(self, ask: ContainerAsk) -> str:
        """The group, which is a mode of the pod."""
        return f"it gives no slice to pods of {ask.group} mode" if ask.group else ""


def _most(card: Hardware) -> int:
    """MiB of the largest slice: over-commitment never makes one slice larger than the hardware."""
    return min(card.factory_memory_mib, card.memory_mib)


@dataclass(frozen=True, slots=True)
class AnySize(Plain):
    """Any number of MiB and any percentage: software keeps the slice."""

    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """Exactly what is asked, up to the size of the hardware."""
        factory = card.factory_memory_mib
        memory = ask.memory_on(factory, card.reserved_mib)
        return (Size(memory, ask.cores),) if memory <= factory and memory <= card.memory_mib else ()

    def largest(self, card: Hardware) -> Size:
        """The whole card."""
        return Size(_most(card), min(card.cores, WHOLE))


@dataclass(frozen=True, slots=True)
class OneCardEach(Plain):
    """Any size, of one card a container: each card has an MPS daemon of its own, and a process reaches only one.

    Containers that take their cards whole use no daemon, so they may have several.
    """

    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """Exactly what is asked, where it is of one card, or of cards that nobody shares."""
        return ANY_SIZE.sizes(ask, card) if ask.cards == 1 or alone_on(ask.cores, card) else ()

    def largest(self, card: Hardware) -> Size:
        """The whole card."""
        return ANY_SIZE.largest(card)


@dataclass(frozen=True, slots=True)
class Templates(Plain):
    """A list of sizes from which the driver makes slices. An ask gets the first template that holds it.

    `templates` rise in both amounts. With `whole`, an ask that no template holds gets the whole card. With `alike`, a
    card that holds a slice takes no slice of another size. With a `group`, asks of other groups get no slice.
    """

    templates: tuple[Size, ...]
    whole: bool = True
    alike: bool = False
    group: str = ""
    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if any(a.memory_mib > b.memory_mib or a.cores > b.cores for a, b in pairwise(self.templates)):
            raise ValueError(f"templates must rise in memory and cores: {self.templates}")

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """Every template that has the ask's memory and cores, then the whole card."""
        if self.group and ask.group != self.group:
            return ()
        memory = ask.memory_on(card.factory_memory_mib, card.reserved_mib)
        return tuple(size for size in self.offered(card) if size.memory_mib >= memory and size.cores >= ask.cores)

    def largest(self, card: Hardware) -> Size:
        """The whole card, or its largest template."""
        return max(self.offered(card), default=Size(0, 0))

    def offered(self, card: Hardware) -> tuple[Size, ...]:
        """Every size that the card can give."""
        most = Size(_most(card), min(card.cores, WHOLE))
        fitting = tuple(t for t in self.templates if t.memory_mib <= most.memory_mib and t.cores <= most.cores)
        offered = (*fitting, most) if self.whole else fitting
        return tuple(replace(size, places=(_alone_of(i),)) for i, size in enumerate(offered)) if self.alike else offered


@dataclass(frozen=True, slots=True)
class Partitions(Plain):
    """The card is cut into `count` equal parts; a slice is one of them."""

    count: int
    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """One part, if it holds the ask."""
        part = self.largest(card)
        enough = (
            part.memory_mib >= ask.memory_on(card.factory_memory_mib, card.reserved_mib) and part.cores >= ask.cores
        )
        return (part,) if enough else ()

    def largest(self, card: Hardware) -> Size:
        """One part."""
        return Size(_most(card) // self.count, min(card.cores, WHOLE) // self.count)


@dataclass(frozen=True, slots=True)
class WholeCard(Plain):
    """The card is never divided: every ask gets all of it."""

    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """The card, if it holds the ask."""
        whole = self.largest(card)
        enough = (
            whole.memory_mib >= ask.memory_on(card.factory_memory_mib, card.reserved_mib) and whole.cores >= ask.cores
        )
        return (whole,) if enough else ()

    def largest(self, card: Hardware) -> Size:
        """The card."""
        return Size(_most(card), min(card.cores, WHOLE))


@dataclass(frozen=True, slots=True)
class Exactly(Plain):
    """Any number of MiB and any percentage, kept by the vendor's own driver, which therefore cannot be over-committed.

    With `groups`, cards take slices of several groups (`ContainerAsk.group`), each with the groups that must hold
    nothing of the card when a slice of it comes. An ask of no known group gets no slice.
    """

    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """Exactly what is asked."""
        memory, names = ask.memory_on(card.factory_memory_mib), [name for name, _ in self.groups]
        if memory > _most(card) or ask.cores > card.cores or (names and ask.group not in names):
            return ()
        if not names:
            return (Size(memory, ask.cores),)
        shunned = dict(self.groups)[ask.group]
        place = Place(one(names.index(ask.group)), whole(*(names.index(name) for name in shunned)))
        return (Size(memory, ask.cores, places=(place,)),)

    def largest(self, card: Hardware) -> Size:
        """The whole card."""
        return Size(_most(card), min(card.cores, WHOLE))


@dataclass(frozen=True, slots=True)
class Placed(Plain):
    """Sizes that lie at fixed places of the card: MIG's instances, the cores of a Neuron device.

    `offers` rise in both amounts, and each one's places lie within places of the one before it.
    """

    offers: tuple[Size, ...]
    shares: tuple[int, ...] = ()
    """The percentage of the card's memory that each offer counts as; empty: what its MiB are of the card's."""
    one_only: bool = False
    """Whether a container gets one slice at most."""
    refusal: ClassVar[str] = ""
    fixed: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if any(a.memory_mib > b.memory_mib or a.cores > b.cores for a, b in pairwise(self.offers)):
            raise ValueError(f"sizes must rise in memory and cores: {self.offers}")

    def sizes(self, ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
        """Every size that has the ask's memory and cores."""
        if self.one_only and ask.cards > 1:
            return ()
        if self.shares and ask.memory_percent is not None:
            pairs = zip(self.offers, self.shares, strict=True)
            return tuple(size for size, share in pairs if share >= ask.memory_percent and size.cores >= ask.cores)
        memory = ask.memory_on(card.factory_memory_mib, card.reserved_mib)
        enough = (size for size in self.offers if size.memory_mib >= memory and size.cores >= ask.cores)
        whole_card = ask.memory_percent == WHOLE
        return tuple(enough) or (self.offers[-1:] if whole_card else ())

    def largest(self, _card: Hardware) -> Size:
        """The last of them."""
        return max(self.offers, default=Size(0, 0))


@dataclass(frozen=True, slots=True)
class NotSliced(Plain):
    """Kerf gives no slice of the card, for the reason in `refusal`."""

    refusal: str
    fixed: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def sizes(self, _ask: ContainerAsk, _card: Hardware) -> tuple[Size, ...]:
        """None."""
        return ()

    def largest(self, _card: Hardware) -> Size:
        """Nothing."""
        return Size(0, 0)


ANY_SIZE = AnySize()
ONE_CARD_EACH = OneCardEach()


def _alone_of(digit: int) -> Place:
    """The place of a slice beside which only its own kind may be."""
    return Place(one(digit), EVERYWHERE & ~whole(digit))


def sizes(ask: ContainerAsk, card: Hardware) -> tuple[Size, ...]:
    """The slices by which the card can answer the ask, the best first. Empty: it never can."""
    return card.slicing.sizes(ask, card)


def size_on(ask: ContainerAsk, card: Hardware) -> Size | None:
    """The slice that the card gives for the ask, None if it never can."""
    found = card.slicing.sizes(ask, card)
    return found[0] if found else None


def free_places(size: Size, card: Hardware, used: int) -> tuple[Place, ...]:
    """Where on the card a slice of the size may lie beside what is used, the place that spoils least first."""
    free = tuple(place for place in size.places if not used & place.blocked)
    if len(free) < 2 or not isinstance(card.slicing, Placed):
        return free
    return _by_spoiling(card.slicing.offers, free, used)


@lru_cache(maxsize=1 << 16)
def _by_spoiling(offers: tuple[Size, ...], free: tuple[Place, ...], used: int) -> tuple[Place, ...]:
    return tuple(sorted(free, key=lambda place: spoiled(offers, used, place)))


def spoiled(offers: tuple[Size, ...], used: int, taken: Place) -> int:
    """MiB of the free places that a slice at this place would spoil, each place of each size counted by itself."""
    free = ((size.memory_mib, place) for size in offers for place in size.places if not used & place.blocked)
    return sum(memory for memory, place in free if place.blocked & taken.adds)


def sliceable(card: Hardware) -> bool:
    """Whether Kerf gives slices of the card: the one answer for placement, slots, quota and diagnosis."""
    return not card.slicing.refusal


def alone_on(cores: int, card: Hardware, mutex: bool = False) -> bool:
    """Whether a slice with so many cores shares the card with no other. Over-committed cores make 100 % shareable."""
    return mutex or (cores >= WHOLE and card.cores == WHOLE)
