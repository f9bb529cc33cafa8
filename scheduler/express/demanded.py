"""What a pod's demand says of each node, by the node's row."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from scheduler.core.columns import Bools, Ints


@dataclass(slots=True)
class Demanded:
    """Which rows it allows and what it wishes of each, up to a version of the nodes."""

    version: int
    allowed: Bools
    weights: Ints
    taints: Ints

    @classmethod
    def nothing(cls, rows: int) -> Self:
        """Before any node was looked at."""
        return cls(0, np.zeros(rows, bool), np.zeros(rows, np.int64), np.zeros(rows, np.int64))

    def grow(self, rows: int) -> None:
        """Make room for more rows."""
        more = (0, rows - len(self.allowed))
        self.allowed = np.pad(self.allowed, more)
        self.weights, self.taints = np.pad(self.weights, more), np.pad(self.taints, more)

    def put(self, row: int, allowed: bool, wish: tuple[int, int]) -> None:
        """What it says of a node."""
        self.allowed[row] = allowed
        self.weights[row], self.taints[row] = wish
