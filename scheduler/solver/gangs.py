"""Which cluster each gang runs in, all or nothing: exact for gangs of whole cards, however many nodes there are.

Nodes that offer the same are counted, not named: a kind of node has patterns (how many pods of each class it can hold
at once), the solver counts patterns, and names are filled in afterwards. Gangs that share cards, or whose classes
accept different cards of one node, are counted card by card as in `scheduler.solver.solve`.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations

from kerf.model.ask import PodAsk
from kerf.model.grant import Grant
from kerf.model.policy import SchedulingPolicy
from scheduler.core.state import NodeState
from scheduler.solver.check import broken_rules
from scheduler.solver.fleet import Fleet
from scheduler.solver.greedy import place_group, place_on
from scheduler.solver.model import Expr, Model, Spots, Var, grants_of, total
from scheduler.solver.narrow import candidates
from scheduler.solver.patterns import Kind, kinds_of
from scheduler.solver.problem import (
    Assignment,
    GangNeed,
    PodClass,
    Problem,
    fold,
    gang_needs,
    in_order,
    pod_classes,
    weights_of,
)
from scheduler.solver.tiers import Tier, maximise


@dataclass(frozen=True, slots=True)
class GangPlan:
    """The cluster (by position) of each gang that runs, the places of its pods there, and the gangs that wait.

    A pod without a gang is a gang of one, named by its key. `score` counts the cards that pods get, per priority,
    highest first; the rest is as in `Plan`.
    """

    chosen: tuple[tuple[str, int], ...]
    assignments: tuple[tuple[Assignment, ...], ...]
    waiting: tuple[str, ...]
    score: tuple[int, ...]
    objective: int
    bound: int
    gap: float
    status: str
    adopted: str
    rejected: str = ""


Part = tuple[int, int]
"""A class by position and a priority."""
Running = dict[str, tuple[int, tuple[Assignment, ...]]]
"""Gangs that run: cluster and places."""


@dataclass(slots=True)
class _Dispatch:
    """The clusters as one fleet, whose nodes are named `cluster/node`, and what is to be dispatched."""

    problem: Problem
    fleet: Fleet
    classes: tuple[PodClass, ...]
    gangs: tuple[GangNeed, ...]
    clusters: tuple[frozenset[int], ...]
    class_of: dict[str, int] = field(default_factory=dict)

    def cluster_of(self, n: int) -> int:
        return int(self.fleet.states[n].name.split("/", 1)[0])

    def parts(self, gang: GangNeed) -> dict[Part, list[PodAsk]]:
        parts: dict[Part, list[PodAsk]] = defaultdict(list)
        for ask in gang.members:
            parts[self.class_of[ask.uid], ask.priority].append(ask)
        return parts


def plan_gangs(
    clusters: tuple[tuple[NodeState, ...], ...], asks: tuple[PodAsk, ...], policy: SchedulingPolicy
) -> GangPlan:
    """Fill the clusters with as many cards' worth of gangs as fit, higher priorities first. Never worse than greedy."""
    work = _dispatch(clusters, asks, policy)
    greedy = _serve(replace(work, fleet=Fleet(work.problem.nodes)), {})
    score = _score(work, greedy)
    found, word, bound = _solved(work, greedy)
    rejected = next(iter(_broken(work, found)), "")
    adopted = "solver" if not rejected and _score(work, found) > score else "greedy"
    chosen = found if adopted == "solver" else greedy
    objective = fold(_score(work, chosen), weights_of(_sizes(work)))
    bound = max(bound, objective)
    return GangPlan(
        chosen=tuple((gang.name, chosen[gang.name][0]) for gang in work.gangs if gang.name in chosen),
        assignments=tuple(_in_cluster(chosen, q) for q in range(len(clusters))),
        waiting=tuple(gang.name for gang in work.gangs if gang.name not in chosen),
        score=_score(work, chosen),
        objective=objective,
        bound=bound,
        gap=(bound - objective) / max(1, objective),
        status=word,
        adopted=adopted,
        rejected=rejected,
    )


