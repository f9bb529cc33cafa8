"""Grants: what a pod got, and what that costs each card."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from kerf.values.ask import Stage, Stages
from kerf.values.places import most_places
from kerf.values.quick import quick


@quick
@dataclass(frozen=True, slots=True, order=True)
class Slice:
    """The part of one card that a container holds: MiB and percent of SMs.

    `place` is where on the card, on cards that have places (`kerf.values.places`).
    """

    card: str
    vendor: str
    memory_mib: int
    cores: int
    place: int = 0

    @property
    def use(self) -> "CardUse":
        """What the slice takes of its card."""
        return _one_slice(self.memory_mib, self.cores, self.place)


@quick
@dataclass(frozen=True, slots=True)
class ContainerGrant:
    """The slices of one container, on distinct cards, in the order of its device indices."""

    name: str
    slices: tuple[Slice, ...]


@quick
@dataclass(frozen=True, slots=True)
class Grant:
    """The slices of every container of a pod that holds any. `extra` keeps unknown keys of newer writers."""

    containers: tuple[ContainerGrant, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    """Unknown top-level keys with their JSON text, kept so that a rewrite loses nothing."""

    def of(self, container: str) -> tuple[Slice, ...]:
        """The slices of one container, empty if it holds none."""
        return next((c.slices for c in self.containers if c.name == container), ())

    @property
    def slices(self) -> tuple[Slice, ...]:
        """The slices of all containers, one container after the other."""
        return tuple(piece for container in self.containers for piece in container.slices)

    def __bool__(self) -> bool:
        for container in self.containers:  # noqa: SIM110 (a generator costs three times as much)
            if container.slices:
                return True
        return False


@quick
@dataclass(frozen=True, slots=True)
class CardUse:
    """What a pod holds of one card at its worst moment. `places` counts what is held place by place."""

    memory_mib: int = 0
    cores: int = 0
    slots: int = 0
    places: int = 0

    def __add__(self, other: "CardUse") -> "CardUse":
        return CardUse(
            self.memory_mib + other.memory_mib,
            self.cores + other.cores,
            self.slots + other.slots,
            self.places + other.places,
        )

    def __sub__(self, other: "CardUse") -> "CardUse":
        return CardUse(
            self.memory_mib - other.memory_mib,
            self.cores - other.cores,
            self.slots - other.slots,
            self.places - other.places,
        )

    def peak(self, other: "CardUse") -> "CardUse":
        """The larger of the two in every dimension."""
        return CardUse(
            max(self.memory_mib, other.memory_mib),
            max(self.cores, other.cores),
            max(self.slots, other.slots),
            most_places(self.places, other.places),
        )


NO_USE = CardUse()
NO_VENDORS: frozenset[str] = frozenset()


@lru_cache(maxsize=4096)
def _one_slice(memory_mib: int, cores: int, place: int) -> CardUse:
    """One value for the slices of one size: a cluster has a few sizes, and tens of thousands of slices."""
    return CardUse(memory_mib, cores, 1, place)


def vendors_of(grant: Grant) -> frozenset[str]:
    """The names of the vendors of whose cards a grant has slices."""
    return frozenset([piece.vendor for container in grant.containers for piece in container.slices])


@quick
@dataclass(frozen=True, slots=True)
class Holding:
    """A pod's grant on a node, with what is needed to account for it. `stages` orders the pod's containers."""

    pod: str
    """`namespace/name`."""
    uid: str
    node: str
    grant: Grant
    stages: Stages = field(default=())


def card_uses(grant: Grant, stages: Mapping[str, Stage] | Stages) -> dict[str, CardUse]:
    """What a pod holds of each card, by Kubernetes' effective-request rule applied card by card.

    max( apps + sidecars, each plain init container + the sidecars declared before it ). `stages` lists the pod's
    containers, init containers first, in declared order; a container that is not listed counts as an app.
    """
    if len(grant.containers) == 1:  # nearly every pod; what one container holds does not depend on its stage
        slices = grant.containers[0].slices
        if len(found := {slice_.card: slice_.use for slice_ in slices}) == len(slices):
            return found
    order = dict(stages)
    running: dict[str, CardUse] = {}
    peak: dict[str, CardUse] = {}
    by_name = {container.name: container.slices for container in grant.containers}
    names = [*order, *(name for name in by_name if name not in order)]
    for name in names:
        plain_init = order.get(name, Stage.APP) is Stage.INIT
        for slice_ in by_name.get(name, ()):
            base = running.get(slice_.card, NO_USE)
            use = base + slice_.use
            peak[slice_.card] = peak.get(slice_.card, NO_USE).peak(use)
            if not plain_init:
                running[slice_.card] = use
    return peak
