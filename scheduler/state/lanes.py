"""Lanes: what is known of one class of pods on every row, brought up to date only where rows have changed."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kerf.values.ask import ContainerAsk, PodAsk, Selection
from kerf.values.policy import SchedulingPolicy
from kerf.values.verdict import Misfit, Reason
from scheduler.core import bulk
from scheduler.core.bulk import Kinds, Wanted
from scheduler.core.columns import Bools, Columns, Ints
from scheduler.core.fit import accepts
from scheduler.core.place import place
from scheduler.core.preference import Preference, prefer, wished
from scheduler.state.fleet import Fleet

LANES = 512
LANE_BYTES = 48_000_000
"""All lanes together; classes beyond it are recomputed when they come back."""
CHUNK = 1024  # rows decided at once, to bound memory
_MEMO = 4096  # exact answers kept a lane

ClassKey = tuple[Hashable, ...]


def class_key(ask: PodAsk) -> ClassKey:
    """Equal for pods that fit and score alike everywhere: the names of containers do not matter."""
    slices = tuple(
        (c.cards, c.memory_mib, c.memory_percent, c.cores, c.stage, c.vendor, c.group) for c in ask.containers
    )
    return slices, ask.selection, ask.wishes, ask.cpu_milli, ask.memory_mib


@dataclass(frozen=True, slots=True)
class Priced:
    """What a slice costs on each card of some rows, as of a version of the fleet and a view."""

    rows: Ints
    fits: Bools
    price: Ints
    version: int
    view: int

    def at(self, row: int, changed: int, view: int) -> tuple[Bools, Ints] | None:
        """Of one row that has last changed with a version of the fleet; None where it is not known."""
        if changed > self.version or view != self.view or not len(places := np.flatnonzero(self.rows == row)):
            return None
        return self.fits[places], self.price[places]


@dataclass(slots=True)
class Lane:
    """One class of pods: per row the reason (0 = fits) and, where it fits, the cost of placing it there."""

    ask: PodAsk
    chain: tuple[str, ...]
    preference: Preference
    reasons: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    costs: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    decided: int = -1
    """The fleet's version that `reasons` reflects."""
    costed: int = -1
    """The fleet's version that `costs` reflects, for the view numbered `view`."""
    view: int = -1
    priced: Priced | None = None
    """The last rows that were costed: the best node for a pod is mostly one that has just changed."""
    memo: dict[Hashable, int] = field(default_factory=dict)
    kinds: tuple[Kinds, ...] = ()
    """Per container what it gets of each kind of card, by the fleet's number."""

    @classmethod
    def of(cls, ask: PodAsk, policy: SchedulingPolicy) -> "Lane":
        """A lane that knows nothing yet."""
        chain, weights = wished(ask, policy)
        return cls(ask, chain, prefer(chain, weights))

    def grow(self, rows: int) -> None:
        """Make room for the fleet's rows."""
        missing = rows - len(self.reasons)
        if missing > 0:
            self.reasons = np.concatenate([self.reasons, np.zeros(missing, np.uint8)])
            self.costs = np.concatenate([self.costs, np.zeros(missing, np.int32)])


class Lanes:
    """The lanes in use, the least recently used dropped first."""

    def __init__(self, fleet: Fleet, policy: SchedulingPolicy, check_node: bool) -> None:
        self._fleet, self._policy, self._check_node = fleet, policy, check_node
        self._lanes: OrderedDict[ClassKey, Lane] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lanes)

    def get(self, ask: PodAsk) -> Lane:
        """The lane of the pod's class, its reasons up to date."""
        key = class_key(ask)
        lane = self._lanes.pop(key, None) or Lane.of(ask, self._policy)
        self._lanes[key] = lane
        rows = self._fleet.columns.rows
        while len(self._lanes) > max(1, min(LANES, LANE_BYTES // (5 * rows))):
            self._lanes.popitem(last=False)
        lane.grow(rows)
        self._decide(lane)
        return lane

    def wanted(self, lane: Lane, rows: Ints, columns: Columns) -> list[Wanted]:
        """Per container, the cards of these rows that the pod's selection takes, and what each would give."""
        if not lane.kinds or len(lane.kinds[0].accepted) != len(self._fleet.kinds):
            selection = Selection(
                use_types=lane.ask.selection.use_types,
                avoid_types=lane.ask.selection.avoid_types,
                known=lane.ask.selection.known,
                modes=lane.ask.selection.modes,
                classes=lane.ask.selection.classes,
            )
            lane.kinds = tuple(self._of_kinds(selection, ask) for ask in lane.ask.containers)
        wanted = [kinds.on(columns) for kinds in lane.kinds]
        named = self._named(lane.ask.selection, rows, columns)
        return wanted if named is None else [replace(want, accepted=want.accepted & named) for want in wanted]

    def _of_kinds(self, selection: Selection, ask: ContainerAsk) -> Kinds:
        kinds = self._fleet.kinds
        return Kinds.of(ask, np.array([accepts(selection, ask, card) for card in kinds], bool), kinds)

    def _named(self, selection: Selection, rows: Ints, columns: Columns) -> Bools | None:
        """Cards that a selection by id leaves, None if there is none."""
        if not selection.use_ids and not selection.avoid_ids:
            return None
        mask = np.full(columns.present.shape, not selection.use_ids)
        for ids, value in ((selection.use_ids, True), (selection.avoid_ids, False)):
            for i, row in enumerate(rows.tolist()):
                for column in self._columns_of(row, ids):
                    mask[i, column] = value
        return mask

    def _columns_of(self, row: int, ids: Sequence[str]) -> list[int]:
        return [column for card_id in ids if (column := self._fleet.column(row, card_id)) >= 0]

    def _decide(self, lane: Lane) -> None:
        if lane.decided == self._fleet.version:
            return
        changed = np.flatnonzero(self._fleet.versions > lane.decided)
        for start in range(0, len(changed), CHUNK):
            rows = changed[start : start + CHUNK]
            columns = self._fleet.columns.take(rows)
            wanted = self.wanted(lane, rows, columns)
            found = bulk.verdicts(lane.ask, columns, wanted, lane.preference, self._check_node)
            for i in np.flatnonzero(found.open).tolist():
                found.reasons[i] = self._exact(lane, int(rows[i]), columns, i)
            lane.reasons[rows] = found.reasons
        lane.decided = self._fleet.version

    def _exact(self, lane: Lane, row: int, columns: Columns, i: int) -> int:
        """The reason by `place`, remembered by all that the answer depends on."""
        named = bool(lane.ask.selection.use_ids or lane.ask.selection.avoid_ids)
        key = (
            int(columns.hardware[i]),
            columns.usable[i].tobytes(),
            columns.used_memory[i].tobytes() + columns.used_cores[i].tobytes() + columns.used_slots[i].tobytes(),
            columns.used_places[i].tobytes(),
            bool(bulk.node_fits(lane.ask, columns)[i]) if self._check_node else True,
            row if named else -1,
        )
        known = lane.memo.get(key)
        if known is None:
            state = self._fleet.state(self._fleet.name(row))
            answer = place(lane.ask, state, lane.chain, lane.preference.weights, check_node=self._check_node)
            known = int(answer.reason) if isinstance(answer, Misfit) else int(Reason.FITS)
            if len(lane.memo) >= _MEMO:
                lane.memo.clear()
            lane.memo[key] = known
        return known
