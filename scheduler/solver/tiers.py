"""Goals in order: each tier outweighs everything below it."""

from dataclasses import dataclass

from scheduler.solver.model import Expr, Model, Var, total
from scheduler.solver.problem import weights_of

MOST_WEIGHT = 1 << 45
"""Above this CP-SAT's arithmetic gets slow and near its limits: the tiers are then solved one block after another."""
FIRST_TRY = 0.3
"""Share of the time for the whole problem before it is worked on corner by corner."""
TURNS = 10
"""How often each corner is worked on at most, each time along another path; one corner gets this part of the time."""

Corners = tuple[tuple[Var, ...], ...]


@dataclass(frozen=True, slots=True)
class Tier:
    """Something to maximise, its largest magnitude, and the most it can be worth (0 for a cost)."""

    worth: Expr
    size: int
    top: int


def maximise(model: Model, tiers: list[Tier], limit: float, corners: Corners = ()) -> tuple[str, int]:
    """Maximise the tiers, first one first, within `limit` deterministic time units; the solution stays in the model.

    `corners` are variables that, held fixed, leave an easy problem: where the whole is not solved at once, one corner
    after the other is. Returns the solver's status and the folded bound; any status but `optimal` and `feasible`
    means that there is no solution.
    """
    weights = weights_of(tuple(tier.size for tier in tiers))
    most = sum(tier.top * weight for tier, weight in zip(tiers, weights, strict=True))
    runs = blocks_of(tuple(tier.size for tier in tiers))
    word, value, bound = "optimal", 0, most
    for first, last in runs:
        base = weights[last - 1]
        pairs = zip(tiers[first:last], weights[first:last], strict=True)
        goal = total([tier.worth * (weight // base) for tier, weight in pairs])
        now = _solve(model, goal, limit / len(runs), corners)
        if now not in {"optimal", "feasible"}:
            return (now if first == 0 else "feasible"), bound
        if word == "optimal":  # what lies below a block that is not proven cannot lower the bound
            below = sum(tier.top * weight for tier, weight in zip(tiers[last:], weights[last:], strict=True))
            bound = value + model.bound * base + below
        word = now if word == "optimal" else word
        value += model.value * base
        model.cp.add(goal >= model.value)
    return word, bound


def _solve(model: Model, goal: Expr, limit: float, corners: Corners) -> str:
    if not corners:
        return model.solve(goal, limit)
    word = model.solve(goal, limit * FIRST_TRY, downward=True)
    if word != "feasible":
        return word
    left = limit * (1 - FIRST_TRY)
    for turn in range(TURNS):
        for fixed in corners:
            left -= model.improve(min(left, limit / TURNS), fixed, turn)
            if model.value == model.bound:
                return "optimal"
            if left <= 0:
                return "feasible"
    return "feasible"


def blocks_of(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Runs of tiers, [first, last), whose weights stay below the limit."""
    blocks: list[tuple[int, int]] = []
    first, weight = 0, 1
    for i, size in enumerate(sizes):
        if i > first and weight * (size + 1) > MOST_WEIGHT:
            blocks.append((first, i))
            first, weight = i, 1
        weight *= size + 1
    return [*blocks, (first, len(sizes))]
