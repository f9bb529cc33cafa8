"""Plans in which several workloads have to be in one cluster: the roles of a job, each one unit. Pure.

The solver knows workloads of equal pods alone. So the plan without this rule comes first; roles that it has in several
clusters are tried in each, and stay where the whole plan is best. The bound is that of the plan without the rule, which
no plan with it undercuts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scheduler.solver.fleet.greedy import plan_cheapest
from scheduler.solver.fleet.problem import FleetPlan, FleetProblem

Group = tuple[str, ...]
"""Names of demands of one unit each."""
MOST_TRIALS = 60
"""Whole plans that are made to choose clusters; beyond, roles are tried in plans of the cheapest first."""
Make = Callable[[FleetProblem], FleetPlan]


@dataclass(frozen=True, slots=True)
class Together:
    """The plan, and the problem with each group that has a place held to its cluster. `without` are the others."""

    plan: FleetPlan
    problem: FleetProblem
    without: tuple[Group, ...] = ()

    @property
    def closed(self) -> FleetProblem:
        """The problem of the plan: what has no place as a whole takes none."""
        return _without(self.problem, self.without)


def plan_together(problem: FleetProblem, groups: Sequence[Group], make: Make) -> Together:
    """The best plan that is found in which each group is in one cluster, or has no place at all."""
    free = plan = make(problem)
    trial = make if len(groups) * len(problem.sites) <= MOST_TRIALS else plan_cheapest
    open_, left, without = problem, list(groups), list[Group]()
    while split := [group for group in left if len(_where(plan, group)) != 1 or not _placed(plan, group)]:
        group = split[0]
        left.remove(group)
        found = _settled(open_, group, trial)
        if found is None:
            without.append(group)
        else:
            open_ = found
        plan = make(_without(open_, without))
    for group in left:
        open_ = held(open_, group, _where(plan, group))
    lost = [group for group in groups if group not in without and not _placed(plan, group)]
    if lost:
        without += lost
        plan = make(_without(open_, without))
    bound = min(free.bound, plan.objective)
    status = "optimal" if plan.objective <= bound else "feasible"
    return Together(replace(plan, bound=bound, status=status), open_, tuple(without))


def _without(problem: FleetProblem, groups: Sequence[Group]) -> FleetProblem:
    for group in groups:
        problem = held(problem, group, frozenset())
    return problem


def held(problem: FleetProblem, group: Group, sites: frozenset[str]) -> FleetProblem:
    """The problem in which a group may be in these clusters alone."""
    demands = tuple(
        replace(each, sites=sites if each.sites is None else each.sites & sites) if each.name in group else each
        for each in problem.demands
    )
    return replace(problem, demands=demands)


def _settled(problem: FleetProblem, group: Group, make: Make) -> FleetProblem | None:
    """The problem with the group held to the cluster in which the whole plan is best; None where it fits in none."""
    best: tuple[int, int, FleetProblem] | None = None
    for i, site in enumerate(problem.sites):
        there = held(problem, group, frozenset((site.name,)))
        plan = make(there)
        if _placed(plan, group) and (best is None or (plan.objective, i) < best[:2]):
            best = plan.objective, i, there
    return None if best is None else best[2]


def _where(plan: FleetPlan, group: Group) -> frozenset[str]:
    return frozenset(part.site for part in plan.parts if part.demand in group)


def _placed(plan: FleetPlan, group: Group) -> bool:
    return all(plan.units(name) for name in group)
