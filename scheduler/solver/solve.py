"""Plan the pending set with CP-SAT: greedy is the hint and the fallback, the checker has the last word."""

from dataclasses import replace

from scheduler.solver.check import broken_rules
from scheduler.solver.greedy import plan_greedy
from scheduler.solver.problem import Plan, Problem, Score, gang_needs


def plan(problem: Problem) -> Plan:
    """The best plan found within the policy's deterministic limit, never worse than greedy's."""
    greedy = plan_greedy(problem)
    if greedy.score == _best_thinkable(problem):
        return replace(greedy, status="optimal")
    from scheduler.solver.joint import solved  # OR-tools, 54 MB: only a cluster that needs it loads it

    found = solved(problem, greedy)
    rules = broken_rules(problem, found.assignments)
    if rules:
        return replace(greedy, status=found.status, rejected=rules[0])
    winner = found if found.score > greedy.score else greedy
    bound = max(found.bound, winner.objective)
    gap = (bound - winner.objective) / max(1, abs(winner.objective))
    return replace(winner, bound=bound, gap=gap, status=found.status)


def _best_thinkable(problem: Problem) -> Score:
    gangs = gang_needs(problem)
    lost = {ask.uid for gang in gangs if gang.hopeless for ask in gang.members}
    levels = sorted({ask.priority for ask in problem.asks}, reverse=True)
    per_level = (sum(ask.priority == level and ask.uid not in lost for ask in problem.asks) for level in levels)
    return (*per_level, sum(bool(gang.least) and not gang.hopeless for gang in gangs), 0)
