"""The placement engine: where a pod fits, which node is best, which cards it gets. Incremental, deterministic.

The caller holds the store's lock. Answers for a class of pods are kept and brought up to date where nodes have
changed, so a call costs the nodes that changed since the class was last asked for, not the fleet.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerf.values.ask import PodAsk, Stage
from kerf.values.grant import Grant
from kerf.values.policy import SchedulingPolicy
from kerf.values.slicing import Placed
from kerf.values.verdict import Misfit, Reason
from scheduler.core import bulk
from scheduler.core.columns import Bools, Columns, Ints
from scheduler.core.explain import Counts, Explanation, explain
from scheduler.core.nearest import Field, shortlist
from scheduler.core.place import grant_of, place
from scheduler.core.preference import wished
from scheduler.core.state import NodeState
from scheduler.policies import fragmentation
from scheduler.policies.nodes import POLICIES
from scheduler.policies.workload import Target
from scheduler.state.fleet import Fleet
from scheduler.state.lanes import Lane, Lanes, Priced
from scheduler.state.workload_views import CHUNK, WorkloadView, WorkloadViews

FRAGMENTATION = "fragmentation"
NOWHERE = -(2**62)
"""Scores up to this one mean that the pod does not fit there."""
_COST_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Answer:
    """Per asked row, whether the pod fits and, where not, the `Reason`."""

    feasible: Bools
    reasons: NDArray[np.uint8]


class Engine:
    """`check_node` includes CPU, memory and cordon of the nodes; a live filter leaves them to kube-scheduler."""

    def __init__(self, fleet: Fleet, policy: SchedulingPolicy, *, check_node: bool = False) -> None:
        self.fleet = fleet
        self.check_node = check_node
        self._views = WorkloadViews(fleet)
        self.set_policy(policy)

    def set_policy(self, policy: SchedulingPolicy) -> None:
        """Decide by another policy from now on. Over-commitment is the fleet's: put the nodes again."""
        self.policy = policy
        self._lanes = Lanes(self.fleet, policy, self.check_node)

    def set_target(self, target: Target) -> None:
        """Pack for a given workload instead of the one that is seen."""
        self._views.set_target(target)

    def query(self, ask: PodAsk, rows: Ints) -> Answer:
        """Whether the pod fits on each of the fleet's rows; -1 is a node that is not known."""
        lane = self._lanes.get(ask)
        reasons = np.where(rows < 0, np.uint8(Reason.NO_INVENTORY), lane.reasons[rows])
        return Answer(reasons == 0, reasons)

    def room(self, ask: PodAsk, rows: Ints) -> Bools:
        """Where the pod fits with its CPU, its memory and the nodes' cordons, even if `check_node` is off."""
        columns = self.fleet.columns.take(np.maximum(rows, 0))
        found: Bools = self.query(ask, rows).feasible & bulk.node_fits(ask, columns)
        return found

    def scores(self, ask: PodAsk, rows: Ints) -> Ints:
        """A total order of the rows, best highest: by node policy, then by name. Rows that do not fit come last."""
        lane = self._lanes.get(ask)
        self._cost(lane)
        costs, fits = lane.costs[rows].astype(np.int64), (rows >= 0) & (lane.reasons[rows] == 0)
        behind = (costs - costs[fits].min(initial=_COST_LIMIT)) // self._window(ask)
        span = len(lane.costs)
        order = -behind * (span + 1) + span - self.fleet.ranks()[rows]
        return np.where(fits, order, NOWHERE - np.arange(len(rows), dtype=np.int64))

    def place(self, ask: PodAsk, node: str | int) -> Grant | Misfit:
        """The pod's grant on a node, given by name or row: the cards that its score was computed for."""
        name, row = (node, self.fleet.row(node)) if isinstance(node, str) else (self.fleet.name(node), node)
        grant = self._simply(ask, row) if row >= 0 and _is_simple(ask) else None
        if grant is None:
            chain, weights = wished(ask, self.policy)
            state, prices = self.fleet.state(name), self._prices(ask, row)
            return place(ask, state, chain, weights, check_node=self.check_node, price=prices)
        return grant

    def place_on(self, ask: PodAsk, state: NodeState) -> Grant | Misfit:
        """The pod's grant on a node as it might be, for victims and plans: by the card policies alone."""
        chain, weights = wished(ask, self.policy)
        return place(ask, state, chain, weights, check_node=self.check_node)

    def explain(self, ask: PodAsk, rows: Ints) -> Explanation:
        """Why the pod fits on none of the rows: reasons by node count, the nearest miss and what would fit."""
        lane = self._lanes.get(ask)
        known = rows[rows >= 0]
        reasons = lane.reasons[known].astype(np.int64)
        counts = _counted(reasons, len(rows) - len(known))
        few = known[shortlist(ask, self.fleet.columns.take(known), reasons)]
        columns = self.fleet.columns.take(few)
        field = Field(
            ask=ask,
            rows=few,
            ranks=self.fleet.ranks()[few],
            columns=columns,
            wanted=self._lanes.wanted(lane, few, columns),
            kinds=tuple(self.fleet.kinds),
            reasons=lane.reasons[few].astype(np.int64),
            preference=lane.preference,
        )
        return explain(field, counts, self._attempt, self.fleet.name)

    # ---- inside
    def _attempt(self, ask: PodAsk, row: int) -> Grant | Misfit:
        return self.place_on(ask, self.fleet.state(self.fleet.name(row)))

    def _node_policy(self, ask: PodAsk) -> str:
        wish = ask.wishes.node_policy
        return wish if wish in POLICIES or wish == FRAGMENTATION else self.policy.nodes

    def _window(self, ask: PodAsk) -> int:
        return fragmentation.window(ask, self._views.turnover) if self._node_policy(ask) == FRAGMENTATION else 1

    def _cost(self, lane: Lane) -> None:
        view = self._views.current() if self._node_policy(lane.ask) == FRAGMENTATION else None
        if view is not None and lane.view != view.number:
            lane.costed, lane.view = -1, view.number
        if lane.costed == self.fleet.version:
            return
        stale = (self.fleet.versions > lane.costed) & (lane.reasons == 0)
        changed = np.flatnonzero(stale)
        for start in range(0, len(changed), CHUNK):
            rows = changed[start : start + CHUNK]
            costs = self._costs(lane, rows, view)
            lane.costs[rows] = np.clip(costs, -_COST_LIMIT, _COST_LIMIT)
        lane.costed = self.fleet.version

    def _costs(self, lane: Lane, rows: Ints, view: WorkloadView | None) -> Ints:
        columns = self.fleet.columns.take(rows)
        wanted = self._lanes.wanted(lane, rows, columns)
        if view is None:
            after = bulk.after(lane.ask, columns, wanted, lane.preference, None)
            return POLICIES[self._node_policy(lane.ask)](after, lane.preference.weights)
        fits, price = self._price(lane, rows, columns, wanted, view)
        if price is not None:
            lane.priced = Priced(rows, fits, price, self.fleet.version, view.number)
        if price is not None and lane.ask.containers[0].cards == 1:
            keys = bulk.sort_keys(wanted[0], columns, lane.preference, price)
            taken = bulk.choose(1, fits, keys, None)
            chosen: Ints = (price * taken).sum(1)
            return chosen
        columns = view.see(columns, rows)
        after = bulk.after(lane.ask, columns, wanted, lane.preference, price)
        return fragmentation.cost(columns, after, view.survey.useful[rows], view.lens)

    def _price(
        self, lane: Lane, rows: Ints, columns: Columns, wanted: list[bulk.Wanted], view: WorkloadView
    ) -> tuple[Bools, Ints | None]:
        """The cards that fit and what a slice costs on each; no price for several containers: they go by the chain."""
        if len(lane.ask.containers) != 1:
            return columns.present, None
        if len(rows) == 1 and lane.priced is not None:
            row = int(rows[0])
            if (known := lane.priced.at(row, int(self.fleet.versions[row]), view.number)) is not None:
                return known
        fits = bulk.fitting(wanted[0], columns, lane.preference)
        before = view.survey.take(rows)
        seen = view.see(columns, rows)
        return fits, fragmentation.price(wanted[0], lane.ask.cpu_milli, seen, fits, before, view.lens)

    def _prices(self, ask: PodAsk, row: int) -> dict[str, int]:
        """What one slice costs on each card of a node, for a pod whose cards are chosen by fragmentation."""
        if row < 0 or self._node_policy(ask) != FRAGMENTATION or len(ask.containers) != 1:
            return {}
        rows = np.array([row])
        columns = self.fleet.columns.take(rows)
        lane = self._lanes.get(ask)
        _, price = self._price(lane, rows, columns, self._lanes.wanted(lane, rows, columns), self._views.current())
        if price is None:
            return {}
        return {card_id: int(price[0, column]) for card_id, column in self.fleet.columns_of(row).items()}

    def _simply(self, ask: PodAsk, row: int) -> Grant | None:
        """The grant of a pod with one container, by the arrays that its score was computed from.

        None where it does not fit, or where links, NUMA nodes or what a place on a card spoils matter: `place` knows
        these.
        """
        lane, container = self._lanes.get(ask), ask.containers[0]
        several = container.cards > 1 and (lane.preference.topology or ask.selection.alike)
        if lane.reasons[row] or several:
            return None
        rows = np.array([row])
        columns = self.fleet.columns.take(rows)
        wanted = self._lanes.wanted(lane, rows, columns)
        if self._node_policy(ask) == FRAGMENTATION:
            fits, price = self._price(lane, rows, columns, wanted, self._views.current())
        else:
            fits, price = bulk.fitting(wanted[0], columns, lane.preference), None
        keys = bulk.sort_keys(wanted[0], columns, lane.preference, price)
        taken = bulk.choose(container.cards, fits, keys, None)
        cards = self.fleet.cards(row)
        chosen = [(cards[at], int(columns.used_places[0, at])) for at in np.flatnonzero(taken[0]).tolist()]
        if any(isinstance(card.slicing, Placed) for card, _ in chosen):
            return None
        return grant_of(container, chosen)


def _is_simple(ask: PodAsk) -> bool:
    """Whether one container holds cards while the pod runs: an init container takes the card to which it adds least."""
    return len(ask.containers) == 1 and ask.containers[0].stage is not Stage.INIT


def _counted(reasons: Ints, unknown: int) -> Counts:
    """How many nodes have each reason, the most frequent first."""
    counts = np.bincount(reasons, minlength=len(Reason))
    counts[Reason.NO_INVENTORY] += unknown
    found = [(Reason(code), int(count)) for code, count in enumerate(counts) if count and code]
    return tuple(sorted(found, key=lambda entry: (-entry[1], entry[0])))
