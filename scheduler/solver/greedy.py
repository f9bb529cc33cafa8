"""One pod after the other, each on its best fit: the planner's hint, its fallback and its yardstick."""

from dataclasses import replace

from kerf.values.ask import PodAsk
from kerf.values.grant import Grant
from kerf.values.policy import SchedulingPolicy
from kerf.values.verdict import Misfit
from scheduler.core.place import place
from scheduler.core.preference import wished
from scheduler.solver.draft import Draft
from scheduler.solver.problem import (
    Assignment,
    GangNeed,
    Plan,
    PodClass,
    Problem,
    gang_needs,
    in_order,
    pod_classes,
    rank_plan,
)


def plan_greedy(problem: Problem) -> Plan:
    """Serve the asks in order of priority, then as given; a gang is served as a whole at its first member's turn."""
    draft = Draft(problem.nodes, problem.quotas)
    return rank_plan(problem, fill(problem, draft, ()), "greedy")


def fill(problem: Problem, draft: Draft, placed: tuple[Assignment, ...]) -> tuple[Assignment, ...]:
    """`placed`, which the draft's books already count, and every further ask that still fits."""
    classes = {ask.uid: klass for klass in pod_classes(problem) for ask in klass.members}
    gangs = {ask.uid: gang for gang in gang_needs(problem) for ask in gang.members}
    done = {assignment.pod_uid: assignment for assignment in placed}
    tried: set[str] = set()
    for ask in in_order(problem):
        gang = gangs.get(ask.uid)
        if ask.uid in done or ask.uid in tried:
            continue
        group = gang.members if gang else (ask,)
        tried.update(member.uid for member in group)
        waiting = [member for member in group if member.uid not in done]
        least = _still_needed(gang, len(group) - len(waiting))
        done.update(place_group(draft, [(classes[member.uid], member) for member in waiting], least, problem.policy))
    return tuple(done.values())


def _still_needed(gang: GangNeed | None, placed: int) -> int:
    return max(0, gang.least - placed) if gang else 0


def place_group(
    draft: Draft, group: list[tuple[PodClass, PodAsk]], least: int, policy: SchedulingPolicy
) -> dict[str, Assignment]:
    """As many of the group's pods as fit, or none where fewer than `least` do. By uid; the draft's books count them."""
    if len(group) < least:
        return {}
    done: list[tuple[int, PodAsk, Grant]] = []
    for i, (klass, ask) in enumerate(group):
        spot = best_spot(draft, klass, policy)
        if spot is not None:
            draft.take(spot[0], ask, spot[1])
            done.append((spot[0], ask, spot[1]))
        elif len(done) + len(group) - i - 1 < least:
            break
    if len(done) < least:
        for n, ask, grant in done:
            draft.give(n, ask, grant)
        return {}
    return {ask.uid: Assignment(ask.uid, ask.key, draft.states[n].name, grant) for n, ask, grant in done}


def best_spot(draft: Draft, klass: PodClass, policy: SchedulingPolicy) -> tuple[int, Grant] | None:
    """The best node for a pod of the class and its grant there, None where nothing fits."""
    for n in draft.best_first(klass):
        found = place_on(draft, int(n), klass.ask, policy)
        if found is not None:
            return int(n), found
    return None


def place_on(draft: Draft, n: int, ask: PodAsk, policy: SchedulingPolicy) -> Grant | None:
    """The grant that placement gives the pod on node `n` as it is now, within the pod's quotas."""
    selection = draft.rooms.confined(ask)
    if selection is None:
        return None
    chain, weights = wished(ask, policy)
    found = place(replace(ask, selection=selection), draft.states[n], chain, weights)
    if isinstance(found, Misfit) or not draft.rooms.allow(draft.drawn(ask, found)):
        return None
    return found
