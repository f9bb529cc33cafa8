"""The usage server's metrics."""

from dataclasses import dataclass
from typing import Self

from prometheus_client import Counter, Gauge

from kerf.obs.metrics import Metrics


@dataclass(frozen=True, slots=True)
class UsageMetrics:
    """Reports of gateways, and their storing."""

    reports: Counter
    tokens: Counter
    rows: Gauge
    writes: Counter
    failures: Counter

    @classmethod
    def build(cls, metrics: Metrics) -> Self:
        """Register everything."""
        return cls(
            reports=metrics.counter(
                "kerf_usage_reports_total", "Reports of gateways by what came of them", ("outcome",)
            ),
            tokens=metrics.counter("kerf_usage_reported_tokens_total", "Tokens that gateways reported", ("kind",)),
            rows=metrics.gauge("kerf_usage_report_rows", "Rows of reports in memory"),
            writes=metrics.counter("kerf_usage_report_writes_total", "GatewayUsage objects written"),
            failures=metrics.counter(
                "kerf_usage_report_failures_total", "Rounds of storing that could not be finished"
            ),
        )