def _dispatch(
    clusters: tuple[tuple[NodeState, ...], ...], asks: tuple[PodAsk, ...], policy: SchedulingPolicy
) -> _Dispatch:
    width = len(str(len(clusters)))
    nodes = tuple(replace(node, name=f"{q:0{width}}/{node.name}") for q, held in enumerate(clusters) for node in held)
    problem = Problem(nodes, asks, policy)
    fleet = Fleet(nodes)
    gangs = {ask.uid: gang for gang in gang_needs(problem) for ask in gang.members}
    units = {ask.gang or ask.key: gangs.get(ask.uid, GangNeed(ask.key, (ask,), 1)) for ask in in_order(problem)}
    classes = pod_classes(problem)
    work = _Dispatch(problem, fleet, classes, tuple(units.values()), ())
    work.class_of = {ask.uid: c for c, klass in enumerate(classes) for ask in klass.members}
    everywhere = range(len(fleet.states))
    work.clusters = tuple(frozenset(n for n in everywhere if work.cluster_of(n) == q) for q in range(len(clusters)))
    return work


def _serve(work: _Dispatch, running: Running) -> Running:
    """Every gang in turn to the fullest cluster that takes it whole, beside those that run."""
    done = dict(running)
    rows = [sorted(nodes) for nodes in work.clusters]
    names = [frozenset(work.fleet.states[n].name for n in nodes) for nodes in work.clusters]
    for gang in work.gangs:
        if gang.name in done:
            continue
        free = [int(work.fleet.empty[nodes].sum()) for nodes in rows]
        for q in sorted(range(len(names)), key=lambda q: (free[q], q)):
            group = [(replace(work.classes[work.class_of[ask.uid]], nodes=names[q]), ask) for ask in gang.members]
            placed = place_group(work.fleet, group, max(1, gang.least), work.problem.policy)
            if placed:
                done[gang.name] = (q, tuple(placed.values()))
                break
    return done


class _Supply:
    """Where pods of each class could go in each cluster: counts in the model, and places once it is solved."""

    def __init__(self, model: Model, work: _Dispatch, greedy: Running) -> None:
        self.model, self.work = model, work
        groups = tuple(work.cluster_of(n) for n in range(len(work.fleet.states)))
        kinds = kinds_of(work.fleet, work.classes, groups)
        seeds = _seeds(work, greedy)
        self.exact = True
        self.counts: list[tuple[Kind, list[Var]]] = []
        self.spots: list[Spots] = []
        if kinds is not None:
            self.counts = [(kind, self._count(kind, seeds)) for kind in kinds]
        else:
            offers, self.exact = candidates(work.fleet, work.classes, seeds)
            self.spots = [model.add_spots(*each) for each in zip(work.classes, offers, seeds, strict=True)]
            self.exact = self.exact and all(klass.exact for klass in work.classes)
            model.seal(opening=False)

    def _count(self, kind: Kind, seeds: list[dict[int, list[Grant]]]) -> list[Var]:
        """Nodes of the kind that follow each pattern; greedy's nodes are hinted to follow one that covers them."""
        counts = [self.model.integer(len(kind.nodes), f"pattern {pattern}") for pattern in kind.patterns]
        for n in kind.nodes:
            held = tuple(len(seed.get(n, [])) for seed in seeds)
            covers = (all(h <= p for h, p in zip(held, pattern, strict=True)) for pattern in kind.patterns)
            self.model.hint(next(count for count, covered in zip(counts, covers, strict=True) if covered))
        self.model.cp.add(total(counts) == len(kind.nodes))
        return counts

    def at(self, c: int, q: int) -> Expr:
        """Pods of class `c` that fit in cluster `q`."""
        if self.spots:
            return self.spots[c].on(self.work.clusters[q])
        return total(
            [
                count * pattern[c]
                for kind, counts in self.counts
                if kind.nodes[0] in self.work.clusters[q]
                for pattern, count in zip(kind.patterns, counts, strict=True)
                if pattern[c]
            ]
        )

    def places(self) -> dict[tuple[int, int], list[tuple[int, Grant | None]]]:
        """By class and cluster, nodes with the grant there, None where placement shall choose among free cards."""
        places: dict[tuple[int, int], list[tuple[int, Grant | None]]] = defaultdict(list)
        for c, spots in enumerate(self.spots):
            for n, grant in grants_of(spots, self.model):
                places[c, self.work.cluster_of(n)].append((n, grant))
        for kind, counts in self.counts:
            nodes = iter(kind.nodes)
            for pattern, count in zip(kind.patterns, counts, strict=True):
                for n in (next(nodes) for _ in range(self.model.of(count))):
                    for c, pods in enumerate(pattern):
                        places[c, self.work.cluster_of(n)] += [(n, None)] * pods
        return places


