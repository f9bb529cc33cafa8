"""The scheduler's own metrics."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from prometheus_client import Counter, Gauge, Histogram

from kerf.obs.metrics import Metrics
from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.quota import DIMENSIONS, Amount


@dataclass(frozen=True, slots=True)
class SchedulerMetrics:
    """What the extender and its loops count."""

    registry: Metrics
    seconds: Histogram
    refusals: Counter
    binds: Counter
    node_locks: Counter
    claims: Counter
    tenants: Gauge
    waiting: Gauge
    plans: Counter
    planned: Gauge
    plan_gap: Gauge
    plans_rejected: Counter
    preemptions: Counter
    reclaimed: Counter
    unmet: Gauge
    unmet_claims: Gauge
    leads: Gauge
    elections: Counter
    forwarded: Counter
    turned_away: Counter
    express_open: Gauge
    express_pods: Counter
    express_rounds: Counter
    express_seconds: Histogram

    @classmethod
    def build(cls, metrics: Metrics) -> Self:
        """Register everything."""
        return cls(
            registry=metrics,
            seconds=metrics.histogram("kerf_scheduler_request_seconds", "Time to answer a verb", ("verb",)),
            refusals=metrics.counter("kerf_scheduler_refusals_total", "Nodes refused by reason", ("reason",)),
            binds=metrics.counter("kerf_scheduler_binds_total", "Binds by outcome", ("outcome",)),
            node_locks=metrics.counter(
                "kerf_scheduler_node_locks_total", "Node locks for the device plugins of other vendors", ("outcome",)
            ),
            claims=metrics.counter("kerf_claim_questions_total", "Allocations that were asked about", ("outcome",)),
            tenants=metrics.gauge("kerf_ledger_pods", "Pods in the ledger by state", ("state",)),
            waiting=metrics.gauge("kerf_waiting_pods", "Pods with asks that are not bound"),
            plans=metrics.counter("kerf_plans_total", "Plans by what was adopted", ("adopted",)),
            planned=metrics.leaders_gauge("kerf_plan_pods", "Pods of the last plan by outcome", ("outcome",)),
            plan_gap=metrics.leaders_gauge("kerf_plan_gap_ratio", "Distance of the last plan from its proven bound"),
            plans_rejected=metrics.counter("kerf_plans_rejected_total", "Solver answers that the checker refused"),
            preemptions=metrics.counter("kerf_preempted_pods_total", "Pods evicted for a more important one"),
            reclaimed=metrics.counter(
                "kerf_quota_reclaimed_pods_total", "Pods that left for another tenant's guarantee", ("tenant", "how")
            ),
            unmet=metrics.leaders_gauge(
                "kerf_quota_unmet_pods", "Refused pods within a guarantee for which no pod may leave", ("tenant",)
            ),
            unmet_claims=metrics.leaders_gauge("kerf_quota_unmet_claim_pods", "Pods that wait by claims", ("tenant",)),
            leads=metrics.leaders_gauge("kerf_scheduler_leader", "1 while this replica leads and has caught up"),
            elections=metrics.counter("kerf_scheduler_elections_total", "How often this replica became the leader"),
            forwarded=metrics.counter(
                "kerf_scheduler_forwarded_total", "Requests passed on to the leader", ("verb", "outcome")
            ),
            turned_away=metrics.counter("kerf_scheduler_turned_away_total", "Requests answered with 503", ("reason",)),
            express_open=metrics.leaders_gauge("kerf_express_open", "1 while the express lane binds pods"),
            express_pods=metrics.counter(
                "kerf_express_pods_total", "Pods of the express lane by outcome", ("outcome",)
            ),
            express_rounds=metrics.counter("kerf_express_rounds_total", "Rounds of the express lane", ("outcome",)),
            express_seconds=metrics.histogram(
                "kerf_express_round_seconds", "How long a round lets kube-scheduler wait"
            ),
        )


@dataclass(frozen=True, slots=True)
class QuotaMetrics:
    """What the quota controller shows: gauges by tenant, class of cards and resource (memory_mib, cores, cards)."""

    guaranteed: Gauge
    limit: Gauge
    used: Gauge
    pending: Gauge
    reserved: Gauge
    drift: Gauge
    overcommitted: Gauge
    writes: Counter
    failures: Counter
    fit_answers: Counter

    @classmethod
    def build(cls, metrics: Metrics) -> Self:
        """Register everything."""
        labels = ("tenant", "class", "resource")
        return cls(
            guaranteed=metrics.leaders_gauge("kerf_quota_guaranteed", "What a tenant is guaranteed", labels),
            limit=metrics.leaders_gauge("kerf_quota_limit", "What a tenant may hold, burst included", labels),
            used=metrics.leaders_gauge("kerf_quota_used", "What a tenant's pods hold by their grants", labels),
            pending=metrics.leaders_gauge("kerf_quota_pending", "What a tenant's waiting pods ask for", labels),
            reserved=metrics.leaders_gauge("kerf_quota_kueue_reserved", "What Kueue's books say a tenant uses", labels),
            drift=metrics.leaders_gauge(
                "kerf_quota_drift", "Kueue's books minus grants and waiting pods; 0 is right", labels
            ),
            overcommitted=metrics.leaders_gauge(
                "kerf_quota_overcommitted", "1 where a promise had to shrink", ("tenant",)
            ),
            writes=metrics.counter("kerf_quota_writes_total", "Kueue objects written by action", ("action",)),
            failures=metrics.counter("kerf_quota_failures_total", "Quota rounds that could not be finished"),
            fit_answers=metrics.counter("kerf_fit_answers_total", "Answers of the fit check by state", ("state",)),
        )

    def show(self, books: Iterable[TenantAccount]) -> None:
        """Set every gauge to these books."""
        gauges = (self.guaranteed, self.limit, self.used, self.pending, self.reserved, self.drift, self.overcommitted)
        for gauge in gauges:
            gauge.clear()
        for book in books:
            self.overcommitted.labels(book.name).set(any(entry.promised != entry.guaranteed for entry in book.classes))
            for entry in book.classes:
                self._show_class(book.name, entry)

    def _show_class(self, tenant: str, entry: ClassAccount) -> None:
        amounts: tuple[tuple[Gauge, Amount | None], ...] = (
            (self.used, entry.used),
            (self.pending, entry.pending),
            (self.reserved, entry.reserved),
            (self.drift, entry.drift),
        )
        for name in DIMENSIONS:
            for gauge, bound in ((self.guaranteed, entry.guaranteed), (self.limit, entry.limit)):
                if (most := bound.of(name)) is not None:
                    gauge.labels(tenant, entry.slug, name).set(most)
            for gauge, amount in amounts:
                if amount is not None:
                    gauge.labels(tenant, entry.slug, name).set(getattr(amount, name))


@dataclass(frozen=True, slots=True)
class RecoveryMetrics:
    """What the leader does about failed cards."""

    moved: Counter
    held: Gauge
    failed_cards: Gauge
    paused: Gauge

    @classmethod
    def build(cls, metrics: Metrics) -> Self:
        """Register everything."""
        return cls(
            moved=metrics.counter("kerf_recovery_pods_total", "Pods of failed cards by what came of it", ("outcome",)),
            held=metrics.leaders_gauge("kerf_recovery_held_pods", "Pods of failed cards whose eviction is refused"),
            failed_cards=metrics.leaders_gauge("kerf_recovery_failed_cards", "Cards that need a reset or a repair"),
            paused=metrics.leaders_gauge(
                "kerf_recovery_paused", "1 while the breaker stops evictions in the pool", ("pool",)
            ),
        )


@dataclass(frozen=True, slots=True)
class GatewayMetrics:
    """What the leader writes for gateways."""

    writes: Counter
    failures: Counter
    routes: Gauge
    replicas: Gauge

    @classmethod
    def build(cls, metrics: Metrics) -> Self:
        """Register everything."""
        labels = ("gateway", "action")
        return cls(
            writes=metrics.counter("kerf_gateway_writes_total", "Objects of gateways by what was done", labels),
            failures=metrics.counter("kerf_gateway_failures_total", "Rounds for gateways that could not be finished"),
            routes=metrics.leaders_gauge("kerf_gateway_routes", "Models that gateways are given"),
            replicas=metrics.leaders_gauge("kerf_gateway_replicas", "Pods that serve models by state", ("state",)),
        )
