"""The plan over clusters: bound it, count it, put it onto nodes, keep the best."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor

from scheduler.solver.fleet.books import most_moves
from scheduler.solver.fleet.greedy import plan_cheapest
from scheduler.solver.fleet.problem import FleetPlan, FleetProblem, Part
from scheduler.solver.fleet.settle import Fillings, settle
from scheduler.solver.fleet.table import FILLING, UNITS, Fleet, Spot

GOOD_GAP = 0.005
"""A plan this near to its bound is good enough: prices are not known any better."""
FEW_FILLINGS, FEW_UNITS = 1_500, 500
"""Up to here a plan may fill cards in every way there is, and CP-SAT proves the best."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long CP-SAT may work: in its own deterministic units, and in seconds at most."""

    limit: float = 1.0
    seconds: float = 5.0


def plan_fleet(problem: FleetProblem, effort: Effort | None = None) -> FleetPlan:
    """The cheapest plan that is found, with a bound that none undercuts."""
    effort = effort or Effort()
    if not problem.demands:
        return FleetPlan((), status="optimal")
    from scheduler.solver.fleet.relax import relax  # OR-tools, 54 MB: only a cluster that plans a fleet loads it
    from scheduler.solver.fleet.whole import count

    fleet = Fleet(problem)
    relaxed = relax(fleet)
    bound = relaxed.bound + most_moves(problem)
    best = _rounded(fleet, relaxed.values, bound)
    ways = sum(len(fleet.fillings[spot[1], spot[2]].rows) for spot in fleet.spots())
    small = ways <= FEW_FILLINGS and sum(demand.units for demand in problem.demands) <= FEW_UNITS
    if small:
        for spot in fleet.spots():
            for row in range(len(fleet.fillings[spot[1], spot[2]].rows)):
                fleet.add_filling(spot, row)
    if best.gap > (0.0 if small else GOOD_GAP):
        counted = count(fleet.table, None if small else relaxed.values, effort.limit, effort.seconds)
        if counted is not None:
            if small and counted.bound is not None and all(each.exact for each in fleet.fillings.values()):
                bound = max(bound, counted.bound + most_moves(problem))
            whole = settle(fleet, fleet.parts(counted.values), _fillings(fleet, counted.values))
            best = min(replace(best, bound=bound), whole.plan("feasible", bound), key=lambda plan: plan.objective)
    if best.gap > GOOD_GAP:
        best = min(best, replace(plan_cheapest(problem), bound=bound), key=lambda plan: plan.objective)
    return replace(best, status="optimal") if best.objective <= best.bound else replace(best, status="feasible")


def _rounded(fleet: Fleet, values: Sequence[float], bound: int) -> FleetPlan:
    """The relaxation in whole numbers: of each workload as many units as before, the largest parts rounded up."""
    parts: list[Part] = []
    by_demand: dict[str, list[tuple[float, tuple[str, str, str]]]] = {}
    fillings: Counter[tuple[Spot, int]] = Counter()
    for column, value in zip(fleet.table.columns, values, strict=True):
        if column.what == UNITS and value > 1e-6:
            name, site, kind = (str(word) for word in column.key)
            by_demand.setdefault(name, []).append((value, (name, site, kind)))
        elif column.what == FILLING and value > 1e-6:
            fillings[column.key] += floor(value + 1e-6)
    for found in by_demand.values():
        whole = {key: floor(value + 1e-6) for value, key in found}
        spare = round(sum(value for value, _ in found)) - sum(whole.values())
        for _, key in sorted(found, key=lambda each: floor(each[0] + 1e-6) - each[0])[:spare]:
            whole[key] += 1
        parts += [Part(*key, n) for key, n in whole.items() if n]
    return settle(fleet, parts, fillings).plan("rounded", bound)


def _fillings(fleet: Fleet, values: Sequence[int]) -> Fillings:
    found: Counter[tuple[Spot, int]] = Counter()
    for column, value in zip(fleet.table.columns, values, strict=True):
        if column.what == FILLING and value:
            found[column.key] += value
    return found
