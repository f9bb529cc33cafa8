"""Use as metrics: rendered once a round in the meter's thread, so that a scrape costs the extender a copy.

Only the leader shows these series. A series ends when its workload has used nothing for an hour.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from kerf.metering.book import Book, Hour
from kerf.metering.opencost import Holder, allocations, node_gpus
from kerf.metering.use import COST_UNITS, MICRO, CardTime, Kind, Line, MeteredCard, Use
from kerf.obs.metrics import Metrics
from kerf.values.node import Node
from kerf.values.usage import TokenPrice

LINE = ("tenant", "namespace", "workload", "model", "class", "cluster")
CARD = ("class", "cluster")
PRICE = ("class", "supply", "region", "cluster")
MODEL = ("model", "kind", "cluster")
CONTAINER = ("namespace", "pod", "container", "instance", "node")
NODE = ("instance", "node", "instance_type", "region", "provider_id")
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
REGION = "topology.kubernetes.io/region"


@dataclass(frozen=True, slots=True)
class Shown:
    """What one round shows."""

    cluster: str
    currency: str
    lines: dict[Line, Use]
    cards: dict[Kind, CardTime]
    known: dict[str, MeteredCard]
    prices: tuple[TokenPrice, ...] = ()
    holders: tuple[Holder, ...] = ()
    nodes: tuple[Node, ...] = ()
    more: tuple[Metric, ...] = ()
    """Families of others: signals of engines, recommended replicas."""


@dataclass(slots=True)
class UsagePage:
    """The text that is added to the extender's metrics."""

    text: bytes = b""
    _currency: str = ""
    _base: dict[Line, Use] = field(default_factory=dict)
    _cards: dict[Kind, CardTime] = field(default_factory=dict)

    def show(self, shown: Shown) -> None:
        """Render a round."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(tuple(families(shown))))
        self.text = generate_latest(registry)

    def clear(self) -> None:
        """This replica shows nothing: it does not lead, or metering is off."""
        self.text = b""
        self._base.clear()
        self._cards.clear()

    def totals(self, book: Book) -> tuple[dict[Line, Use], dict[Kind, CardTime]]:
        """Everything that was counted since this replica leads, and what is open of before."""
        self._follow_currency(book)
        lines, cards = dict(self._base), dict(self._cards)
        for hour in book.hours.values():
            _add(book, hour, lines, cards)
        return lines, cards

    def keep(self, book: Book, before_ms: int) -> None:
        """Hours that end before a moment leave the books soon: their use stays in the totals while it goes on."""
        going = {line for start, hour in book.hours.items() if start >= before_ms for line in hour.lines}
        self._follow_currency(book)
        for start, hour in book.hours.items():
            if start < before_ms:
                _add(book, hour, self._base, self._cards)
        self._base = {line: use for line, use in self._base.items() if line in going}

    def _follow_currency(self, book: Book) -> None:
        """Costs are counted from zero in a new currency, which is a label of theirs; times go on."""
        if self._currency != book.currency:
            self._base = {line: replace(use, cost=0) for line, use in self._base.items()}
            self._cards = {kind: replace(time, cost=0) for kind, time in self._cards.items()}
            self._currency = book.currency


def _add(book: Book, hour: Hour, lines: dict[Line, Use], cards: dict[Kind, CardTime]) -> None:
    """Add an hour; one in another currency than the book's without its costs."""
    alike = hour.currency == book.currency
    for line, use in hour.lines.items():
        lines[line] = lines.get(line, Use()) + (use if alike else replace(use, cost=0))
    for kind, time in hour.cards.items():
        cards[kind] = cards.get(kind, CardTime()) + (time if alike else replace(time, cost=0))


@dataclass(frozen=True, slots=True)
class MeterMetrics:
    """The meter's own state, and the page of use."""

    page: UsagePage
    writes: Counter
    unknown: Gauge
    skew: Gauge
    gaps: Counter

    @classmethod
    def build(cls, metrics: Metrics) -> Self:
        """Register them."""
        return cls(
            page=UsagePage(),
            writes=metrics.counter("kerf_metering_writes_total", "TenantUsage records written"),
            unknown=metrics.leaders_gauge("kerf_metering_unknown_cards", "Cards that pods hold and no inventory lists"),
            skew=metrics.leaders_gauge("kerf_metering_clock_step_seconds", "How far this machine's clock is ahead"),
            gaps=metrics.counter("kerf_metering_silent_nodes_total", "Nodes whose records could not be read"),
        )


