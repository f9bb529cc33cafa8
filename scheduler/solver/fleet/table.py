"""A plan over clusters as rows and columns: the same table is solved as a linear relaxation and in whole numbers."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scheduler.solver.fleet.patterns import Patterns, patterns
from scheduler.solver.fleet.problem import (
    Demand,
    Fit,
    FleetProblem,
    Part,
    Piece,
    Site,
    Space,
    Weights,
    lost_one_by_one,
    weights,
)

Place = tuple[str, str]
"""A cluster and a kind of card."""
Spot = tuple[str, str, Space]
"""A cluster, a kind of card, and what is free on such a card."""
UNPLACED, EXPOSED, UNITS, KEPT, FILLING = range(5)
"""What a column counts."""


@dataclass(frozen=True, slots=True)
class Column:
    """Something to decide: a count from 0 to `most` that costs `cost` each."""

    what: int
    key: tuple[Any, ...]
    cost: int
    most: int
    entries: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Table:
    """Rows with their bounds, and columns."""

    rows: dict[Hashable, int] = field(default_factory=dict)
    bounds: list[tuple[int | None, int | None]] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)

    def row(self, key: Hashable, low: int | None, high: int | None) -> int:
        """The row of a key; made when it is new."""
        if key not in self.rows:
            self.rows[key] = len(self.bounds)
            self.bounds.append((low, high))
        return self.rows[key]

    def add(
        self, what: int, key: tuple[Hashable, ...], cost: int, most: int, entries: Iterable[tuple[int, int]]
    ) -> int:
        """A column; its position."""
        self.columns.append(Column(what, key, cost, most, tuple(entries)))
        return len(self.columns) - 1


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of a workload's pod, as cards of a kind see it."""

    demand: str
    piece: Piece


