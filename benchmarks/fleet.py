"""`make bench-fleet`: plans over 4 and 20 clusters of 1,000 nodes with 8 cards each, beside greedy and an even spread.

The fleets are synthetic: six kinds of cards, owned and rented clusters in several regions, one node in five with cards
on which something else runs already. The 40 workloads (gangs, several cards of one node, slices) together ask for at
least 90 % of the three scarce kinds. Times are wall time of one process and include building the tables.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from kerf.config.prices import read_prices
from scheduler.solver.fleet.books import moved
from scheduler.solver.fleet.greedy import plan_cheapest, plan_evenly
from scheduler.solver.fleet.problem import (
    MICRO,
    Demand,
    Fit,
    FleetPlan,
    FleetProblem,
    Held,
    Kind,
    NodeSpace,
    Piece,
    Site,
    Space,
)
from scheduler.solver.fleet.solve import plan_fleet

NODES, CARDS = 1_000, 8
KINDS = (
    Kind("NVIDIA B200", 183_359),
    Kind("NVIDIA H200", 143_771),
    Kind("NVIDIA H100 80GB HBM3", 81_559),
    Kind("NVIDIA A100-SXM4-80GB", 81_251),
    Kind("NVIDIA L40S", 46_068),
    Kind("NVIDIA A10", 22_731),
)
SCARCE = KINDS[:3]
PRICES = {
    kind.name: float(price.per_hour)
    for kind in KINDS
    if (price := read_prices(None).of(kind.name, "rented")) is not None
}
"""Of the shipped price list; every cluster has its own factor."""
SHARES = (0.06, 0.10, 0.20, 0.24, 0.22, 0.18)
"""Part of a cluster's nodes with each kind, before each cluster's own preference."""
REGIONS = (
    ("eu-north", "owned", 0.7),
    ("eu-west", "owned", 0.85),
    ("us-east", "rented", 1.0),
    ("ap-south", "rented", 1.15),
)
ASKED = 0.92
"""Part of the scarce kinds' free cards that the workloads ask for."""


def a_site(i: int, rng: random.Random) -> Site:
    """A cluster: its nodes, and its prices."""
    region, supply, factor = REGIONS[i % len(REGIONS)]
    weights = [share * rng.uniform(0.6, 1.4) for share in SHARES]
    nodes: dict[NodeSpace, int] = {}
    for kind in rng.choices(KINDS, weights=weights, k=NODES):
        node = a_node(kind, rng)
        nodes[node] = nodes.get(node, 0) + 1
    factor *= rng.uniform(0.9, 1.1)
    money = tuple((kind.name, round(PRICES[kind.name] * factor * MICRO)) for kind in KINDS)
    trust = 1.0 if supply == "owned" else rng.choice((1.0, 0.9, 0.8))
    price = tuple((name, round(each / trust)) for name, each in money)
    return Site(f"{region}-{i}", tuple(nodes.items()), money, price, region)


def a_node(kind: Kind, rng: random.Random) -> NodeSpace:
    """A node that is empty, or on some of whose cards other pods run."""
    cards = [kind.empty] * CARDS
    cpu = 192_000
    if rng.random() < 0.2:
        for j in range(rng.choice((1, 2, 4))):
            part = rng.choice((0.25, 0.5, 0.75))
            cards[j] = Space(int(kind.memory_mib * part), int(100 * part), 6, Held.SHARED)
            cpu -= 8_000
    return NodeSpace(kind.name, tuple(sorted(cards)), cpu, 1_500_000)


@dataclass(frozen=True)
class Recipe:
    """A sort of workload: parts of a card of each kind that it accepts, cards of one node, pods of a unit."""

    kinds: tuple[int, ...]
    part: tuple[float, float]
    cards: tuple[int, ...] = (1,)
    pods: tuple[int, ...] = (1,)


RECIPES = (
    Recipe((0, 1), (1.0, 1.0), (8, 4)),
    Recipe((1, 0), (1.0, 1.0), (4, 2)),
    Recipe((2, 1), (1.0, 1.0), (8, 4, 2), (1, 2)),
    Recipe((2, 3), (1.0, 1.0), (2, 1)),
    Recipe((2, 3), (0.3, 0.8)),
    Recipe((3, 2), (0.2, 0.6)),
    Recipe((3, 4), (0.2, 0.5)),
    Recipe((4, 3), (0.3, 0.9)),
    Recipe((4, 5), (0.1, 0.4)),
    Recipe((5, 4), (0.2, 0.8)),
)


def a_demand(i: int, rng: random.Random, share: float, free: dict[str, float]) -> Demand:
    """A workload whose units together take `share` of the free cards of the kind that it likes best."""
    recipe = RECIPES[i % len(RECIPES)]
    part, cards, pods = rng.uniform(*recipe.part), rng.choice(recipe.cards), rng.choice(recipe.pods)
    first = KINDS[recipe.kinds[0]]
    mib, cores = int(first.memory_mib * part), 100 if part == 1.0 else max(5, round(part * rng.uniform(60, 110)))
    fits = []
    for k in recipe.kinds:
        kind = KINDS[k]
        piece = Piece(kind.memory_mib if part == 1.0 else mib, min(cores, 100), cards, part == 1.0)
        if piece.memory_mib <= kind.memory_mib:
            fits.append(Fit(kind.name, (piece,)))
    size = fits[0].cards(first) * pods
    units = max(2, int(free[first.name] * share / size))
    wide = rng.random() < 0.3
    return Demand(
        f"load-{i:02}", units, tuple(fits), pods, 2_000 * cards, 8_000 * cards, survive=units // 2 if wide else 0
    )


