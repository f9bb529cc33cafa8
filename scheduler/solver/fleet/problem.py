"""What a plan over clusters is asked and what it answers, as values. Money is in millionths of the currency an hour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

MICRO = 1_000_000
Slot = tuple[int, int, int]
"""Memory, cores and slots that a card gives."""


class Held(IntEnum):
    """Who pays for a card that a plan may use."""

    EMPTY = 0  # nothing is on it: a plan that opens it pays for all of it
    SHARED = 1  # pods outside the plan are on it: a plan pays for the share that it takes
    PAID = 2  # only pods of the plan are on it: what is free costs nothing more


@dataclass(frozen=True, slots=True, order=True)
class Space:
    """What is free on a card, and who pays for it."""

    memory_mib: int
    cores: int
    slots: int
    held: Held = Held.EMPTY


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """Cards that give the same slices: what one of them can hold when it is empty."""

    name: str
    memory_mib: int
    cores: int = 100
    slots: int = 10

    @property
    def empty(self) -> Space:
        """A card of this kind that nothing is on."""
        return Space(self.memory_mib, self.cores, self.slots)


@dataclass(frozen=True, slots=True, order=True)
class NodeSpace:
    """What is free on a node with cards of one kind. `cards` are sorted; full cards may be left out."""

    kind: str
    cards: tuple[Space, ...]
    cpu_milli: int
    memory_mib: int
    apart: tuple[str, ...] = ()
    """Sorted: the workloads of which no pod may come, because of those that are there."""


@dataclass(frozen=True, slots=True)
class Site:
    """One cluster: equal nodes counted, and what a card of each kind costs an hour there.

    `money` is the price; `price` is what the plan weighs, which is higher where the cluster is not reliable.
    """

    name: str
    nodes: tuple[tuple[NodeSpace, int], ...]
    money: tuple[tuple[str, int], ...]
    price: tuple[tuple[str, int], ...]
    region: str = ""

    def money_of(self, kind: str) -> int:
        """What a whole card of the kind costs."""
        return dict(self.money).get(kind, 0)

    def price_of(self, kind: str) -> int:
        """What a whole card of the kind weighs in a plan."""
        return dict(self.price).get(kind, 0)

    def spaces(self, kind: str) -> dict[Space, int]:
        """How many cards of the kind have which free space."""
        found: dict[Space, int] = {}
        for node, count in self.nodes:
            if node.kind == kind:
                for space in node.cards:
                    found[space] = found.get(space, 0) + count
        return found


@dataclass(frozen=True, slots=True)
class Piece:
    """Slices of equal size on `cards` distinct cards of one node. `alone` ones share their card with nothing.

    A slice that asks for no cores counts one percent: a card of which every core is taken gets none of them.
    """

    memory_mib: int
    cores: int = 1
    cards: int = 1
    alone: bool = False

    def share(self, kind: Kind) -> float:
        """The part of one card that a slice takes: the larger of memory and cores."""
        return 1.0 if self.alone else min(1.0, max(self.memory_mib / kind.memory_mib, self.cores / kind.cores))


@dataclass(frozen=True, slots=True)
class Fit:
    """What one pod takes on cards of a kind."""

    kind: str
    pieces: tuple[Piece, ...]

    def cards(self, kind: Kind) -> float:
        """Cards that a pod takes, in parts of a card."""
        return sum(piece.cards * piece.share(kind) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Demand:
    """A workload: `units` that may go to different clusters; the `pods` of one unit stay together.

    `sites` names the clusters that are allowed, None is every one. `extra` is what a unit costs more in a cluster,
    such as in a region that is not preferred. `most` limits the units in one cluster; `survive` units have to be
    elsewhere than in any one cluster. `running` counts units by cluster and kind; moving one costs `move_cost`. `fixed`
    counts, by cluster, further units of the same workload that stay and are no part of the problem. `apart`, sorted,
    names the workloads of which no pod may be beside one of its own: itself, where a node takes one. Each of them names
    it, too.
    """

    name: str
    units: int
    fits: tuple[Fit, ...]
    pods: int = 1
    cpu_milli: int = 0
    memory_mib: int = 0
    priority: int = 0
    sites: frozenset[str] | None = None
    extra: tuple[tuple[str, int], ...] = ()
    most: int | None = None
    survive: int = 0
    running: tuple[tuple[str, str, int], ...] = ()
    move_cost: int = 0
    fixed: tuple[tuple[str, int], ...] = ()
    apart: tuple[str, ...] = ()

    def fixed_in(self, site: str) -> int:
        """Units beside the problem's that a cluster has already."""
        return sum(n for name, n in self.fixed if name == site)

    def safe_without(self, site: str) -> int:
        """Fixed units that do not depend on a cluster."""
        return sum(n for name, n in self.fixed if name != site)

    def fit(self, kind: str) -> Fit | None:
        """What a pod takes on cards of a kind, None where it does not accept them."""
        return next((fit for fit in self.fits if fit.kind == kind), None)

    def allows(self, site: str) -> bool:
        """Whether units may go to a cluster."""
        return self.sites is None or site in self.sites


