"""The sight of every card of the fleet, kept up to date where nodes change or the workload does."""

from dataclasses import dataclass

import numpy as np

from scheduler.core.columns import Bools, Columns, Ints
from scheduler.core.eligible import is_meant
from scheduler.policies.sights import Barriers, Sight
from scheduler.policies.workload import Target
from scheduler.state.fleet import Fleet

MOST = 128
"""Sights beyond the kinds of cards. A workload that sees more of them has ids left out, then nodes."""


@dataclass(slots=True)
class _Demanded:
    """The rows that are meant for pods with one demand, up to a version of the nodes."""

    version: int
    meant: Bools


class Sights:
    """Numbers of sights by row and column. While no class bars a card of a kind that it accepts, they are the kinds."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._barriers = Barriers()
        self._seen = -1
        self._numbers: Ints | None = None
        self._number_of: dict[tuple[int, int], int] = {}
        self._demanded: dict[str, _Demanded] = {}

    def aim(self, target: Target) -> None:
        """Look through the eyes of another workload. What its pods demand of nodes need not be asked again."""
        self._barriers = Barriers.of(target)
        self._demanded = {text: known for text, known in self._demanded.items() if text in self._barriers.demands}
        self._forget()

    @property
    def version(self) -> int:
        """Grows when nodes have changed."""
        return self._seen

    def refresh(self) -> None:
        """Look at the nodes that have changed."""
        changed = np.flatnonzero(self._fleet.described > self._seen)
        if not len(changed):
            return
        self._look(changed if self._numbers is not None else np.arange(self._fleet.columns.rows))
        while len(self._number_of) > len(self._fleet.kinds) + MOST:
            self._barriers = self._barriers.simpler()
            self._forget()
            self._look(np.arange(self._fleet.columns.rows))
        self._seen = self._fleet.version

    def all(self) -> tuple[Sight, ...]:
        """Every sight, by number."""
        kinds = self._fleet.kinds
        if self._numbers is None:
            return tuple(map(Sight, kinds))
        return tuple(Sight(kinds[kind], barred) for kind, barred in self._number_of)

    def supply(self) -> Ints:
        """How many cards there are of each."""
        columns = self._fleet.columns
        numbers = columns.kind if self._numbers is None else self._numbers
        return np.bincount(numbers[columns.present], minlength=len(self.all()))

    def of(self, columns: Columns, rows: Ints) -> Ints:
        """The sights of these rows, whose columns are given."""
        return columns.kind if self._numbers is None else self._numbers.take(rows, 0)

    # ---- inside
    def _forget(self) -> None:
        self._seen, self._numbers, self._number_of = -1, None, {}

    def _look(self, rows: Ints) -> None:
        """Number the cards of these rows; all rows, where there are no numbers yet."""
        fleet, barriers = self._fleet, self._barriers
        rows = rows[fleet.columns.present[rows].any(1)]
        meant = [self._meant(text) for text in barriers.demands]
        if self._numbers is None and not barriers.by_card and all(one[rows].all() for one in meant):
            return
        self._fit_numbers()
        patterns, of_row = np.unique(np.array([one[rows] for one in meant]), axis=1, return_inverse=True)
        for i, pattern in enumerate(patterns.T):
            barred = barriers.by_nodes(pattern.tolist())
            self._number(rows[of_row.reshape(-1) == i], barred | barriers.only)
            for row in rows[of_row.reshape(-1) == i].tolist() if barriers.by_card else ():
                self._number_named(row, barred)

    def _number(self, rows: Ints, barred: int) -> None:
        assert self._numbers is not None
        kinds = self._fleet.columns.kind[rows]
        for kind in np.unique(kinds[self._fleet.columns.present[rows]]).tolist():
            number = self._number_of.setdefault((kind, barred), len(self._number_of))
            self._numbers[rows] = np.where(kinds == kind, number, self._numbers[rows])

    def _number_named(self, row: int, barred: int) -> None:
        """The cards of a row that a class names."""
        assert self._numbers is not None
        for card_id, column in self._fleet.columns_of(row).items():
            if (by_id := self._barriers.on_card(card_id)) != self._barriers.only:
                key = int(self._fleet.columns.kind[row, column]), barred | by_id
                self._numbers[row, column] = self._number_of.setdefault(key, len(self._number_of))

    def _fit_numbers(self) -> None:
        shape, old = self._fleet.columns.present.shape, self._numbers
        if old is None or old.shape != shape:
            self._numbers = np.zeros(shape, np.int64)
            if old is not None:
                self._numbers[: old.shape[0], : old.shape[1]] = old

    def _meant(self, demand: str) -> Bools:
        """Which rows are meant for pods with this demand."""
        fleet = self._fleet
        known = self._demanded.setdefault(demand, _Demanded(-1, np.zeros(0, bool)))
        if len(known.meant) < fleet.columns.rows:
            known.meant = np.pad(known.meant, (0, fleet.columns.rows - len(known.meant)))
        for row in np.flatnonzero(fleet.described > known.version).tolist():
            node = fleet.node(row)
            known.meant[row] = node is not None and is_meant(demand, node)
        known.version = fleet.version
        return known.meant