class _Families(Collector):
    def __init__(self, found: tuple[Metric, ...]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        return iter(self._found)


def families(shown: Shown) -> Iterator[Metric]:
    """Every family of the page."""
    yield from _use(shown)
    yield from _costs(shown)
    yield from _opencost(shown)
    yield from shown.more


def _use(shown: Shown) -> Iterator[Metric]:
    amounts: tuple[tuple[str, str, Callable[[Use], float]], ...] = (
        ("kerf_usage_vgpu_seconds", "Seconds of whole cards that pods held", lambda use: use.vgpu_us / MICRO),
        ("kerf_usage_mib_seconds", "MiB of card memory that pods held, times seconds", lambda use: use.mib_ms / 1000),
        ("kerf_usage_core_seconds", "Percent of cores that pods held, times seconds", lambda use: use.core_ms / 1000),
    )
    for name, words, value in amounts:
        family = CounterMetricFamily(name, words, labels=LINE)
        for (who, kind), use in shown.lines.items():
            labels = (who.tenant, who.namespace, who.workload, who.model, kind.card_class, shown.cluster)
            family.add_metric(labels, value(use))
        yield family


def _costs(shown: Shown) -> Iterator[Metric]:
    cost = CounterMetricFamily("kerf_usage_cost", "What the use cost", labels=(*LINE, "currency"))
    allocated: dict[str, int] = {}
    for (who, kind), use in shown.lines.items():
        labels = (who.tenant, who.namespace, who.workload, who.model, kind.card_class, shown.cluster)
        cost.add_metric((*labels, shown.currency), use.cost / COST_UNITS)
        allocated[kind.card_class] = allocated.get(kind.card_class, 0) + use.cost
    seconds = CounterMetricFamily("kerf_card_seconds", "Seconds that cards were there", labels=CARD)
    all_cost = CounterMetricFamily("kerf_card_cost", "What the cards cost", labels=(*CARD, "currency"))
    times: dict[str, CardTime] = {}
    for kind, time in shown.cards.items():
        times[kind.card_class] = times.get(kind.card_class, CardTime()) + time
    for card_class, time in times.items():
        seconds.add_metric((card_class, shown.cluster), time.us / MICRO)
        all_cost.add_metric((card_class, shown.cluster, shown.currency), time.cost / COST_UNITS)
    per_hour = GaugeMetricFamily("kerf_card_hourly_cost", "Price of an hour of a card", labels=(*PRICE, "currency"))
    for kind, price in sorted({card.kind: card.per_hour for card in shown.known.values()}.items()):
        per_hour.add_metric((kind.card_class, kind.supply, kind.region, shown.cluster, shown.currency), price / MICRO)
    tokens = GaugeMetricFamily(
        "kerf_model_price_per_million_tokens", "Price of a million tokens", labels=(*MODEL, "currency")
    )
    for row in shown.prices:
        for kind_name, amount in (("input", row.input), ("cached", row.cached), ("output", row.output)):
            tokens.add_metric((row.model, kind_name, shown.cluster, shown.currency), float(amount))
    yield from (cost, seconds, all_cost, per_hour, tokens)


def _opencost(shown: Shown) -> Iterator[Metric]:
    """Names, labels and arithmetic of OpenCost (pkg/costmodel/metrics.go and allocation_helpers.go)."""
    if not shown.nodes:
        return
    gpu = GaugeMetricFamily("container_gpu_allocation", "GPUs allocated, slices as fractions", labels=CONTAINER)
    for one in allocations(shown.known, shown.holders):
        gpu.add_metric((one.namespace, one.pod, one.container, one.node, one.node), one.gpus)
    price = GaugeMetricFamily("node_gpu_hourly_cost", "Hourly cost of each GPU of the node", labels=NODE)
    count = GaugeMetricFamily("node_gpu_count", "GPUs of the node", labels=NODE)
    total = GaugeMetricFamily("node_total_hourly_cost", "Hourly cost of the node's GPUs", labels=NODE)
    words = {node.name: dict(node.labels) for node in shown.nodes}
    for node in node_gpus(shown.known.values()):
        labels = _node_labels(node.node, words.get(node.node, {}))
        price.add_metric(labels, node.per_hour)
        count.add_metric(labels, node.count)
        total.add_metric(labels, node.per_hour * node.count)
    yield from (gpu, price, count, total)


def _node_labels(node: str, labels: dict[str, str]) -> tuple[str, ...]:
    """OpenCost drops a node whose type or provider id is empty."""
    return (node, node, labels.get(INSTANCE_TYPE) or "unknown", labels.get(REGION) or "unknown", node)
