"""MIG: the instances that a card's driver can make, and the places of the card's memory where each may lie.

A place begins at a memory slice and covers as many as its profile says. Two instances never cover the same one, and on
every model whose placements are known that is the driver's only rule: compute slices never run out before places do.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from kerf.values.places import DIGITS, Place, one, whole
from kerf.values.slicing import NotSliced, Placed, Size, Slicing, spoiled

_PLAIN = re.compile(r"\d+g\.\d+gb")
"""Profiles that a pod can ask for in MiB and cores. Others (`+me`, `+gfx`, `-me`) add or drop engines."""
FULL = "instances that Kerf did not make hold all of its places"
STRANGE = "the driver lists no MIG profile that Kerf can use"


@dataclass(frozen=True, slots=True, order=True)
class Profile:
    """A kind of instance: the driver's number and name for it, what it gives, and the memory slices where it begins."""

    id: int
    name: str
    memory_mib: int
    cores: int
    """Percent of the SMs of the largest instance, rounded down."""
    size: int
    """Memory slices that it covers."""
    starts: tuple[int, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it may lie, in the order of its starts."""
        return tuple(place_at(start, self.size) for start in self.starts)


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """An instance that exists on a card."""

    start: int
    size: int
    profile: int
    """The id of its profile."""
    id: int = 0
    """The driver's number for the GPU instance, by which faults name it."""
    uuid: str = ""
    """`MIG-…`, by which programs name it; empty while it has no compute instance."""

    @property
    def covers(self) -> int:
        """One in the counter of each memory slice that it covers."""
        return one(*range(self.start, self.start + self.size))


@dataclass(frozen=True, slots=True, order=True)
class Hurt:
    """An instance of Kerf's with a fault for which its pod has to move, and no other pod of the card."""

    start: int
    uid: str
    """Of the pod."""
    code: int
    cause: str
    since: int
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a card in MIG mode is divided. `taken` are the instances that are none of Kerf's: they stay."""

    profiles: tuple[Profile, ...]
    taken: tuple[Instance, ...] = ()
    hurt: tuple[Hurt, ...] = ()

    @property
    def plain(self) -> tuple[Profile, ...]:
        """The profiles that Kerf gives, rising: each lies within a place of the one before it."""
        return _plain(self.profiles)

    @property
    def largest(self) -> Profile | None:
        """The profile that is the whole card."""
        return max(self.plain, key=lambda profile: (profile.memory_mib, profile.cores), default=None)

    @property
    def held(self) -> int:
        """The counters that `taken` covers."""
        return sum(instance.covers for instance in self.taken)

    @property
    def slots(self) -> int:
        """Instances that can exist beside `taken` at once."""
        return max((sum(not p.blocked & self.held for p in each.places) for each in self.plain), default=0)

    @property
    def taken_amounts(self) -> tuple[int, int]:
        """MiB and percent of the cores of `taken`."""
        known = {profile.id: profile for profile in self.profiles}
        held = [known[one.profile] for one in self.taken if one.profile in known]
        return sum(profile.memory_mib for profile in held), sum(profile.cores for profile in held)

    def profile_of(self, memory_mib: int, cores: int) -> Profile | None:
        """The profile of a slice with these amounts."""
        return next((p for p in self.plain if (p.memory_mib, p.cores) == (memory_mib, cores)), None)

    def without(self, mine: frozenset[tuple[int, int]]) -> "Geometry":
        """The same without the instances of these starts and sizes, which are Kerf's."""
        left = tuple(each for each in self.taken if (each.start, each.size) not in mine)
        return self if left == self.taken else replace(self, taken=left)

    @property
    def slicing(self) -> Slicing:
        """As placement sees the card."""
        return _slicing(self.profiles, self.held)


def place_at(start: int, size: int) -> Place:
    """The place of an instance: it takes these memory slices, and all of them have to be free."""
    covered = range(start, start + size)
    return Place(one(*covered), whole(*covered))


def start_of(place: int) -> int:
    """The first memory slice of a slice's place."""
    return next((digit for digit in range(DIGITS) if place & whole(digit)), 0)


def named(geometry: Geometry, memory_mib: int, cores: int, place: int) -> str:
    """A slice of a card in MIG mode for people: `3g.40gb at memory slice 4`."""
    profile = geometry.profile_of(memory_mib, cores)
    return f"{profile.name if profile else 'an instance'} at memory slice {start_of(place)}"


@lru_cache(maxsize=256)
def _plain(profiles: tuple[Profile, ...]) -> tuple[Profile, ...]:
    kept: list[Profile] = []
    for profile in sorted(profiles, key=lambda each: (each.memory_mib, each.cores, each.name)):
        before = kept[-1] if kept else None
        if not _PLAIN.fullmatch(profile.name) or (before and profile.cores < before.cores):
            continue
        if before is None or all(any(p.adds & q.adds == q.adds for q in before.places) for p in profile.places):
            kept.append(profile)
    return tuple(kept)


@lru_cache(maxsize=4096)
def _slicing(profiles: tuple[Profile, ...], held: int) -> Slicing:
    plain = _plain(profiles)
    if not plain:
        return NotSliced(STRANGE)
    eighths = max(profile.size for profile in plain)
    every = tuple(Size(p.memory_mib, p.cores, p.name, p.places) for p in plain)
    offers, shares = [], []
    for size, profile in zip(every, plain, strict=True):
        free = [place for place in size.places if not place.blocked & held]
        if free:
            ranked = sorted(free, key=lambda place: (spoiled(every, held, place), place.adds))
            offers.append(replace(size, places=tuple(ranked)))
            shares.append(100 * profile.size // eighths)
    return Placed(tuple(offers), tuple(shares), one_only=True) if offers else NotSliced(FULL)
