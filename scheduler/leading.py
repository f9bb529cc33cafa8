"""What only a leader runs. It is loaded when a term begins, so that the first answers, and a follower, do without."""

from collections.abc import Callable
from dataclasses import dataclass

from kerf.kube.events import Events
from kerf.kube.leadership import GuardedKube, Tenure
from kerf.kube.watch import Follower
from scheduler.choosing.memory import Memory
from scheduler.choosing.watch import KindWatch
from scheduler.express.lane import ExpressLane
from scheduler.extender.bind import Binder
from scheduler.kueue.controller import QuotaController
from scheduler.kueue.fit_check import FitCheck
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.leader import Loop
from scheduler.metrics import QuotaMetrics, RecoveryMetrics, SchedulerMetrics
from scheduler.placing.aside import Aside
from scheduler.placing.planner import Planner
from scheduler.placing.preempt import Preemption
from scheduler.placing.wake import WakeOnElection
from scheduler.recovery.controller import Recovery
from scheduler.state.store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loops work on and write through."""

    store: Store
    acting: GuardedKube
    seat: Tenure
    binder: Binder
    events: Events
    metrics: SchedulerMetrics
    quota_metrics: QuotaMetrics
    recovery_metrics: RecoveryMetrics
    keeper: QuotaKeeper
    memory: Memory
    may_leave: Callable[[str], bool]
    watched: tuple[Follower, Follower]
    """They follow nodes and pods."""


def loops_of(parts: Parts, remedies_namespace: str) -> tuple[Loop, ...]:
    """New loops for a new term. The Jobs that repair cards run in `remedies_namespace`."""
    store, acting, metrics = parts.store, parts.acting, parts.metrics
    recovery = Recovery(store, acting, parts.events, parts.recovery_metrics, remedies_namespace)
    return (
        WakeOnElection(store, acting),
        Planner(store, acting, metrics, solve=Aside(pause=store.desk.precedence.pause).plan),
        Preemption(store, acting, metrics, parts.events),
        QuotaController(store, acting, parts.keeper, parts.quota_metrics),
        FitCheck(store, acting, parts.quota_metrics),
        ExpressLane(store, acting, parts.binder, metrics, parts.seat, parts.watched),
        recovery.after(parts.may_leave),
        KindWatch(store, parts.events, parts.memory),
    )
