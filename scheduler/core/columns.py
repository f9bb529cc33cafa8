"""What is free on many nodes at once, as arrays: the same facts as `NodeState`, one row a node, one column a card."""

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """Arrays over nodes by cards and over nodes. Columns without a card have `present` False and zeros elsewhere.

    `kind` and `hardware` are the fleet's numbers for (vendor, model, mode) of a card and for all fixed facts of a node.
    """

    present: Bools
    usable: Bools
    kind: Ints
    numa: Ints
    model: Ints  # the fleet's number of (vendor, model)
    factory: Ints  # MiB of the hardware
    memory: Ints  # MiB that may be granted
    cores: Ints  # percent of SMs that may be granted
    slots: Ints
    used_memory: Ints
    used_cores: Ints
    used_slots: Ints
    used_places: Ints  # `kerf.values.places`: counters as the digits of one number
    cpu: Ints  # per node: unrequested thousandths of a core
    node_memory: Ints  # per node: unrequested MiB
    schedulable: Bools  # per node
    linked: Bools  # per node: every card is joined to every other
    hardware: Ints  # per node

    @classmethod
    def empty(cls, rows: int, width: int) -> Self:
        """Rows without a card."""
        kinds = {field.name: bool if field.type is Bools else np.int64 for field in fields(cls)}
        return cls(**{name: np.zeros(rows if name in NODE_WISE else (rows, width), kinds[name]) for name in kinds})

    def take(self, rows: Ints) -> "Columns":
        """The given rows, copied."""
        return Columns(*[array.take(rows, 0) for array in _ARRAYS(self)])

    def clear(self, row: int) -> None:
        """No node is in the row."""
        for array in _ARRAYS(self):
            array[row] = 0

    def grown(self, rows: int, width: int) -> "Columns":
        """The same content in larger arrays."""
        larger = Columns.empty(rows, width)
        for field in fields(self):
            old, new = getattr(self, field.name), getattr(larger, field.name)
            new[tuple(slice(0, size) for size in old.shape)] = old
        return larger

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.cpu.shape[0])


NODE_WISE = frozenset({"cpu", "node_memory", "schedulable", "linked", "hardware"})
_ARRAYS = attrgetter(*(field.name for field in fields(Columns)))
