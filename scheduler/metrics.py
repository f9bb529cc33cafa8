"""The scheduler's own metrics."""

from dataclasses import dataclass
from typing import Self

from prometheus_client import Counter, Gauge, Histogram

from kerf.obs.metrics import Metrics


@dataclass(frozen=True, slots=True)
class SchedulerMetrics:
    """What the extender and its loops count."""

    seconds: Histogram
    refusals: Counter
    binds: Counter
    tenants: Gauge
    waiting: Gauge
    plans: Counter
    planned: Gauge
    plan_gap: Gauge
    plans_rejected: Counter
    preemptions: Counter
    leads: Gauge
    elections: Counter
    forwarded: Counter
    turned_away: Counter

    @classmethod
    def build(cls, metrics: Metrics) -> Self:
        """Register everything."""
        return cls(
            seconds=metrics.histogram("kerf_scheduler_request_seconds", "Time to answer a verb", ("verb",)),
            refusals=metrics.counter("kerf_scheduler_refusals_total", "Nodes refused by reason", ("reason",)),
            binds=metrics.counter("kerf_scheduler_binds_total", "Binds by outcome", ("outcome",)),
            tenants=metrics.gauge("kerf_ledger_pods", "Pods in the ledger by state", ("state",)),
            waiting=metrics.gauge("kerf_waiting_pods", "Pods with asks that are not bound"),
            plans=metrics.counter("kerf_plans_total", "Plans by what was adopted", ("adopted",)),
            planned=metrics.gauge("kerf_plan_pods", "Pods of the last plan by outcome", ("outcome",)),
            plan_gap=metrics.gauge("kerf_plan_gap_ratio", "Distance of the last plan from its proven bound"),
            plans_rejected=metrics.counter("kerf_plans_rejected_total", "Solver answers that the checker refused"),
            preemptions=metrics.counter("kerf_preempted_pods_total", "Pods evicted for a more important one"),
            leads=metrics.gauge("kerf_scheduler_leader", "1 while this replica leads and has caught up"),
            elections=metrics.counter("kerf_scheduler_elections_total", "How often this replica became the leader"),
            forwarded=metrics.counter(
                "kerf_scheduler_forwarded_total", "Requests passed on to the leader", ("verb", "outcome")
            ),
            turned_away=metrics.counter("kerf_scheduler_turned_away_total", "Requests answered with 503", ("reason",)),
        )
