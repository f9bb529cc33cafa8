"""The joint plan of the pending set: the model, its tiers, and the places that it counts given to pods."""

from collections import defaultdict
from dataclasses import dataclass, replace

from kerf.values.ask import PodAsk
from kerf.values.grant import Grant
from scheduler.solver.draft import Draft
from scheduler.solver.grants import grants_of
from scheduler.solver.greedy import fill
from scheduler.solver.model import Expr, Model, Spots, Var, total
from scheduler.solver.narrow import candidates
from scheduler.solver.problem import (
    Assignment,
    Plan,
    PodClass,
    Problem,
    gang_needs,
    pod_classes,
    rank_plan,
    tier_sizes,
)
from scheduler.solver.tiers import Tier, maximise


@dataclass(frozen=True, slots=True)
class Group:
    """Interchangeable pods of a class, gang and priority, in the order in which they are served, and how many go."""

    pods: tuple[PodAsk, ...]
    placed: Var


def solved(problem: Problem, greedy: Plan) -> Plan:
    """CP-SAT's plan, with greedy's as its hint."""
    draft = Draft(problem.nodes, problem.quotas)
    classes = pod_classes(problem)
    seeds = _seeds(draft, classes, greedy)
    offers, exact = candidates(draft, classes, seeds)
    model = Model(draft, problem.policy)
    spots = [model.add_spots(*each) for each in zip(classes, offers, seeds, strict=True)]
    model.seal(problem.quotas)
    groups, gangs = _add_groups(model, problem, spots, greedy)
    exact = exact and all(klass.exact for klass in classes)
    *sizes, cards = tier_sizes(problem)
    worths = [*_per_level(problem, groups), total(gangs)]
    tiers = [Tier(worth, size, size) for worth, size in zip(worths, sizes, strict=True)]
    tiers.append(Tier(-1 * total(model.opened), cards, 0))
    word, bound = maximise(model, tiers, problem.policy.planner.deterministic_limit)
    if word not in {"optimal", "feasible"}:
        return replace(greedy, status=word, bound=bound)
    chosen = _assign(draft, model, spots, groups)
    found = rank_plan(problem, fill(problem, draft, chosen), "solver")
    return replace(found, bound=bound, status=word if exact or word == "feasible" else "narrowed")


def _seeds(draft: Draft, classes: tuple[PodClass, ...], greedy: Plan) -> list[dict[int, list[Grant]]]:
    where = {assignment.pod_uid: assignment for assignment in greedy.assignments}
    seeds: list[dict[int, list[Grant]]] = []
    for klass in classes:
        nodes: dict[int, list[Grant]] = defaultdict(list)
        for ask in klass.members:
            if ask.uid in where:
                nodes[draft.index[where[ask.uid].node]].append(where[ask.uid].grant)
        seeds.append(nodes)
    return seeds


def _add_groups(
    model: Model, problem: Problem, spots: list[Spots], greedy: Plan
) -> tuple[list[list[Group]], list[Var]]:
    """How many pods of each class, gang and priority go, tied to the class's spots; and which gangs start."""
    done = {assignment.pod_uid for assignment in greedy.assignments}
    by_class: list[list[Group]] = []
    for each in spots:
        members: dict[tuple[str, int], list[PodAsk]] = defaultdict(list)
        for ask in each.klass.members:
            members[ask.gang or "", ask.priority].append(ask)
        groups = [Group(tuple(asks), model.integer(len(asks), f"placed {key}")) for key, asks in members.items()]
        for group in groups:
            model.hint(group.placed, sum(ask.uid in done for ask in group.pods))
        model.cp.add(total([group.placed for group in groups]) == each.total)
        by_class.append(groups)
    return by_class, _bind_gangs(model, problem, [group for groups in by_class for group in groups])


def _bind_gangs(model: Model, problem: Problem, groups: list[Group]) -> list[Var]:
    started: list[Var] = []
    for gang in gang_needs(problem):
        if not gang.least:
            continue
        mine = [group for group in groups if group.pods[0].gang == gang.name]
        whole = model.integer(0 if gang.hopeless else 1, f"gang {gang.name}")
        model.hint(whole, int(any(model.hints[group.placed.index][1] for group in mine)))
        model.cp.add(total([group.placed for group in mine]) >= gang.least * whole)
        for group in mine:
            model.cp.add(group.placed <= len(group.pods) * whole)
        started.append(whole)
    return started


def _per_level(problem: Problem, groups: list[list[Group]]) -> list[Expr]:
    levels = sorted({ask.priority for ask in problem.asks}, reverse=True)
    flat = [group for of_class in groups for group in of_class]
    return [total([group.placed for group in flat if group.pods[0].priority == level]) for level in levels]


def _assign(draft: Draft, model: Model, spots: list[Spots], groups: list[list[Group]]) -> tuple[Assignment, ...]:
    """Give the counted places to pods, first served first, and count them in the draft's books."""
    chosen: list[Assignment] = []
    for each, of_class in zip(spots, groups, strict=True):
        going = [ask for group in of_class for ask in group.pods[: model.of(group.placed)]]
        for ask, (n, grant) in zip(going, grants_of(each, model), strict=True):
            draft.take(n, ask, grant)
            chosen.append(Assignment(ask.uid, ask.key, draft.states[n].name, grant))
    return tuple(chosen)
