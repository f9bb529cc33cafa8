"""The planner's loop: when pods were refused or a gang waits, plan the pending set jointly and let filter follow.

A plan is advice: its node gets the top score. A gang's plan is more: every member's place is reserved, or none is, so
two gangs can never hold half of what the other needs. Every place is checked again on the live state before it is
reserved; a plan that cannot be adopted is made again. kube-scheduler does not know of reservations, so one annotation
on one node (`kerf.dev/plan`) wakes it: one write a plan, not one a pod.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace

from kerf.kube.client import Kube
from kerf.obs.loop import Loop, run_every
from kerf.values.ask import PodAsk
from kerf.values.policy import PlannerSettings
from scheduler.core.state import NodeState
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.wake import wake_scheduler
from scheduler.solver.problem import Assignment, Plan, Problem, rooms_of
from scheduler.solver.solve import plan
from scheduler.state.answers import Candidate
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.planner")
LOOP = Loop("planner", every_s=5.0, settle_s=0.1)
_64_BITS = 2**64 - 1
"""Arrivals and departures come in bursts; one plan serves a burst."""
NODES_A_PIECE = 64
"""Nodes digested before answers may go first."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Before the same problem is planned again, after its plan could not be adopted."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The pods to plan, most important and oldest first, and why complete gangs are not among them."""

    asks: tuple[PodAsk, ...]
    notes: dict[str, str]


class Planner:
    """Plans in a thread of its own, which waits for `solve`: in the scheduler that is a process (`aside`)."""

    def __init__(
        self,
        store: Store,
        kube: Kube,
        metrics: SchedulerMetrics,
        clock: Callable[[], float] = time.monotonic,
        solve: Callable[[Problem], Plan] | None = None,
    ) -> None:
        self._desk = store.desk
        self._planning = store.planning
        self._ledger = store.ledger
        self._kube = kube
        self._metrics = metrics
        self._clock = clock
        self._solve = solve
        self._digests: dict[str, tuple[NodeState, int]] = {}
        self._last = ""
        """The problem that was planned last."""
        self._plans = 0
        self._failed = ""
        """The problem whose plan could not be adopted, which is planned again at `_retry_at`."""
        self._retry_at = 0.0
        self._pause = FIRST_PAUSE_S
        self._tried: dict[str, int] = {}
        """Gangs for which a fleet's plan has no free places, and the state's version at which that was so."""

    def run(self, stop: threading.Event) -> None:
        """Plan whenever something changed and pods wait, until stopped."""
        run_every(LOOP, self.run_once, stop, self._desk.changed)

    def run_once(self) -> None:
        """One round: read, plan, adopt."""
        settings = self._desk.policy.planner
        if not settings.enabled:
            return
        chosen = choose(self._planning.candidates(), self._ledger.gang_members(), settings.max_pods)
        chosen = self._seat_listed(chosen, settings)
        if not chosen.asks:
            self._last = ""  # what is reserved now may expire, and is planned again then
            self._planning.set_plan({}, chosen.notes)
            return
        problem = self._planning.problem(chosen.asks)
        digest = self._digest(problem)
        if digest == self._last or (digest == self._failed and self._clock() < self._retry_at):
            self._planning.add_notes(chosen.notes)
            return
        self._last = digest
        self._adopt(problem, (self._solve or plan)(problem), chosen.notes)

    # ---- inside
    def _seat_listed(self, chosen: Chosen, settings: PlannerSettings) -> Chosen:
        """Reserve what a fleet's plan has for whole gangs; those that remain."""
        gangs: dict[str, list[PodAsk]] = defaultdict(list)
        for ask in chosen.asks:
            if ask.part and ask.gang and ask.gang_size > 1:
                gangs[ask.gang].append(ask)
        until, tried, version = self._clock() + settings.gang_timeout_s, self._tried, self._desk.version
        seated = {
            gang: node
            for gang, asks in gangs.items()
            if tried.get(gang) != version and (node := self._planning.reserve_listed(asks, until))
        }
        self._tried = {gang: self._desk.version for gang in gangs if gang not in seated}
        if not seated:
            return chosen
        _LOG.info("%d gangs: reserved the places that the fleet's plan has for them", len(seated))
        self._plans += 1
        wake_scheduler(self._kube, next(iter(seated.values())), f"fleet-{self._plans}")
        return replace(chosen, asks=tuple(ask for ask in chosen.asks if ask.gang not in seated))

    def _adopt(self, problem: Problem, answer: Plan, notes: dict[str, str]) -> None:
        gangs: dict[str, list[tuple[PodAsk, Assignment]]] = defaultdict(list)
        by_uid = {ask.uid: ask for ask in problem.asks}
        planned: dict[str, str] = {}
        for assignment in answer.assignments:
            ask = by_uid[assignment.pod_uid]
            if ask.gang and ask.gang_size > 1:
                gangs[ask.gang].append((ask, assignment))
            else:
                planned[ask.uid] = assignment.node
        until = self._clock() + problem.policy.planner.gang_timeout_s
        refused = {gang: self._reserve(members, until) for gang, members in sorted(gangs.items())}
        not_adopted = {gang: why for gang, why in refused.items() if why}
        notes = {**_notes(problem, gangs), **notes}
        notes |= {gang: f"gang {gang} waits: its plan was not adopted: {why}" for gang, why in not_adopted.items()}
        self._planning.set_plan(planned, notes)
        self._count(answer)
        if planned or len(not_adopted) < len(gangs):
            self._plans += 1
            wake_scheduler(self._kube, next(iter(answer.assignments)).node, f"{self._last}-{self._plans}")
        if not_adopted:
            self._plan_again()
        else:
            self._failed, self._pause = "", FIRST_PAUSE_S

    def _digest(self, problem: Problem) -> str:
        """What the problem is, in short, in this process. What has not changed is the same object, not read again."""
        known, found = self._digests, dict[str, tuple[NodeState, int]]()
        for start in range(0, len(problem.nodes), NODES_A_PIECE):
            for state in problem.nodes[start : start + NODES_A_PIECE]:
                before = known.get(state.name)
                found[state.name] = before if before and before[0] is state else (state, hash(state))
            self._desk.precedence.pause()
        self._digests = found
        nodes = tuple(digest for _, digest in self._digests.values())
        whole = hash((nodes, problem.asks, problem.policy, problem.running, problem.offered, problem.quotas))
        return f"{whole & _64_BITS:x}"

    def _reserve(self, members: list[tuple[PodAsk, Assignment]], until: float) -> str:
        """Reserve every member's place, or none and say why."""
        gang = members[0][0].gang
        why = self._planning.reserve_all(members, until)
        if why:
            _LOG.warning("gang %s: the plan was not adopted: %s", gang, why)
        else:
            _LOG.info("gang %s: reserved %d places", gang, len(members))
        return why

    def _plan_again(self) -> None:
        """Forget the problem, so that it is planned again: at once if it changes, else after a growing pause."""
        if self._failed == self._last:
            self._pause = min(self._pause * 2, LONGEST_PAUSE_S)
        self._failed, self._last = self._last, ""
        self._retry_at = self._clock() + self._pause

    def _count(self, answer: Plan) -> None:
        self._metrics.plans.labels(answer.adopted).inc()
        self._metrics.planned.labels("placed").set(len(answer.assignments))
        self._metrics.planned.labels("unplaced").set(len(answer.unplaced))
        self._metrics.plan_gap.set(answer.gap)
        if answer.rejected:
            self._metrics.plans_rejected.inc()
            _LOG.error("the checker refused the solver's answer (%s); greedy's was taken", answer.rejected)


