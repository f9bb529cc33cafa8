"""Small fleets: the plan costs what the best of all plans costs, and its bound is never above that."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import combinations, combinations_with_replacement

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.solver.fleet.greedy import plan_cheapest, plan_evenly
from scheduler.solver.fleet.problem import (
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
    weights,
)
from scheduler.solver.fleet.seats import seats
from scheduler.solver.fleet.shelf import left_of, taken_by, takes_piece
from scheduler.solver.fleet.solve import plan_fleet

KINDS = (Kind("big", 80, 100, 4), Kind("small", 24, 100, 3))
Nodes = tuple[tuple[str, NodeSpace], ...]


def pod_ways(kind: Kind, node: NodeSpace, demand: Demand, fit: Fit) -> Iterator[tuple[NodeSpace, int, float]]:
    """Every way to put one pod onto a node: the node afterwards, cards opened, parts of shared cards."""
    if node.cpu_milli < demand.cpu_milli or demand.name in node.apart:
        return
    apart = tuple(sorted({*node.apart, *demand.apart}))
    found = {(tuple(node.cards), 0, 0.0)}
    for piece in fit.pieces:
        found = {
            (tuple(sorted(after)), opened + more, shared + part)
            for cards, opened, shared in found
            for chosen in combinations([i for i, s in enumerate(cards) if takes_piece(kind, s, piece)], piece.cards)
            for after, more, part in [with_piece(kind, cards, chosen, piece)]
        }
    for cards, opened, shared in found:
        yield NodeSpace(node.kind, cards, node.cpu_milli - demand.cpu_milli, node.memory_mib, apart), opened, shared


def with_piece(
    kind: Kind, cards: tuple[Space, ...], chosen: tuple[int, ...], piece: Piece
) -> tuple[list[Space], int, float]:
    after = list(cards)
    held = [cards[i].held for i in chosen]
    for i in chosen:
        after[i] = left_of(cards[i], taken_by(cards[i], piece))
    return after, held.count(Held.EMPTY), held.count(Held.SHARED) * piece.share(kind)


def brute_force(problem: FleetProblem) -> int:  # noqa: C901
    """The least objective of all plans."""
    kinds = {kind.name: kind for kind in problem.kinds}
    weigh = weights(problem)
    units = [demand for demand in problem.demands for _ in range(demand.units)]

    def unit_ways(demand: Demand, fit: Fit, site: str, nodes: Nodes) -> set[tuple[Nodes, int, float]]:
        found = {(nodes, 0, 0.0)}
        for _ in range(demand.pods):
            found = {
                (tuple(sorted((*now[:i], (site, after), *now[i + 1 :]))), opened + more, round(shared + part, 9))
                for now, opened, shared in found
                for i, (where, node) in enumerate(now)
                if where == site and node.kind == fit.kind
                for after, more, part in pod_ways(kinds[fit.kind], node, demand, fit)
            }
        return found

    @cache
    def best(i: int, nodes: Nodes, here: tuple[tuple[str, int], ...]) -> float:
        if i == len(units):
            return 0
        demand = units[i]
        last = i + 1 == len(units) or units[i + 1] is not demand
        options = [weigh.unplaced[demand.name] + after(i, nodes, here, last)]
        for site in problem.sites:
            if not demand.allows(site.name) or dict(here).get(site.name, 0) == demand.most:
                continue
            now = tuple(sorted((Counter(dict(here)) + Counter([site.name])).items()))
            for fit in demand.fits:
                for then, opened, shared in unit_ways(demand, fit, site.name, nodes):
                    spent = site.price_of(fit.kind) * (opened + shared) + dict(demand.extra).get(site.name, 0)
                    options.append(spent + after(i, then, now, last))
        return min(options)

    def after(i: int, nodes: Nodes, here: tuple[tuple[str, int], ...], last: bool) -> float:
        if not last:
            return best(i + 1, nodes, here)
        demand, by_site = units[i], dict(here)
        allowed = [site.name for site in problem.sites if demand.allows(site.name)]
        safe = sum(by_site.values()) - max(by_site.get(site, 0) for site in allowed)
        exposed = max(0, demand.survive - safe)
        return weigh.exposed[demand.name] * exposed + best(i + 1, nodes, ())

    start = tuple(sorted((s.name, node) for s in problem.sites for node, n in s.nodes for _ in range(n)))
    return round(best(0, start, ()))


pieces = st.one_of(
    st.builds(Piece, st.sampled_from((8, 12, 24, 40)), st.sampled_from((1, 20, 50)), st.just(1)),
    st.builds(lambda cards: Piece(20, 100, cards, True), st.sampled_from((1, 2))),
)
spaces = st.sampled_from(
    [
        lambda kind: kind.empty,
        lambda kind: Space(kind.memory_mib // 2, 60, 2, Held.SHARED),
        lambda kind: Space(kind.memory_mib // 4, 30, 1, Held.PAID),
    ]
)


@st.composite
def nodes(draw: st.DrawFn, cpu: tuple[int, ...], names: tuple[str, ...]) -> tuple[NodeSpace, int]:
    kind = draw(st.sampled_from(KINDS))
    cards = tuple(sorted(make(kind) for make in draw(st.lists(spaces, min_size=1, max_size=2))))
    barred = draw(st.sampled_from(((), names[:1], names)))
    return NodeSpace(kind.name, cards, draw(st.sampled_from(cpu)), 100, barred), 1


@st.composite
def problems(draw: st.DrawFn, cpu: tuple[int, ...] = (100,), apart: tuple[bool, ...] = (False,)) -> FleetProblem:
    names = ("load-0", "load-1")[: draw(st.integers(1, 2))]
    pairs = [pair for pair in combinations_with_replacement(names, 2) if draw(st.sampled_from(apart))]
    sites = []
    for name in ("east", "west")[: draw(st.integers(1, 2))]:
        prices = tuple((kind.name, draw(st.integers(1, 9)) * 100_000) for kind in KINDS)
        sites.append(
            Site(
                name,
                tuple(draw(st.lists(nodes(cpu, names if any(apart) else ()), min_size=1, max_size=2))),
                prices,
                prices,
            )
        )
    demands = []
    for name in names:
        piece = draw(pieces)
        accepts = draw(st.sampled_from((("big",), ("small",), ("big", "small"))))
        demands.append(
            Demand(
                name,
                draw(st.integers(1, 2)),
                tuple(Fit(kind, (piece,)) for kind in accepts),
                draw(st.sampled_from((1, 1, 2))),
                cpu_milli=draw(st.sampled_from((0, 1))),
                priority=draw(st.sampled_from((0, 5))),
                extra=draw(st.sampled_from(((), (("east", 150_000),)))),
                most=draw(st.sampled_from((None, 1))),
                survive=draw(st.sampled_from((0, 1))),
                apart=tuple(sorted({b if a == name else a for a, b in pairs if name in (a, b)})),
            )
        )
    return FleetProblem(KINDS, tuple(sites), tuple(demands))


@settings(deadline=None)
@given(problems())
def test_a_plan_costs_what_the_best_of_all_plans_costs(problem: FleetProblem) -> None:
    least = brute_force(problem)
    found = plan_fleet(problem)

    assert found.bound <= least + ROUNDING
    assert least - ROUNDING <= found.objective
    assert found.objective <= least + ROUNDING


@settings(deadline=None)
@given(problems(cpu=(1, 2, 100), apart=(False, True)))
def test_where_nodes_lack_cpu_or_take_one_pod_the_best_plan_lies_between_the_bound_and_the_plan(
    problem: FleetProblem,
) -> None:
    least = brute_force(problem)
    found = plan_fleet(problem)

    assert found.bound - ROUNDING <= least <= found.objective + ROUNDING
    assert whole(problem, found)
    assert seated_whole(problem, found)


@settings(deadline=None)
@given(problems())
def test_greedy_and_an_even_spread_are_plans_that_are_never_cheaper_than_the_best(problem: FleetProblem) -> None:
    least = brute_force(problem)

    for found in (plan_cheapest(problem), plan_evenly(problem)):
        assert found.objective >= least - ROUNDING
        assert whole(problem, found)


def whole(problem: FleetProblem, plan: FleetPlan) -> bool:
    """Every unit is in the plan once, or is named as not placed."""
    short = dict(plan.unplaced)
    return all(plan.units(demand.name) + short.get(demand.name, 0) == demand.units for demand in problem.demands)


def seated_whole(problem: FleetProblem, plan: FleetPlan) -> bool:
    """Each workload has a seat for every pod of its units and for no part of a group, and none beside what it bars."""
    nodes: dict[tuple[str, NodeSpace], list[tuple[str, tuple[str, ...]]]] = {}
    for site in problem.sites:
        for i, (node, count) in enumerate(site.nodes):
            for j in range(count):
                name = f"{site.name}-{i}-{j}"
                ids = tuple(f"{name}-{k}" for k in range(len(node.cards)))
                nodes.setdefault((site.name, node), []).append((name, ids))
    found = list(seats(plan, nodes))
    pods = Counter(workload for workload, *_ in found)
    on_node = Counter((workload, node) for workload, _, node, _ in found)
    return all(
        pods[each.name] == plan.units(each.name) * each.pods
        and all(
            not any(on_node[other, node] - (other == each.name) > 0 for other in each.apart)
            for who, node in list(on_node)
            if who == each.name
        )
        for each in problem.demands
    )


ROUNDING = 20
"""Millionths: parts of a price are rounded where they are summed up."""