@dataclass(frozen=True, slots=True)
class Limit:
    """The units of some workloads, each by what a unit takes on cards of `kind`, stay within `most`."""

    owner: str
    kind: str
    most: int
    takes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class FleetProblem:
    """A frozen picture of a fleet and of what it has to hold."""

    kinds: tuple[Kind, ...]
    sites: tuple[Site, ...]
    demands: tuple[Demand, ...]
    limits: tuple[Limit, ...] = ()

    def kind(self, name: str) -> Kind:
        """A kind by its name."""
        return next(kind for kind in self.kinds if kind.name == name)

    def site(self, name: str) -> Site:
        """A cluster by its name."""
        return next(site for site in self.sites if site.name == name)


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Units of a workload in one cluster on one kind of card."""

    demand: str
    site: str
    kind: str
    units: int


@dataclass(frozen=True, slots=True)
class Use:
    """What a plan makes of the cards of one kind in one cluster, in cards.

    `opened` were empty before; `used` is the part of cards that the plan takes; `stranded` is what stays free on
    cards that are in use and is too small for every workload of the plan.
    """

    site: str
    kind: str
    cards: int = 0
    opened: int = 0
    used: float = 0.0
    stranded: float = 0.0


@dataclass(frozen=True, slots=True)
class Block:
    """Pods that go onto cards of one node together, each card with the same free space.

    `takes[i]` is taken of the i-th card, `demand` of the node's CPU and memory; `share` is what a block pays for where
    the cards are shared. `pods` has, for each pod, its workload and its cards by number.
    """

    space: Space
    takes: tuple[Slot, ...]
    share: float
    demand: tuple[int, int]
    pods: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What was put onto `nodes` nodes that were alike, `times` on each: a block, or a pod by a fit."""

    before: NodeSpace
    nodes: int
    times: int
    what: Block | tuple[Demand, Fit]


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Where units go. `cost` is money an hour, `objective` what was minimised, `bound` what no plan can undercut."""

    parts: tuple[Part, ...]
    unplaced: tuple[tuple[str, int], ...] = ()
    cost: int = 0
    objective: int = 0
    bound: int = 0
    uses: tuple[Use, ...] = ()
    status: str = "greedy"
    steps: tuple[tuple[str, Kind, tuple[Step, ...]], ...] = field(default=(), compare=False, repr=False)
    """By cluster and kind of cards, how the units were put onto nodes."""

    @property
    def gap(self) -> float:
        """How far the plan can be from the best one, as a part of its objective."""
        return max(0.0, (self.objective - self.bound) / self.objective) if self.objective > 0 else 0.0

    @property
    def stranded(self) -> float:
        """Cards' worth of space that nothing of the plan fits into any more."""
        return sum(use.stranded for use in self.uses)

    def units(self, demand: str) -> int:
        """Units of a workload that have a place."""
        return sum(part.units for part in self.parts if part.demand == demand)


@dataclass(frozen=True, slots=True)
class Weights:
    """What not placing a unit weighs, by workload, and what a unit weighs that one cluster's loss would take."""

    unplaced: dict[str, int] = field(default_factory=dict)
    exposed: dict[str, int] = field(default_factory=dict)


def weights(problem: FleetProblem) -> Weights:
    """More than any place can cost; four times as much for each step of priority."""
    dearest = max((price for site in problem.sites for _, price in site.price), default=0) + 1
    extra = max((cost for demand in problem.demands for _, cost in demand.extra), default=0)
    move = max((demand.move_cost for demand in problem.demands), default=0)
    steps = sorted({demand.priority for demand in problem.demands})
    kinds = {kind.name: kind for kind in problem.kinds}
    found = Weights()
    for demand in problem.demands:
        # A whole card per slice is the most that a unit can cost.
        slices = max((sum(p.cards for p in fit.pieces) for fit in demand.fits), default=1)
        size = max((fit.cards(kinds[fit.kind]) for fit in demand.fits if fit.kind in kinds), default=1.0)
        most = demand.pods * slices * dearest + extra + move
        rank = min(steps.index(demand.priority), 5)
        found.unplaced[demand.name] = int(4 * most * max(1.0, size / slices * 4)) * 4**rank
        found.exposed[demand.name] = most // 2 + 1
    return found


def lost_one_by_one(problem: FleetProblem, demand: Demand) -> tuple[str, ...]:
    """The clusters that have, or may get, units of a workload."""
    names = {site.name for site in problem.sites if demand.allows(site.name)} | {name for name, _ in demand.fixed}
    return tuple(sorted(names))


def exposed(problem: FleetProblem, demand: Demand, by_site: Mapping[str, int]) -> int:
    """Units that are missing from what has to stay when the worst cluster is lost."""
    if not demand.survive:
        return 0
    total = sum(by_site.values())
    safe = [total - by_site.get(site, 0) + demand.safe_without(site) for site in lost_one_by_one(problem, demand)]
    return max(0, demand.survive - min(safe, default=0))
