"""Asks: what the containers of a pod want, with every default already resolved."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from kerf.values.accepts import Chosen
from kerf.values.card_names import match, meant
from kerf.values.traits import ORDINARY, Traits


class Stage(StrEnum):
    """When a container runs, which decides how its ask adds up (Kubernetes' effective-request rule)."""

    APP = "app"
    SIDECAR = "sidecar"  # an init container with restartPolicy Always: runs beside everything after it
    INIT = "init"  # runs alone, after the sidecars that were declared before it


Stages = tuple[tuple[str, Stage], ...]
"""A pod's containers by name, in the order in which they start, each with its stage."""


def whole_if_reserved(memory_mib: int, factory_mib: int, reserved_mib: int) -> int:
    """An amount of memory, where it reaches into what the driver reserves, as the whole card."""
    return factory_mib if factory_mib < memory_mib <= factory_mib + reserved_mib else memory_mib


@dataclass(frozen=True, slots=True)
class ContainerAsk:
    """What one container wants on each of `cards` distinct cards.

    Exactly one of `memory_mib` and `memory_percent` is set (percent of the card's hardware memory, 1..100).
    `cores` is percent of SMs, 0 = best effort, 100 = the card for itself. `vendor` names the cards' vendor. `group` is
    a word of that vendor's own: which slices a card may hold beside this one, or which of its sizes is meant.
    """

    name: str
    cards: int
    memory_mib: int | None = None
    memory_percent: int | None = None
    cores: int = 0
    stage: Stage = Stage.APP
    vendor: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        if (self.memory_mib is None) == (self.memory_percent is None):
            raise ValueError(f"container {self.name!r}: exactly one of memory_mib and memory_percent must be set")

    def memory_on(self, factory_mib: int, reserved_mib: int = 0) -> int:
        """MiB wanted on a card that gives `factory_mib`. Rounds down, so complementary percentages fit.

        People also write what the driver reports, which has what it reserves for itself: that is the whole card.
        """
        if self.memory_mib is not None:
            return whole_if_reserved(self.memory_mib, factory_mib, reserved_mib)
        return factory_mib * (self.memory_percent or 0) // 100

    @property
    def exclusive(self) -> bool:
        """Whether the container wants its cards for itself."""
        return self.cores >= 100


@dataclass(frozen=True, slots=True, order=True)
class Selection:
    """Which cards a pod accepts. Empty means "any", values are sorted.

    Types are names of models as people write them (`kerf.values.card_names`).
    """

    use_ids: tuple[str, ...] = ()
    avoid_ids: tuple[str, ...] = ()
    use_types: tuple[str, ...] = ()
    avoid_types: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    """Slugs of `kerf.values.quota.CardClass`: the classes that the pod's quota covers."""
    same_numa: bool = False
    same_model: bool = False
    """All cards of a container are of one model (`kerf.values.alike`)."""
    known: tuple[str, ...] = ()
    """The models among which a type finds what it names best; empty: each card is looked at by itself."""
    same_card: tuple[str, ...] = ()
    """Vendors of whose cards all containers of the pod must hold the same one."""

    def takes(self, model: str, mode: str) -> bool:
        """Whether cards of this model, divided in this way, are accepted, ignoring everything else."""
        if self.modes and mode not in self.modes:
            return False
        if any(self._means(written, model) for written in self.avoid_types):
            return False
        return not self.use_types or any(self._means(written, model) for written in self.use_types)

    def among(self, models: tuple[str, ...]) -> "Selection":
        """The selection where these models are known; the very same one if it names no type."""
        return replace(self, known=models) if (self.use_types or self.avoid_types) and self.known != models else self

    def of_cards(self) -> "Selection":
        """What it says of a single card, the models of the fleet apart; the very same one if that is all."""
        if not (self.alike or self.known or self.same_card):
            return self
        return replace(self, same_numa=False, same_model=False, known=(), same_card=())

    @property
    def alike(self) -> bool:
        """Whether the cards of one container must have something in common."""
        return self.same_numa or self.same_model

    def classes_of(self, vendor: str) -> tuple[str, ...]:
        """The classes of one vendor's cards that are accepted; empty is any."""
        return tuple(slug for slug in self.classes if slug.startswith(f"{vendor}-"))

    def _means(self, written: str, model: str) -> bool:
        return model in meant(written, (*self.known, model)) if self.known else bool(match(written, model))


@dataclass(frozen=True, slots=True)
class Wishes:
    """Placement policies named on the pod. None and empty mean "the scheduler's own"."""

    node_policy: str | None = None
    card_policies: tuple[str, ...] = ()
    weights: tuple[int, int, int] | None = None
    """Weights of slots, cores and memory in the scores of `binpack` and `spread`."""


@dataclass(frozen=True, slots=True, order=True)
class Reach:
    """Which cards a pod may take at all, whatever is free: by what it selects, its group, and what it demands of nodes.

    Pods of equal reach see the same cards. `nodes` is a text of `kerf.wire.node_demand`.
    """

    selection: Selection = field(default_factory=Selection)
    group: str = ""
    nodes: str = ""


@dataclass(frozen=True, slots=True)
class PodAsk:
    """A pod as placement sees it. `containers` lists only those that ask for cards, in start order.

    `cpu_milli` and `memory_mib` are the pod's effective Kubernetes requests. `priority` is its PriorityClass value;
    `task_priority` the limiter's (0 high, 1 low). `gang` names the group that runs all or nothing, with `gang_size`.
    """

    namespace: str
    name: str
    uid: str
    containers: tuple[ContainerAsk, ...] = ()
    selection: Selection = field(default_factory=Selection)
    wishes: Wishes = field(default_factory=Wishes)
    cpu_milli: int = 0
    memory_mib: int = 0
    priority: int = 0
    task_priority: int = 1
    gang: str | None = None
    gang_size: int = 0
    traits: Traits = ORDINARY
    owner: str = ""
    """Uid of the controller that makes the pod, and its successor."""
    admission: str = ""
    """Uid of the Kueue Workload whose reserved places the pod may take."""
    nodes: str = ""
    """What the pod demands of nodes (`kerf.wire.node_demand`); kube-scheduler decides by it, packing looks ahead."""
    chosen: Chosen | None = None
    """The kind of cards that it was given of several that it accepts."""
    part: str = ""
    """The part of a fleet's workload that it is a replica of: the fleet's plan may have a place for it."""

    @property
    def key(self) -> str:
        """`namespace/name`, as people write it."""
        return f"{self.namespace}/{self.name}"

    @property
    def reach(self) -> Reach:
        """Which cards the pod may take."""
        return Reach(self.selection.of_cards(), self.containers[0].group if self.containers else "", self.nodes)

    @property
    def shape(self) -> tuple[object, ...]:
        """What decides where the pod fits and nothing else: pods of equal shape are one class for the planner."""
        return (self.containers, self.selection, self.wishes, self.cpu_milli, self.memory_mib)
