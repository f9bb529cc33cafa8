"""The fleet seen through the workload: the lens that fragmentation scores by, and a survey of every row through it."""

from dataclasses import dataclass, replace

import numpy as np

from scheduler.core.columns import Columns, Ints
from scheduler.policies.fragmentation import Lens, Survey, compile_lens, survey
from scheduler.policies.workload import Target, with_whole_cards
from scheduler.state.fleet import Fleet
from scheduler.state.sights import Sights
from scheduler.state.workload_counter import WorkloadCounter

CHUNK = 128  # rows surveyed at once: small enough for the processor's cache
TURNOVER = 512
"""Charges between two counts of how often pods leave."""
_DRIFT = 20  # the supply of a kind may change by one in so many before the lens is made again
_UNKNOWN: Ints = np.full(1, -1, np.int64)


@dataclass(slots=True)
class WorkloadView:
    """A lens, its number, and the survey of the fleet through it up to a version of the fleet."""

    number: int
    lens: Lens
    survey: Survey
    sights: Sights
    version: int = -1

    def see(self, columns: Columns, rows: Ints) -> Columns:
        """The columns of these rows with sights in the place of kinds."""
        return replace(columns, kind=self.sights.of(columns, rows))


class WorkloadViews:
    """The current view. It changes with the workload, with new kinds of cards and with what there is of each."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._counter: WorkloadCounter | None = WorkloadCounter()
        fleet.on_charge = self._counter.observe
        self._target = Target()
        self._sights = Sights(fleet)
        self._version = -1
        """The sights' version that `_supply` reflects."""
        self._supply: Ints = _UNKNOWN
        self._widest = 0
        self.turnover = False
        """Whether pods leave about as often as they come."""
        self._judged = (0, 0)
        self._view: WorkloadView | None = None

    def set_target(self, target: Target) -> None:
        """Pack for a given workload instead of the one that is seen."""
        self._counter = None
        self._fleet.on_charge = None
        self._target, self._view = target, None

    def current(self) -> WorkloadView:
        """The view, its survey up to date."""
        target = self._counter.target() if self._counter is not None else self._target
        self._judge_turnover()
        widest = int(self._fleet.columns.present.sum(1).max()) if self.turnover else 0
        if self._view is None or target is not self._target or widest != self._widest:
            self._target, self._widest, self._supply = target, widest, _UNKNOWN
            self._sights.aim(with_whole_cards(target, widest))
        self._sights.refresh()
        if self._supply_moved():
            number = self._view.number + 1 if self._view else 0
            aimed = with_whole_cards(target, widest)
            lens = compile_lens(aimed, self._sights.all(), tuple(self._supply.tolist()), self._fleet.models)
            self._view = WorkloadView(number, lens, Survey.empty(self._fleet.columns.rows, lens.needs), self._sights)
        assert self._view is not None
        self._refresh(self._view)
        return self._view

    def _judge_turnover(self) -> None:
        """Whether pods leave about as often as they come, judged every TURNOVER charges."""
        charges, releases = self._fleet.charges - self._judged[0], self._fleet.releases - self._judged[1]
        if charges >= TURNOVER:
            self._judged = (self._fleet.charges, self._fleet.releases)
            self.turnover = releases * 4 >= charges * (1 if self.turnover else 2)

    def _supply_moved(self) -> bool:
        """Whether there are materially other cards than the lens was made for."""
        if self._supply is not _UNKNOWN and self._version == self._sights.version:
            return False
        self._version = self._sights.version
        supply = self._sights.supply()
        if len(supply) == len(self._supply) and (np.abs(supply - self._supply) * _DRIFT <= self._supply).all():
            return False
        self._supply = supply
        return True

    def _refresh(self, view: WorkloadView) -> None:
        columns = self._fleet.columns
        if len(view.survey.useful) < columns.rows:
            view.survey, view.version = Survey.empty(columns.rows, view.lens.needs), -1
        if view.version == self._fleet.version:
            return
        changed = np.flatnonzero(self._fleet.versions > view.version)
        for start in range(0, len(changed), CHUNK):
            rows = changed[start : start + CHUNK]
            fresh = survey(view.see(columns.take(rows), rows), view.lens)
            view.survey.count[rows], view.survey.amount[rows] = fresh.count, fresh.amount
            view.survey.useful[rows] = fresh.useful
        view.version = self._fleet.version