def choose(candidates: Iterable[Candidate], running: Mapping[str, int], most: int) -> Chosen:
    """Refused pods and complete gangs. A gang with a member that quota refuses waits whole."""
    gangs: dict[str, list[Candidate]] = defaultdict(list)
    chosen: list[Candidate] = []
    for one in candidates:
        if one.ask.gang and one.ask.gang_size > 1:
            gangs[one.ask.gang].append(one)
        elif one.refused and not one.over_quota:
            chosen.append(one)
    notes: dict[str, str] = {}
    for gang, members in sorted(gangs.items()):
        if len(members) + running.get(gang, 0) < members[0].ask.gang_size:
            continue
        over = next((one.over_quota for one in members if one.over_quota), "")
        if over:
            notes[gang] = f"gang {gang} waits: {over}"
        else:
            chosen.extend(members)
    chosen.sort(key=lambda one: (-one.ask.priority, one.waiting.created, one.ask.key, one.ask.uid))
    return Chosen(tuple(one.ask for one in _cut(chosen, most)), notes)


def _notes(problem: Problem, placed: Container[str]) -> dict[str, str]:
    """Why the gangs that the plan does not place have to wait."""
    notes = {}
    for ask in problem.asks:
        if ask.gang and ask.gang not in placed:
            rooms = [problem.quotas[i].owner for i in rooms_of(problem.quotas, ask)]
            within = f" within what is left of the quota of {' and '.join(rooms)}" if rooms else ""
            notes[ask.gang] = f"gang {ask.gang} waits: its {ask.gang_size} pods do not fit together now{within}"
    return notes


def _cut(chosen: list[Candidate], most: int) -> list[Candidate]:
    """The first pods, never half a gang. The first gang is planned whatever its size."""
    kept: list[Candidate] = []
    gangs: dict[str, list[Candidate]] = defaultdict(list)
    for one in chosen:
        gangs[one.ask.gang or one.ask.uid].append(one)
    for members in gangs.values():
        if not kept or len(kept) + len(members) <= most:
            kept.extend(members)
    return kept
