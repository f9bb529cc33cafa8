"""How much a class of pods counts because it cannot go elsewhere: the fewer cards it may take, the more."""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.columns import Bools, Ints

Reals = NDArray[np.float64]


def rarity(takes: Bools, supply: Ints) -> Reals:
    """Per class a factor of its weight: the fleet over the cards it may take, to the power of three quarters.

    `takes` (kinds by classes) says which class takes which kind, `supply` counts cards. A class that takes any card
    counts once. One bound to a tenth of the cards counts 5.6 times: a card of these that others fill is lost to it,
    while the others have nine in ten left. The full ratio keeps such cards even more, and leaves more of them empty
    where the pods bound to them are few; measured on openb with a fifth and a third of the pods bound to models.
    """
    mine = takes.T.astype(np.int64) @ supply
    fleet = max(int(supply.sum()), 1)
    ratio = fleet / np.where(mine > 0, mine, fleet)
    found: Reals = np.sqrt(ratio * np.sqrt(ratio))
    return found
