"""What a plan has put where: the shelves of a fleet, the units that are on them, and what that costs."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from scheduler.solver.fleet.problem import (
    Demand,
    Fit,
    FleetPlan,
    FleetProblem,
    NodeSpace,
    Part,
    Piece,
    Use,
    exposed,
    weights,
)
from scheduler.solver.fleet.shelf import Shelf

Place = tuple[str, str]
"""A cluster and a kind of card."""


class Books:
    """Starts with empty hands: nothing of the problem's demands has a place."""

    def __init__(self, problem: FleetProblem) -> None:
        self.problem = problem
        self.kinds = {kind.name: kind for kind in problem.kinds}
        self.shelves: dict[Place, Shelf] = {}
        self.units: Counter[tuple[str, str, str]] = Counter()
        """Units by workload, cluster and kind."""
        self._placed: Counter[str] = Counter()
        self._in_site: Counter[tuple[str, str]] = Counter()
        self._limited: Counter[int] = Counter()
        self._limits: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for i, limit in enumerate(problem.limits):
            for name, takes in limit.takes:
                if takes:
                    self._limits[name, limit.kind].append((i, takes))
        for site in problem.sites:
            nodes: dict[str, dict[NodeSpace, int]] = defaultdict(dict)
            for node, count in site.nodes:
                nodes[node.kind][node] = nodes[node.kind].get(node, 0) + count
            for kind, found in nodes.items():
                self.shelves[site.name, kind] = Shelf(self.kinds[kind], found)

    def missing(self, demand: Demand) -> int:
        """Units that have no place yet."""
        return demand.units - self._placed[demand.name]

    def room(self, demand: Demand, site: str, fit: Fit) -> int:
        """Units more that the workload's rules and its owner's limits let go to a cluster."""
        if not demand.allows(site):
            return 0
        left = self.missing(demand)
        if demand.most is not None:
            left = min(left, demand.most - demand.fixed_in(site) - self._in_site[demand.name, site])
        for i, takes in self._limits[demand.name, fit.kind]:
            left = min(left, (self.problem.limits[i].most - self._limited[i]) // takes)
        return max(left, 0)

    def count(self, demand: Demand, site: str, kind: str, units: int) -> None:
        """Units that were put onto the cluster's shelf."""
        self.units[demand.name, site, kind] += units
        self._placed[demand.name] += units
        self._in_site[demand.name, site] += units
        for i, takes in self._limits[demand.name, kind]:
            self._limited[i] += takes * units

    def add(self, demand: Demand, site: str, fit: Fit, want: int) -> int:
        """Put whole units of a workload into a cluster; how many found a place."""
        shelf = self.shelves.get((site, fit.kind))
        want = min(want, self.room(demand, site, fit))
        if shelf is None or want <= 0:
            return 0
        done = shelf.add_pods(demand, fit, want) if demand.pods == 1 else self._add_groups(shelf, demand, fit, want)
        self.count(demand, site, fit.kind, done)
        return done

    def _add_groups(self, shelf: Shelf, demand: Demand, fit: Fit, want: int) -> int:
        for done in range(want):
            saved = shelf.saved()
            if shelf.add_pods(demand, fit, demand.pods) < demand.pods:
                shelf.restore(saved)
                return done
        return want

    def plan(self, status: str, bound: int = 0) -> FleetPlan:
        """The plan of what was placed, with its cost."""
        parts = tuple(sorted(Part(*key, n) for key, n in self.units.items() if n))
        short = tuple((demand.name, n) for demand in self.problem.demands if (n := self.missing(demand)))
        cost = sum(
            round(self.problem.site(site).money_of(kind) * (shelf.bill.opened + shelf.bill.shared))
            for (site, kind), shelf in self.shelves.items()
        )
        steps = tuple((site, shelf.kind, tuple(shelf.steps)) for (site, _), shelf in sorted(self.shelves.items()))
        return FleetPlan(parts, short, cost, self._objective(), bound, self._uses(), status, steps)

    def _objective(self) -> int:
        weigh = weights(self.problem)
        by_site: dict[str, Counter[str]] = defaultdict(Counter)
        for (name, site, _), n in self.units.items():
            by_site[name][site] += n
        total = sum(
            round(self.problem.site(site).price_of(kind) * (shelf.bill.opened + shelf.bill.shared))
            for (site, kind), shelf in self.shelves.items()
        )
        for demand in self.problem.demands:
            here = by_site[demand.name]
            total += sum(dict(demand.extra).get(site, 0) * n for site, n in here.items())
            total += weigh.unplaced[demand.name] * self.missing(demand)
            total += weigh.exposed[demand.name] * exposed(self.problem, demand, here)
            total += demand.move_cost * moved(demand, self.units)
        return total

    def _uses(self) -> tuple[Use, ...]:
        pieces: dict[str, list[Piece]] = defaultdict(list)
        used: dict[Place, float] = defaultdict(float)
        for demand in self.problem.demands:
            for fit in demand.fits:
                if fit.kind in self.kinds:
                    pieces[fit.kind] += fit.pieces
                    for site in self.problem.sites:
                        units = self.units[demand.name, site.name, fit.kind]
                        used[site.name, fit.kind] += units * demand.pods * fit.cards(self.kinds[fit.kind])
        return tuple(
            Use(site, kind, self._cards(site, kind), shelf.bill.opened, used[site, kind], shelf.stranded(pieces[kind]))
            for (site, kind), shelf in sorted(self.shelves.items())
        )

    def _cards(self, site: str, kind: str) -> int:
        return sum(len(node.cards) * n for node, n in self.problem.site(site).nodes if node.kind == kind)


def moved(demand: Demand, units: Mapping[tuple[str, str, str], int]) -> int:
    """Running units that do not stay where they are."""
    ran: Counter[Place] = Counter()
    for site, kind, n in demand.running:
        ran[site, kind] += n
    kept = sum(min(n, units.get((demand.name, *place), 0)) for place, n in ran.items())
    return min(sum(ran.values()), demand.units) - min(kept, demand.units)


def most_moves(problem: FleetProblem) -> int:
    """What it weighs to move every unit that runs."""
    return sum(demand.move_cost * min(sum(n for _, _, n in demand.running), demand.units) for demand in problem.demands)
