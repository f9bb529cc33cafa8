"""Node policies `binpack` and `spread`: how full a node's cards are once the pod is on it."""

from collections.abc import Callable

import numpy as np

from scheduler.core.columns import Columns, Ints
from scheduler.core.preference import PERMILLE, Weights

Cost = Callable[[Columns, Weights], Ints]
"""(nodes as they would be with the pod, weights) to a cost per node: the lowest is taken first."""


def fullness(after: Columns, weights: Weights) -> Ints:
    """Weighted sum of the shares of slots, cores and memory held on a node, in permille."""
    pairs = (
        (after.used_slots, after.slots),
        (after.used_cores, after.cores),
        (after.used_memory, after.memory),
    )
    shares = [used.sum(1) * PERMILLE // np.maximum(total.sum(1), 1) for used, total in pairs]
    return sum((weight * share for weight, share in zip(weights, shares, strict=True)), np.zeros(after.rows, np.int64))


def binpack(after: Columns, weights: Weights) -> Ints:
    """The fullest node first."""
    return -fullness(after, weights)


def spread(after: Columns, weights: Weights) -> Ints:
    """The emptiest node first."""
    return fullness(after, weights)


POLICIES: dict[str, Cost] = {"binpack": binpack, "spread": spread}
