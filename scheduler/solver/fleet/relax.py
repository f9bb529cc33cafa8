"""The linear relaxation of a plan over clusters, by column generation: a bound that no plan undercuts."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ortools.linear_solver import pywraplp

from scheduler.solver.fleet.patterns import Reals
from scheduler.solver.fleet.problem import MICRO, FleetProblem, Site, Space
from scheduler.solver.fleet.table import FILLING, Column, Fleet, Spot

ROUNDS = 60
_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Relaxed:
    """The value of every column, and the bound in millionths."""

    values: tuple[float, ...]
    bound: int


class _Linear:
    """The table in a linear solver; further columns keep its basis."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.solver = pywraplp.Solver.CreateSolver("GLOP")
        self.rows: list[pywraplp.Constraint] = []
        self.variables: list[pywraplp.Variable] = []
        self.duals: Reals = np.zeros(0)
        self.value = 0.0

    def solve(self) -> None:
        table, solver = self.fleet.table, self.solver
        endless = solver.infinity()
        for low, high in table.bounds[len(self.rows) :]:
            self.rows.append(solver.Constraint(-endless if low is None else low, endless if high is None else high))
        for column in table.columns[len(self.variables) :]:
            self._add(column)
        if solver.Solve() != pywraplp.Solver.OPTIMAL:
            raise ArithmeticError("the linear relaxation of a plan always has a solution, and none was found")
        self.duals = np.array([row.dual_value() for row in self.rows])
        self.value = solver.Objective().Value()

    def _add(self, column: Column) -> None:
        # A filling is bounded by its row alone: a bound of its own would have a dual that `_price` does not see.
        most = self.solver.infinity() if column.what == FILLING else column.most
        variable = self.solver.NumVar(0.0, most, "")
        self.solver.Objective().SetCoefficient(variable, column.cost / MICRO)
        for row, amount in column.entries:
            self.rows[row].SetCoefficient(variable, amount)
        self.variables.append(variable)


def relax(fleet: Fleet) -> Relaxed:
    """Solve, adding fillings until none is worth more than it costs."""
    _first_fillings(fleet)
    if len(fleet.problem.sites) > 1:
        _fillings_of_the_whole(fleet)
    spots: dict[tuple[str, Space], list[str]] = defaultdict(list)
    for site, kind, space in fleet.spots():
        spots[kind, space].append(site)
        fleet.table.row(("space", site, kind, space), None, fleet.spaces[site, kind][space])
    linear = _Linear(fleet)
    bound = -float("inf")
    for _ in range(ROUNDS):
        linear.solve()
        missing = sum(_price(linear, key, sites) for key, sites in spots.items())
        bound = max(bound, linear.value - missing)
        if missing <= 1e-4 * abs(linear.value) + _EPS:
            break
    values = [variable.solution_value() for variable in linear.variables]
    values += [0.0] * (len(fleet.table.columns) - len(values))
    return Relaxed(tuple(values), round(bound * MICRO))


def _price(linear: _Linear, key: tuple[str, Space], sites: Sequence[str]) -> float:
    """Add the fillings that pay at the present duals; how much the bound is below the present value for them."""
    fleet, (kind, space) = linear.fleet, key
    found = fleet.fillings[key]
    worth = np.array(
        [[linear_dual(linear, ("item", site, kind, i)) for site in sites] for i in range(len(fleet.items[kind]))]
    )
    prices = np.array([fleet.problem.site(site).price_of(kind) / MICRO for site in sites])
    spent = np.array([-linear_dual(linear, ("space", site, kind, space)) for site in sites])
    gains = found.rows @ worth - found.price[:, None] * prices - spent
    best = gains.argmax(0)
    missing = 0.0
    for j, site in enumerate(sites):
        spot: Spot = (site, kind, space)
        most = float(gains[best[j], j])
        for row in {int(row) for row in best}:
            if gains[row, j] > _EPS:
                fleet.add_filling(spot, row)
        if not found.exact:
            most = found.most(worth[:, j], prices[j]) - spent[j]
        missing += max(0.0, most) * fleet.spaces[site, kind][space]
    return missing


def linear_dual(linear: _Linear, key: Hashable) -> float:
    """The dual of a row; 0 where there is none yet."""
    row = linear.fleet.table.rows.get(key)
    return float(linear.duals[row]) if row is not None and row < len(linear.duals) else 0.0


def _fillings_of_the_whole(fleet: Fleet) -> None:
    """Fillings that pay where all clusters are one: most of those that pay in each, for a fraction of the work."""
    problem = fleet.problem
    kinds = [kind.name for kind in problem.kinds]
    prices = tuple(
        (kind, round(sum(site.price_of(kind) for site in problem.sites) / len(problem.sites))) for kind in kinds
    )
    nodes = tuple(each for site in problem.sites for each in site.nodes)
    demands = tuple(replace(each, sites=None, extra=(), most=None, survive=0, running=()) for each in problem.demands)
    whole = Fleet(FleetProblem(problem.kinds, (Site("", nodes, prices, prices),), demands), fleet.fillings)
    found = relax(whole)
    used = {
        (spot[1], spot[2], row)
        for column, value in zip(whole.table.columns, found.values, strict=True)
        if column.what == FILLING and value > _EPS
        for spot, row in (column.key,)
    }
    for site in problem.sites:
        for kind, space, row in used:
            if fleet.spaces[site.name, kind].get(space):
                fleet.add_filling((site.name, kind, space), row)


def _first_fillings(fleet: Fleet) -> None:
    """For each item, the filling that holds most of it: whatever has to be placed can be."""
    for site, kind, space in fleet.spots():
        rows = fleet.fillings[kind, space].rows
        for row in {int(row) for row in rows.argmax(0)}:
            fleet.add_filling((site, kind, space), row)