def a_problem(clusters: int, seed: int, loads: int = 40) -> FleetProblem:
    """A fleet and workloads that ask for most of its scarce cards."""
    rng = random.Random(f"{clusters} {seed}")
    sites = tuple(a_site(i, rng) for i in range(clusters))
    free = {
        kind.name: sum(
            n * space.memory_mib / kind.memory_mib for site in sites for space, n in site.spaces(kind.name).items()
        )
        for kind in KINDS
    }
    firsts = [KINDS[RECIPES[i % len(RECIPES)].kinds[0]].name for i in range(loads)]
    asked = {kind.name: ASKED if kind in SCARCE else 0.7 for kind in KINDS}
    demands = tuple(a_demand(i, rng, asked[firsts[i]] / firsts.count(firsts[i]), free) for i in range(loads))
    return FleetProblem(KINDS, sites, demands)


def without(problem: FleetProblem, plan: FleetPlan, lost: str) -> FleetProblem:
    """What there is to do once a cluster is lost: what runs elsewhere would rather stay there."""
    sites = tuple(site for site in problem.sites if site.name != lost)
    demands = []
    for demand in problem.demands:
        running = tuple((p.site, p.kind, p.units) for p in plan.parts if p.demand == demand.name and p.site != lost)
        dearest = max(fit.cards(problem.kind(fit.kind)) * demand.pods for fit in demand.fits)
        demands.append(replace(demand, running=running, move_cost=round(dearest * MICRO)))
    return replace(problem, sites=sites, demands=tuple(demands))


def moves(problem: FleetProblem, plan: FleetPlan) -> int:
    """Units that ran and leave their cluster or kind."""
    units = {(part.demand, part.site, part.kind): part.units for part in plan.parts}
    return sum(moved(demand, units) for demand in problem.demands)


def asked_of_scarce(problem: FleetProblem) -> float:
    """Part of the free scarce cards that the workloads which like them best ask for."""
    kinds = {kind.name: kind for kind in problem.kinds}
    scarce = {kind.name for kind in SCARCE}
    free = sum(
        n * space.memory_mib / kinds[name].memory_mib
        for site in problem.sites
        for name in scarce
        for space, n in site.spaces(name).items()
    )
    asked = sum(
        d.units * d.pods * d.fits[0].cards(kinds[d.fits[0].kind]) for d in problem.demands if d.fits[0].kind in scarce
    )
    return asked / free


def timed(make: Callable[[], FleetPlan]) -> tuple[float, FleetPlan]:
    """Seconds and result. On a busy machine the processor's seconds say more; the table has both."""
    started, used = time.perf_counter(), time.process_time()
    plan = make()
    print(f"{time.process_time() - used:10.2f} s of a core", end=" ")
    return time.perf_counter() - started, plan


def show(name: str, seconds: float, plan: FleetPlan) -> None:
    """One line for people."""
    short = sum(n for _, n in plan.unplaced)
    gap = f"{100 * plan.gap:.3f} %" if plan.bound else "-"
    print(
        f"{name:>22} {seconds:6.2f} s  {plan.cost / MICRO:12,.2f} an hour  gap {gap:>7}"
        f"  {plan.stranded:8.1f} cards stranded  {short:5} units without a place  {plan.status}"
    )


def main() -> None:
    """Run, print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    plan_fleet(a_problem(1, seed, 4))  # the libraries are loaded now
    problem = a_problem(4, seed)
    print(f"4 clusters, 40 workloads: {100 * asked_of_scarce(problem):.0f} % of the scarce kinds are asked for")
    plan_s, plan = timed(lambda: plan_fleet(problem))
    show("plan", plan_s, plan)
    greedy_s, greedy = timed(lambda: plan_cheapest(problem))
    show("greedy", greedy_s, greedy)
    spread_s, spread = timed(lambda: plan_evenly(problem))
    show("even spread", spread_s, spread)
    lost = problem.sites[2].name
    rest = without(problem, plan, lost)
    replan_s, again = timed(lambda: plan_fleet(rest))
    show(f"without {lost}", replan_s, again)
    print(
        f"{'':>22} {moves(rest, again)} of {sum(n for d in rest.demands for _, _, n in d.running)} running units move"
    )
    large = a_problem(20, seed)
    large_s, wide = timed(lambda: plan_fleet(large))
    show("20 clusters", large_s, wide)
    print(
        json.dumps(
            {
                "plan_s": round(plan_s, 3),
                "gap": round(plan.gap, 5),
                "cost": round(plan.cost / MICRO, 2),
                "greedy_cost": round(greedy.cost / MICRO, 2),
                "spread_cost": round(spread.cost / MICRO, 2),
                "stranded": round(plan.stranded, 1),
                "greedy_stranded": round(greedy.stranded, 1),
                "replan_s": round(replan_s, 3),
                "clusters_20_plan_s": round(large_s, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
