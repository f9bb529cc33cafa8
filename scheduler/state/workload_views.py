"""The fleet seen through the workload: the lens that fragmentation scores by, and a survey of every row through it."""

from dataclasses import dataclass

import numpy as np

from kerf.values.ask import PodAsk
from scheduler.core.columns import Ints
from scheduler.policies.fragmentation import Lens, Survey, compile_lens, survey
from scheduler.policies.workload import Target, with_whole_cards
from scheduler.state.fleet import Fleet
from scheduler.state.workload_counter import WorkloadCounter

CHUNK = 128  # rows surveyed at once: small enough for the processor's cache
TURNOVER = 512
"""Charges between two counts of how often pods leave."""
_DRIFT = 20  # the supply of a kind may change by one in so many before the lens is made again


@dataclass(slots=True)
class WorkloadView:
    """A lens, its number, and the survey of the fleet through it up to a version of the fleet."""

    number: int
    lens: Lens
    survey: Survey
    version: int = -1


class WorkloadViews:
    """The current view. It changes with the workload, with new kinds of cards and with what there is of each."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._counter: WorkloadCounter | None = WorkloadCounter()
        fleet.on_charge = self._counter.observe
        self._target = Target()
        self._supply: Ints = np.zeros(0, np.int64)
        self._layout = -1
        self.turnover = False
        """Whether pods leave about as often as they come."""
        self._judged = (0, 0)
        self._view: WorkloadView | None = None

    def set_target(self, target: Target) -> None:
        """Pack for a given workload instead of the one that is seen."""
        self._counter = None
        self._fleet.on_charge = None
        self._target, self._view = target, None

    def announce(self, ask: PodAsk) -> None:
        """A pod was placed and is about to be charged."""
        if self._counter is not None:
            self._counter.announce(ask)

    def current(self) -> WorkloadView:
        """The view, its survey up to date."""
        target = self._counter.target() if self._counter is not None else self._target
        moved = self._supply_moved() or self._turnover_moved()
        if self._view is None or target is not self._target or moved:
            self._target = target
            number = self._view.number + 1 if self._view else 0
            if self.turnover:
                target = with_whole_cards(target, int(self._fleet.columns.present.sum(1).max()))
            lens = compile_lens(target, tuple(self._fleet.kinds), tuple(self._supply.tolist()))
            self._view = WorkloadView(number, lens, Survey.empty(self._fleet.columns.rows, len(lens.weight)))
        self._refresh(self._view)
        return self._view

    def _turnover_moved(self) -> bool:
        """Whether pods began or ceased to leave about as often as they come, judged every TURNOVER charges."""
        charges, releases = self._fleet.charges - self._judged[0], self._fleet.releases - self._judged[1]
        if charges < TURNOVER:
            return False
        self._judged = (self._fleet.charges, self._fleet.releases)
        before = self.turnover
        self.turnover = releases * 4 >= charges * (1 if before else 2)
        return self.turnover != before

    def _supply_moved(self) -> bool:
        """Whether there are materially other cards than the lens was made for."""
        if self._layout == self._fleet.layout:
            return False
        self._layout = self._fleet.layout
        columns = self._fleet.columns
        supply = np.bincount(columns.kind[columns.present], minlength=len(self._fleet.kinds))
        if len(supply) == len(self._supply) and (np.abs(supply - self._supply) * _DRIFT <= self._supply).all():
            return False
        self._supply = supply
        return True

    def _refresh(self, view: WorkloadView) -> None:
        columns = self._fleet.columns
        if len(view.survey.useful) < columns.rows:
            view.survey, view.version = Survey.empty(columns.rows, len(view.lens.weight)), -1
        changed = np.flatnonzero(self._fleet.versions > view.version)
        for start in range(0, len(changed), CHUNK):
            rows = changed[start : start + CHUNK]
            fresh = survey(columns.take(rows), view.lens)
            view.survey.count[rows], view.survey.amount[rows] = fresh.count, fresh.amount
            view.survey.useful[rows] = fresh.useful
        view.version = self._fleet.version