def _seeds(work: _Dispatch, running: Running) -> list[dict[int, list[Grant]]]:
    seeds: list[dict[int, list[Grant]]] = [defaultdict(list) for _ in work.classes]
    for _, assignments in running.values():
        for a in assignments:
            seeds[work.class_of[a.pod_uid]][work.fleet.index[a.node]].append(a.grant)
    return seeds


@dataclass(frozen=True, slots=True)
class _Cohort:
    """Gangs that are alike: how many run in each cluster, and how many pods of each part."""

    gangs: tuple[GangNeed, ...]
    runs: tuple[Var, ...]
    pods: tuple[dict[Part, Expr], ...]


def _cohorts(model: Model, work: _Dispatch, greedy: Running) -> list[_Cohort]:
    alike: dict[object, list[GangNeed]] = defaultdict(list)
    for gang in work.gangs:
        parts = tuple(sorted((part, len(asks)) for part, asks in work.parts(gang).items()))
        elastic = 0 < gang.least < len(gang.members)
        alike[parts, gang.least, gang.name if elastic else ""].append(gang)
    return [_cohort(model, work, tuple(gangs), greedy) for gangs in alike.values()]


def _cohort(model: Model, work: _Dispatch, gangs: tuple[GangNeed, ...], greedy: Running) -> _Cohort:
    most = 0 if gangs[0].hopeless else len(gangs)
    runs = [model.integer(most, f"{gangs[0].name} in {q}") for q in range(len(work.clusters))]
    sizes = {part: len(asks) for part, asks in work.parts(gangs[0]).items()}
    model.cp.add(total(runs) <= most)
    pods: list[dict[Part, Expr]] = []
    for q, here in enumerate(runs):
        served = [greedy[gang.name][1] for gang in gangs if gang.name in greedy and greedy[gang.name][0] == q]
        model.hint(here, len(served))
        if 0 < gangs[0].least < len(gangs[0].members):
            pods.append(_elastic(model, work, gangs[0], here, {a.pod_uid for held in served for a in held}))
        else:
            pods.append({part: here * size for part, size in sizes.items()})
    return _Cohort(gangs, tuple(runs), tuple(pods))


def _elastic(model: Model, work: _Dispatch, gang: GangNeed, here: Var, served: set[str]) -> dict[Part, Expr]:
    """A gang that may run with fewer than all of its waiting members."""
    pods: dict[Part, Expr] = {}
    for part, asks in work.parts(gang).items():
        count = model.integer(len(asks), f"{gang.name} {part}")
        model.hint(count, sum(ask.uid in served for ask in asks))
        model.cp.add(count <= len(asks) * here)
        pods[part] = count
    model.cp.add(total(list(pods.values())) >= gang.least * here)
    return pods


