"""The planner's loop: when pods were refused or a gang waits, plan the pending set jointly and let filter follow.

A plan is advice: its node gets the top score. A gang's plan is more: every member's place is reserved at once, or none
is, so two gangs can never hold half of what the other needs. Every place is checked again on the live state under the
lock before it is adopted. kube-scheduler does not know that a reservation was made, so one annotation on one node
(`kerf.dev/plan`) tells it that the world has changed; that is one write a plan, not one a pod.
"""

import hashlib
import logging
import threading
import time
from collections import defaultdict

from kerf.kube.client import Kube
from kerf.values.ask import PodAsk
from kerf.values.verdict import Misfit
from scheduler.core.state import NodeState
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.wake import wake_scheduler
from scheduler.solver.problem import Assignment, Plan, Problem
from scheduler.solver.solve import plan
from scheduler.state.pending import Waiting
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.planner")
DEBOUNCE_S = 0.1
"""Arrivals and departures come in bursts; one plan serves a burst."""
LONGEST_WAIT_S = 5.0
NODES_A_HOLD = 200
"""Nodes read in one hold of the lock, so that a filter never waits for 5,000."""


class Planner:
    """Plans in a thread of its own; CP-SAT releases the interpreter while it searches."""

    def __init__(self, store: Store, kube: Kube, metrics: SchedulerMetrics) -> None:
        self._store = store
        self._kube = kube
        self._metrics = metrics
        self._last = ""

    def run(self, stop: threading.Event) -> None:
        """Plan whenever something changed and pods wait, until told to stop."""
        while not stop.is_set():
            self._store.pending.changed.wait(LONGEST_WAIT_S)
            if stop.wait(DEBOUNCE_S):
                return
            self._store.pending.changed.clear()
            try:
                self.run_once()
            except Exception:  # noqa: BLE001 (a plan is advice; placement goes on without)
                _LOG.exception("planning failed; greedy placement goes on")

    def run_once(self) -> None:
        """One round: read, plan, adopt."""
        settings = self._store.policy.planner
        if not settings.enabled:
            return
        asks = self._candidates(settings.max_pods)
        if not asks:
            self._store.pending.set_plan({}, {})
            return
        problem = Problem(
            nodes=self._states(),
            asks=tuple(asks),
            policy=self._store.policy,
            running=tuple(sorted(self._store.ledger.gang_members().items())),
            offered=self._store.pending.offered({ask.uid for ask in asks}),
        )
        digest = _digest(problem)
        if digest == self._last:
            return
        self._last = digest
        self._adopt(asks, plan(problem))

    def _candidates(self, most: int) -> list[PodAsk]:
        """Refused pods and complete gangs, most important and oldest first."""
        with self._store.lock:
            waiting = [
                w
                for w in self._store.pending.pods.values()
                if not w.problem and not w.gates and not isinstance(self._store.quotas.narrow(w.ask), Misfit)
            ]
            refused = set(self._store.pending.refused)
            running = self._store.ledger.gang_members()
        gangs: dict[str, list[Waiting]] = defaultdict(list)
        chosen: list[Waiting] = []
        for one in waiting:
            ask = self._store.pending.sized(one.ask)
            if self._store.reservation(ask.uid):
                continue
            if ask.gang and ask.gang_size > 1:
                gangs[ask.gang].append(one)
            elif ask.uid in refused:
                chosen.append(one)
        for gang, members in sorted(gangs.items()):
            size = self._store.pending.sized(members[0].ask).gang_size
            if len(members) + running.get(gang, 0) >= size:
                chosen.extend(members)
        chosen.sort(key=lambda w: (-w.ask.priority, w.created, w.ask.key, w.ask.uid))
        return [self._store.pending.sized(w.ask) for w in _cut(chosen, most)]

    def _states(self) -> tuple[NodeState, ...]:
        names = self._store.node_names()
        states: list[NodeState] = []
        for start in range(0, len(names), NODES_A_HOLD):
            with self._store.lock:
                found = (self._store.fleet.state(name) for name in names[start : start + NODES_A_HOLD])
                states.extend(state for state in found if state.cards)
        return tuple(states)

    def _adopt(self, asks: list[PodAsk], answer: Plan) -> None:
        gangs: dict[str, list[tuple[PodAsk, Assignment]]] = defaultdict(list)
        by_uid = {ask.uid: ask for ask in asks}
        planned: dict[str, str] = {}
        for assignment in answer.assignments:
            ask = by_uid[assignment.pod_uid]
            if ask.gang and ask.gang_size > 1:
                gangs[ask.gang].append((ask, assignment))
            else:
                planned[ask.uid] = assignment.node
        notes = {
            ask.gang: f"gang {ask.gang} waits: its {ask.gang_size} pods do not fit together now"
            for ask in asks
            if ask.gang and ask.gang not in gangs
        }
        until = time.monotonic() + self._store.policy.planner.gang_timeout_s
        held = [gang for gang, members in sorted(gangs.items()) if self._reserve(members, until)]
        self._store.pending.set_plan(planned, notes)
        self._count(answer)
        if held or planned:
            wake_scheduler(self._kube, next(iter(answer.assignments)).node, self._last)

    def _reserve(self, members: list[tuple[PodAsk, Assignment]], until: float) -> bool:
        """Hold every member's place, or none."""
        held: list[str] = []
        with self._store.lock:
            for ask, assignment in members:
                waiting = self._store.pending.pods.get(ask.uid)
                grant = self._store.place(ask, assignment.node, waiting.stages if waiting else ())
                if waiting is None or isinstance(grant, Misfit):
                    for uid in held:
                        self._store.drop_reservation(uid)
                    return False
                self._store.reserve(ask, assignment.node, grant, waiting.stages, until)
                held.append(ask.uid)
        _LOG.info("gang %s: %d places are held", members[0][0].gang, len(held))
        return True

    def _count(self, answer: Plan) -> None:
        self._metrics.plans.labels(answer.adopted).inc()
        self._metrics.planned.labels("placed").set(len(answer.assignments))
        self._metrics.planned.labels("unplaced").set(len(answer.unplaced))
        self._metrics.plan_gap.set(answer.gap)
        if answer.rejected:
            self._metrics.plans_rejected.inc()
            _LOG.error("the checker refused the solver's answer (%s); greedy's was taken", answer.rejected)


def _cut(chosen: list[Waiting], most: int) -> list[Waiting]:
    """The first pods, never half a gang. The first gang is planned whatever its size."""
    kept: list[Waiting] = []
    gangs: dict[str, list[Waiting]] = defaultdict(list)
    for one in chosen:
        gangs[one.ask.gang or one.ask.uid].append(one)
    for members in gangs.values():
        if not kept or len(kept) + len(members) <= most:
            kept.extend(members)
    return kept


def _digest(problem: Problem) -> str:
    offered = [(uid, sorted(names)) for uid, names in problem.offered]
    text = repr((problem.nodes, problem.asks, problem.policy, problem.running, offered))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
