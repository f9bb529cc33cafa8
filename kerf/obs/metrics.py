"""Metrics: one registry object per process, passed in, so that every test has its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

FAST_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds; the verbs answer in single milliseconds."""


class Metrics:
    """A registry with the constructors bound to it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: list[Gauge] = []
        self._numbers: list[Gauge] = []

    def counter(self, name: str, words: str, labels: tuple[str, ...] = ()) -> Counter:
        """A number that only grows."""
        return Counter(name, words, labels, registry=self.registry)

    def gauge(self, name: str, words: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A number that goes up and down."""
        return Gauge(name, words, labels, registry=self.registry)

    def leaders_gauge(self, name: str, words: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A number that only a leader knows: it ends with the term."""
        gauge = self.gauge(name, words, labels)
        (self._series if labels else self._numbers).append(gauge)
        return gauge

    def end_term(self) -> None:
        """This process leads no more: series with labels end, single numbers are 0."""
        for gauge in self._series:
            gauge.clear()
        for gauge in self._numbers:
            gauge.set(0)

    def histogram(self, name: str, words: str, labels: tuple[str, ...] = ()) -> Histogram:
        """A distribution of seconds."""
        return Histogram(name, words, labels, registry=self.registry, buckets=FAST_BUCKETS)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
