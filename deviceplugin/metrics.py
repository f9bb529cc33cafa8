"""The device plugin's metrics, all named `kerf_node_…`."""

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from kerf.obs.metrics import Metrics


@dataclass(frozen=True, slots=True)
class PluginMetrics:
    """Counters of the start path, the kubelet and the probe."""

    starts: Counter
    start_seconds: Histogram
    prepares: Counter
    prepare_seconds: Histogram
    registrations: Counter
    publications: Counter
    card_healthy: Gauge
    probe_errors: Gauge
    faults: Counter

    @classmethod
    def build(cls, metrics: Metrics) -> "PluginMetrics":
        """Register them."""
        return cls(
            starts=metrics.counter("kerf_node_starts_total", "PreStartContainer calls by result", ("result",)),
            start_seconds=metrics.histogram("kerf_node_start_seconds", "Time to let a container start, or refuse it"),
            prepares=metrics.counter(
                "kerf_node_prepares_total", "ResourceClaims by result of their preparation", ("result",)
            ),
            prepare_seconds=metrics.histogram("kerf_node_prepare_seconds", "Time of one NodePrepareResources call"),
            registrations=metrics.counter("kerf_node_registrations_total", "Registrations with the kubelet"),
            publications=metrics.counter("kerf_node_publications_total", "Writes of the node's inventory"),
            card_healthy=metrics.gauge("kerf_node_card_healthy", "1 if the card is healthy", ("card", "model")),
            faults=metrics.counter(
                "kerf_node_faults_total",
                "Faults by card, code and verdict, each once a minute",
                ("card", "code", "verdict"),
            ),
            probe_errors=metrics.gauge("kerf_node_probe_errors", "Failed readings of the hardware since the start"),
        )
