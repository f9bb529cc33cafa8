"""The webhook's metrics, on a registry of their own."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

OUTCOMES = ("allowed", "patched", "refused", "malformed", "too_large", "busy", "timeout", "failed")


class Metrics:
    """Counters that the server moves; `render` is what `/metrics` answers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "kerf_webhook_requests", "Admission reviews by outcome.", ["outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "kerf_webhook_duration_seconds",
            "Time from the review's headers to its answer.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10),
            registry=self._registry,
        )
        self._reloads = Counter(
            "kerf_webhook_certificate_reloads",
            "Certificates read again, by result.",
            ["result"],
            registry=self._registry,
        )
        for outcome in OUTCOMES:
            self._requests.labels(outcome)

    def answered(self, outcome: str, seconds: float) -> None:
        """Count one request to `/mutate`."""
        self._requests.labels(outcome).inc()
        self._seconds.observe(seconds)

    def reloaded(self, result: str) -> None:
        """Count one look at changed certificate files; `result` is ok or broken."""
        self._reloads.labels(result).inc()

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
