"""Which kinds of cards the workload over-demands, and what they should cost the pods that could go elsewhere."""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.columns import Bools, Ints

Reals = NDArray[np.float64]

PRICE = 2000
"""Thousandths of a card that a card costs per unit of over-demand. Measured on openb with a third of the pods bound to
a model: 1,000 gains two points of allocated GPUs at full load, 3,000 three but loses some beyond it."""
_TOLERANCE = 0.03  # differences of utilisation that cost nothing
_ROUNDS = 400
_STEPS = 100  # utilisation is rounded to 1 %, so that the last bits of exp() decide nothing


def scarcity(load: Reals, supply: Reals) -> Ints:
    """Price of a whole card of each kind, 0 for the least demanded.

    `load` (kinds by classes) is what a class would bring to a kind, 0 where it cannot go; `supply` counts cards. Every
    class is spread over the kinds that it accepts so that all are used as evenly as its choices allow, with as much
    demand in total as there are cards; what is then used more than the rest is over-demanded.
    """
    asked = load.max(0, initial=0.0)
    accepted: Bools = (load > 0) & (supply > 0)[:, None]
    reachable = accepted.any(0)
    if not reachable.any():
        return np.zeros(len(supply), np.int64)
    asked, accepted = asked[reachable], accepted[:, reachable]
    asked = asked * (supply.sum() / asked.sum())
    spread = accepted * supply[:, None]
    used = np.ones(len(supply))
    for _ in range(_ROUNDS):
        spread = spread / spread.sum(0) * asked
        used = spread.sum(1) / np.maximum(supply, 1)
        spread = spread * np.exp(np.maximum(0.5 - used / 2, -1.0))[:, None]
    over = np.rint((used - used[supply > 0].min()) * _STEPS) / _STEPS
    return np.where((supply > 0) & (over > _TOLERANCE), np.rint(over * PRICE), 0).astype(np.int64)
