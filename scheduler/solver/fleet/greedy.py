"""What a plan is measured against: each workload to its cheapest clusters in turn, or evenly to all of them."""

from scheduler.solver.fleet.books import Books
from scheduler.solver.fleet.problem import Demand, FleetPlan, FleetProblem
from scheduler.solver.fleet.settle import cheapest_first, spill


def plan_cheapest(problem: FleetProblem) -> FleetPlan:
    """Workloads in order of priority and size, each to the cheapest clusters that still hold it."""
    books = Books(problem)
    spill(books)
    return books.plan("greedy")


def plan_evenly(problem: FleetProblem) -> FleetPlan:
    """The same number of units of each workload to every cluster that may have it; what is left over as above."""
    books = Books(problem)
    for demand in problem.demands:
        _spread(books, demand)
    spill(books)
    return books.plan("spread")


def _spread(books: Books, demand: Demand) -> None:
    places = cheapest_first(books, demand)
    sites = sorted({site.name for site, _ in places})
    for i, name in enumerate(sites):
        left = demand.units // len(sites) + (i < demand.units % len(sites))
        for site, fit in places:
            if site.name == name and left:
                left -= books.add(demand, name, fit, left)
