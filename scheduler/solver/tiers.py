"""Goals in order: each tier outweighs everything below it."""

from dataclasses import dataclass

from scheduler.solver.model import Expr, Model, total
from scheduler.solver.problem import weights_of

MOST_WEIGHT = 1 << 45
"""Above this CP-SAT's arithmetic gets slow and near its limits: the tiers are then solved one block after another."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Something to maximise, its largest magnitude, and the most it can be worth (0 for a cost)."""

    worth: Expr
    size: int
    top: int


def maximise(model: Model, tiers: list[Tier], limit: float) -> tuple[str, int]:
    """Maximise the tiers, first one first, within `limit` deterministic time units; the solution stays in the model.

    Returns the solver's word and the folded bound. Any word but `optimal` and `feasible` means there is no solution.
    """
    weights = weights_of(tuple(tier.size for tier in tiers))
    most = sum(tier.top * weight for tier, weight in zip(tiers, weights, strict=True))
    runs = blocks_of(tuple(tier.size for tier in tiers))
    word, value, bound = "optimal", 0, most
    for first, last in runs:
        base = weights[last - 1]
        pairs = zip(tiers[first:last], weights[first:last], strict=True)
        goal = total([tier.worth * (weight // base) for tier, weight in pairs])
        now = model.solve(goal, limit / len(runs))
        if now not in {"optimal", "feasible"}:
            return (now if first == 0 else "feasible"), bound
        if word == "optimal":  # what lies below a block that is not proven cannot lower the bound
            below = sum(tier.top * weight for tier, weight in zip(tiers[last:], weights[last:], strict=True))
            bound = value + model.bound * base + below
        word = now if word == "optimal" else word
        value += model.value * base
        model.settle(goal)
    return word, bound


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