class Fleet:
    """The table of a problem without its fillings, and the fillings that every card could have."""

    def __init__(self, problem: FleetProblem, fillings: Mapping[tuple[str, Space], Patterns] | None = None) -> None:
        self.problem = problem
        self.weights: Weights = weights(problem)
        self._apart = {demand.name: demand.apart for demand in problem.demands}
        self.table = Table()
        self.items = {kind.name: _items(problem.demands, kind.name) for kind in problem.kinds}
        self.spaces = {
            (site.name, kind.name): site.spaces(kind.name) for site in problem.sites for kind in problem.kinds
        }
        self.fillings = fillings if fillings is not None else self._fillings()
        self._known: set[tuple[Spot, int]] = set()
        for demand in problem.demands:
            self._add_demand(demand)

    def _fillings(self) -> dict[tuple[str, Space], Patterns]:
        found: dict[tuple[str, Space], Patterns] = {}
        for (_, kind), spaces in self.spaces.items():
            for space in spaces:
                if (kind, space) not in found and self.items[kind]:
                    pieces = [item.piece for item in self.items[kind]]
                    found[kind, space] = patterns(self.problem.kind(kind), space, pieces)
        return {key: each for key, each in found.items() if len(each.rows)}

    def spots(self) -> list[Spot]:
        """Every kind of free card that takes something."""
        return [(*place, s) for place, spaces in self.spaces.items() for s in spaces if (place[1], s) in self.fillings]

    def add_filling(self, spot: Spot, row: int) -> Column | None:
        """Let a plan fill cards of a spot in this way; None if it may already."""
        if (spot, row) in self._known:
            return None
        self._known.add((spot, row))
        site, kind, space = spot
        found, count = self.fillings[kind, space], self.spaces[site, kind][space]
        cost = round(self.problem.site(site).price_of(kind) * float(found.price[row]))
        entries = [(self.table.row(("space", *spot), None, count), 1)]
        for i, many in enumerate(found.rows[row]):
            if many and ("item", site, kind, i) in self.table.rows:
                entries.append((self.table.rows["item", site, kind, i], int(many)))
        return self.table.columns[self.table.add(FILLING, (spot, row), cost, count, entries)]

    def _add_demand(self, demand: Demand) -> None:
        table, name = self.table, demand.name
        all_units = table.row(("units", name), demand.units, demand.units)
        table.add(UNPLACED, (name,), self.weights.unplaced[name], demand.units, [(all_units, 1)])
        sites = [site for site in self.problem.sites if demand.allows(site.name)]
        if demand.survive:
            rows = [
                table.row(("survive", name, each), demand.survive - demand.safe_without(each), None)
                for each in lost_one_by_one(self.problem, demand)
            ]
            table.add(EXPOSED, (name,), self.weights.exposed[name], demand.survive, [(row, 1) for row in rows])
        for site in sites:
            for fit in demand.fits:
                if self.spaces.get((site.name, fit.kind)):
                    self._add_units(demand, site, fit)

    def _add_units(self, demand: Demand, site: Site, fit: Fit) -> None:
        table, place = self.table, (site.name, fit.kind)
        entries = [(table.rows["units", demand.name], 1)]
        for i, item in enumerate(self.items[fit.kind]):
            if item.demand == demand.name:
                row = table.row(("item", *place, i), 0, None)
                entries.append((row, -demand.pods * item.piece.cards))
        entries += self._node_rows(demand, site, fit)
        if demand.most is not None:
            left = max(0, demand.most - demand.fixed_in(site.name))
            entries.append((table.row(("most", demand.name, site.name), None, left), 1))
        for other in lost_one_by_one(self.problem, demand):
            if other != site.name and ("survive", demand.name, other) in table.rows:
                entries.append((table.rows["survive", demand.name, other], 1))
        for i, limit in enumerate(self.problem.limits):
            takes = dict(limit.takes).get(demand.name, 0) if limit.kind == fit.kind else 0
            if takes:
                entries.append((table.row(("limit", i), None, limit.most), takes))
        ran = sum(n for s, k, n in demand.running if (s, k) == place)
        if ran and demand.move_cost:
            kept = table.row(("kept", demand.name, *place), 0, None)
            entries.append((kept, 1))
            table.add(KEPT, (demand.name, *place), -demand.move_cost, min(ran, demand.units), [(kept, -1)])
        extra = dict(demand.extra).get(site.name, 0)
        table.add(UNITS, (demand.name, *place), extra, demand.units, entries)

    def _node_rows(self, demand: Demand, site: Site, fit: Fit) -> list[tuple[int, int]]:
        """What only nodes as a whole can say: CPU, memory, and several empty cards of one node.

        A pod of k whole cards takes k // t blocks of t empty cards of one node, and a node with f has f // t. With
        sizes that divide each other these rows are all there is to know; otherwise they only bound the plan.
        """
        table, kind = self.table, fit.kind
        nodes = [(node, count) for node, count in site.nodes if node.kind == kind]
        found = []
        for name, amount in (("cpu", demand.cpu_milli), ("memory", demand.memory_mib)):
            if amount:
                free = sum(count * (node.cpu_milli if name == "cpu" else node.memory_mib) for node, count in nodes)
                found.append((table.row((name, site.name, kind), None, free), amount * demand.pods))
        for names in {(demand.name,), demand.apart} if demand.name in demand.apart else ():
            if all(self._apart[name] == demand.apart for name in names):  # a node takes one pod of all of them
                free = sum(count for node, count in nodes if not set(names) <= set(node.apart))
                found.append((table.row(("apart", site.name, kind, names), None, free), demand.pods))
        empty = self.problem.kind(kind).empty
        whole = sum(piece.cards for piece in fit.pieces if piece.alone)
        for size in range(2, whole + 1):
            blocks = sum(count * (node.cards.count(empty) // size) for node, count in nodes)
            found.append((table.row(("block", site.name, kind, size), None, blocks), whole // size * demand.pods))
        return found

    def parts(self, values: Iterable[int]) -> tuple[Part, ...]:
        """The units of a solution."""
        found: dict[tuple[Hashable, ...], int] = defaultdict(int)
        for column, value in zip(self.table.columns, values, strict=True):
            if column.what == UNITS and value:
                found[column.key] += value
        return tuple(sorted(Part(str(k[0]), str(k[1]), str(k[2]), n) for k, n in found.items()))


def _items(demands: Iterable[Demand], kind: str) -> tuple[Item, ...]:
    return tuple(
        Item(demand.name, piece) for demand in demands if (fit := demand.fit(kind)) is not None for piece in fit.pieces
    )
