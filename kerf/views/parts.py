"""How cards of fixed sizes are divided: what lies on them, and what else would fit beside it."""

from collections.abc import Iterable
from dataclasses import dataclass

from kerf.values.device import Card, Mode
from kerf.values.grant import CardUse, Slice
from kerf.values.mig import Instance, named, start_of
from kerf.values.places import Place
from kerf.values.slicing import Exactly, Partitions, Placed, Size, Templates, WholeCard

_WAYS = {Exactly: "driver", Templates: "templates", Partitions: "parts", Placed: "places", WholeCard: "whole"}
"""Words for how a card is divided that no software of Kerf divides."""
NOT_OURS = "not Kerf's"


@dataclass(frozen=True, slots=True)
class FreePart:
    """A size that would still fit, each size counted by itself. `starts` are the places where it may begin."""

    size: str
    memory_mib: int
    cores: int
    count: int
    starts: tuple[int, ...] = ()

    def __str__(self) -> str:
        where = f" at {', '.join(map(str, self.starts))}" if self.starts else ""
        return f"{self.count} x {self.size}{where}"


def way_of(card: Card) -> str:
    """`preload`, `mps` or `mig`, or how a vendor's own driver divides the card."""
    return card.mode.word if card.mode is not Mode.SHARED else _WAYS.get(type(card.slicing), card.mode.word)


def held_parts(card: Card, held: Iterable[tuple[str, Slice]]) -> tuple[str, ...]:
    """What lies on the card, each with its pod; nothing for cards of any size."""
    if not _sizes(card) and card.mig is None:
        return ()
    theirs = [f"{_instance(card, each)} ({NOT_OURS})" for each in (card.mig.taken if card.mig else ())]
    ours = [f"{_part(card, piece)} ({pod})" for pod, piece in held]
    return (*theirs, *dict.fromkeys(ours))


def free_parts(card: Card, used: CardUse) -> tuple[FreePart, ...]:
    """What would still fit beside what is used; nothing for cards of any size, whose free memory says it."""
    found = []
    for size in _sizes(card):
        if isinstance(card.slicing, Placed):
            starts = _starts(size, used.places)
            count = min(len(starts), max(card.slots - used.slots, 0))
        else:
            starts, count = (), _by_amounts(card, size, used)
        if count:
            found.append(FreePart(_name(size), size.memory_mib, size.cores, count, starts))
    return tuple(found)


def _sizes(card: Card) -> tuple[Size, ...]:
    """The sizes that the card can give; none where it gives any, or all of itself."""
    slicing = card.slicing
    if isinstance(slicing, Placed):
        return slicing.offers
    if isinstance(slicing, Templates):
        return slicing.offered(card)
    return (slicing.largest(card),) if isinstance(slicing, Partitions) else ()


def _by_amounts(card: Card, size: Size, used: CardUse) -> int:
    if size.places and all(used.places & place.blocked for place in size.places):
        return 0
    memory, cores = card.memory_mib - used.memory_mib, card.cores - used.cores
    counts = [card.slots - used.slots]
    counts += [memory // size.memory_mib] if size.memory_mib else []
    counts += [cores // size.cores] if size.cores else []
    return max(min(counts), 0)


def _starts(size: Size, used: int) -> tuple[int, ...]:
    """Where slices of the size can lie side by side."""
    found: list[Place] = []
    for place in sorted(size.places, key=lambda each: start_of(each.adds)):
        if not place.blocked & (used + sum(each.adds for each in found)):
            found.append(place)
    return tuple(start_of(place.adds) for place in found)


def _name(size: Size) -> str:
    return size.name or "the whole card"


def _part(card: Card, piece: Slice) -> str:
    if card.mig is not None:
        return named(card.mig, piece.memory_mib, piece.cores, piece.place)
    if isinstance(card.slicing, Partitions):
        return "a part"
    amounts = piece.memory_mib, piece.cores
    return next((_name(size) for size in _sizes(card) if (size.memory_mib, size.cores) == amounts), "a slice")


def _instance(card: Card, one: Instance) -> str:
    known = card.mig.profiles if card.mig else ()
    name = next((profile.name for profile in known if profile.id == one.profile), "an instance")
    return f"{name} at memory slice {one.start}"
