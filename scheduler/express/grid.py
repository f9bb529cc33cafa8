"""What every node has for pods and what they use of it, by resource, as arrays. The caller holds the terrain's lock.

Rows are nodes, columns the resources that some node has: others limit no pod on its node, and users may invent any
number of them.
"""

from collections.abc import Iterable

import numpy as np

from scheduler.core.columns import Bools, Ints
from scheduler.core.node_list import Roster

_FIRST_ROWS, _FIRST_COLUMNS = 64, 8
SPARE_ROWS = 1000
Amounts = tuple[tuple[str, int], ...]


class Grid:
    """Nodes and their resources get a row and a column when they are first named, for good."""

    def __init__(self) -> None:
        self.roster = Roster()
        """The nodes' names by row."""
        self.rows: dict[str, int] = {}
        self.present: Bools = np.zeros(_FIRST_ROWS, bool)
        self.version = 0
        self.changed_at: Ints = np.zeros(_FIRST_ROWS, np.int64)
        """By row, the version with which the node came to be as it is."""
        self._columns: dict[str, int] = {}
        self._have: Ints = np.zeros((_FIRST_ROWS, _FIRST_COLUMNS), np.int64)
        self._used: Ints = np.zeros((_FIRST_ROWS, _FIRST_COLUMNS), np.int64)

    # ---- changes
    def put(self, node: str, allocatable: Amounts) -> frozenset[str]:
        """A node has this. The resources that no node had before: nobody has counted what is used of them."""
        row = self._row(node)
        fresh = frozenset(name for name, _ in allocatable if name not in self._columns)
        columns = [(self._column(name), amount) for name, amount in allocatable]
        self.present[row] = True
        self._have[row] = 0
        for column, amount in columns:
            self._have[row, column] = amount
        self.version += 1
        self.changed_at[row] = self.version
        return fresh

    def remove(self, node: str) -> None:
        """The node is gone; what its pods use is still counted, for it may come back."""
        self.present[self.rows[node]] = False

    def add(self, node: str, amounts: Iterable[tuple[str, int]], sign: int) -> None:
        """So much more, or less, of a node is used. It need not be known yet."""
        row = self._row(node)
        for name, amount in amounts:
            if (column := self._columns.get(name)) is not None:
                self._used[row, column] += sign * amount

    # ---- questions
    def room(self, amounts: Amounts) -> Bools:
        """By row, whether the node has so much left."""
        fits = self.present.copy()
        for name, amount in amounts:
            column = self._columns.get(name)
            if column is None:
                return np.zeros(len(fits), bool)
            fits &= self._have[:, column] - self._used[:, column] >= amount
        return fits

    def has_room(self, node: str, amounts: Amounts) -> bool:
        """Whether one node has so much left."""
        row = self._row(node)
        columns = [(self._columns.get(name), amount) for name, amount in amounts]
        free = self._have[row] - self._used[row]
        return bool(self.present[row]) and all(at is not None and free[at] >= amount for at, amount in columns)

    def is_sparse(self) -> bool:
        """Whether most rows are of nodes that have gone."""
        return len(self.rows) > 2 * int(self.present.sum()) + SPARE_ROWS

    # ---- inside
    def _row(self, name: str) -> int:
        row = self.rows.get(name)
        if row is None:
            row = self.rows[name] = self.roster.add(name)
            if row >= len(self.present):
                self._grow(2 * row, self._have.shape[1])
        return row

    def _column(self, name: str) -> int:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = len(self._columns)
            if column >= self._have.shape[1]:
                self._grow(len(self.present), 2 * column)
        return column

    def _grow(self, rows: int, columns: int) -> None:
        old_rows, old_columns = self._have.shape
        more = ((0, rows - old_rows), (0, columns - old_columns))
        self._have, self._used = np.pad(self._have, more), np.pad(self._used, more)
        self.present, self.changed_at = np.pad(self.present, more[0]), np.pad(self.changed_at, more[0])