def _solved(work: _Dispatch, greedy: Running) -> tuple[Running, str, int]:
    model = Model(work.fleet, work.problem.policy)
    supply = _Supply(model, work, greedy)
    cohorts = _cohorts(model, work, greedy)
    for q in range(len(work.clusters)):
        for c in range(len(work.classes)):
            wanted = [count for co in cohorts for (of, _), count in co.pods[q].items() if of == c]
            model.cp.add(total(wanted) <= supply.at(c, q))
    tiers = [
        Tier(total(_worths(work, cohorts, level)), size, size)
        for level, size in zip(_levels(work), _sizes(work), strict=True)
    ]
    corners = _corners(cohorts, len(work.clusters))
    word, bound = maximise(model, tiers, work.problem.policy.planner.deterministic_limit, corners)
    if word not in {"optimal", "feasible"}:
        return {}, word, bound
    found = _serve(work, _places(model, work, cohorts, supply))
    return found, word if supply.exact or word == "feasible" else "narrowed", bound


def _corners(cohorts: list[_Cohort], clusters: int) -> tuple[tuple[Var, ...], ...]:
    """What runs elsewhere, for every two clusters."""
    pairs = combinations(range(clusters), 2)
    return tuple(
        tuple(runs for cohort in cohorts for q, runs in enumerate(cohort.runs) if q not in pair) for pair in pairs
    )


def _worths(work: _Dispatch, cohorts: list[_Cohort], level: int) -> list[Expr]:
    return [
        count * _cards(work.classes[c].ask)
        for cohort in cohorts
        for here in cohort.pods
        for (c, priority), count in here.items()
        if priority == level
    ]


def _places(model: Model, work: _Dispatch, cohorts: list[_Cohort], supply: _Supply) -> Running:
    """Give the counted places to gangs, first served first."""
    places = {key: iter(spots) for key, spots in supply.places().items()}
    done: Running = {}
    for cohort in cohorts:
        waiting = iter(cohort.gangs)
        for q, runs in enumerate(cohort.runs):
            for gang in (next(waiting) for _ in range(model.of(runs))):
                going: list[Assignment] = []
                for part, asks in work.parts(gang).items():
                    count = cohort.pods[q][part]
                    some = asks[: model.of(count)] if isinstance(count, Var) else asks
                    going += [_settle(work, ask, *next(places[part[0], q])) for ask in some]
                done[gang.name] = (q, tuple(going))
    return done


def _settle(work: _Dispatch, ask: PodAsk, n: int, grant: Grant | None) -> Assignment:
    chosen = grant if grant is not None else place_on(work.fleet, n, ask, work.problem.policy)
    assert chosen is not None, "a pattern holds its pods"
    work.fleet.take(n, ask, chosen)
    return Assignment(ask.uid, ask.key, work.fleet.states[n].name, chosen)


def _cards(ask: PodAsk) -> int:
    return sum(container.cards for container in ask.containers)


def _levels(work: _Dispatch) -> list[int]:
    return sorted({ask.priority for ask in work.problem.asks}, reverse=True)


def _sizes(work: _Dispatch) -> tuple[int, ...]:
    asks = work.problem.asks
    return tuple(sum(_cards(ask) for ask in asks if ask.priority == level) for level in _levels(work))


def _score(work: _Dispatch, running: Running) -> tuple[int, ...]:
    placed = {a.pod_uid for _, assignments in running.values() for a in assignments}
    asks = [ask for ask in work.problem.asks if ask.uid in placed]
    return tuple(sum(_cards(ask) for ask in asks if ask.priority == level) for level in _levels(work))


def _in_cluster(running: Running, q: int) -> tuple[Assignment, ...]:
    """The places in one cluster, under the nodes' own names."""
    held = [a for where, assignments in running.values() if where == q for a in assignments]
    return tuple(replace(a, node=a.node.split("/", 1)[1]) for a in sorted(held, key=lambda a: (a.pod_key, a.pod_uid)))


def _broken(work: _Dispatch, running: Running) -> Iterator[str]:
    """Broken rules; a gang must also be in one cluster alone."""
    everything = tuple(a for _, assignments in running.values() for a in assignments)
    yield from broken_rules(work.problem, everything)
    yield from (
        f"gang {name}: outside its cluster"
        for name, (q, assignments) in running.items()
        if any(work.cluster_of(work.fleet.index[a.node]) != q for a in assignments)
    )
