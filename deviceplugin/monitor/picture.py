"""One look at the node's use, and the rows of `/top` and the metrics that come from it. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from deviceplugin.core.usage import CardSample, ContainerRef, Overuse
from kerf.values.device import Card
from kerf.values.units import MIB
from kerf.wire.limiter import LedgerView
from kerf.wire.top import NodeTop, TopCard, TopContainer, TopProcess

_LABELS = ("namespace", "pod", "container", "card")


@dataclass(frozen=True, slots=True)
class Picture:
    """What was seen in one look. Names are (namespace, pod) by pod uid."""

    ledgers: Mapping[ContainerRef, LedgerView]
    samples: tuple[CardSample, ...]
    foreign: Mapping[str, int]
    """Bytes per card of processes outside of pods."""
    overuse: tuple[Overuse, ...]
    names: Mapping[str, tuple[str, str]]

    def name_of(self, uid: str) -> tuple[str, str]:
        """(namespace, name) of a pod; its uid while the pod is not listed."""
        return self.names.get(uid, ("", uid))

    def used_bytes(self, card: str) -> int:
        """Bytes that all processes use of a card."""
        return self.foreign.get(card, 0) + sum(s.memory_bytes for s in self.samples if s.card == card)


NOTHING = Picture({}, (), {}, (), {})


def top(picture: Picture, cards: Iterable[Card]) -> NodeTop:
    """The page: MiB, percent and milliseconds."""
    samples = {(s.ref, s.card): s for s in picture.samples}
    bypassed = {(o.ref, o.card) for o in picture.overuse}
    return NodeTop(
        cards=tuple(_card(picture, card) for card in cards),
        containers=tuple(
            _container(picture, ref, index, samples.get((ref, use.limit.uuid)), (ref, use.limit.uuid) in bypassed)
            for ref, view in sorted(picture.ledgers.items())
            for index, use in enumerate(view.cards)
        ),
        overuse=tuple(overuse.sentence for overuse in picture.overuse),
    )


def families(picture: Picture, cards: Iterable[Card]) -> Iterator[Metric]:
    """Prometheus families: one sample per container and card that exists now."""
    for name, words, kind, value in _FAMILIES:
        family = kind(name, words, labels=_LABELS)
        for ref, view in sorted(picture.ledgers.items()):
            for use in view.cards:
                family.add_metric([*picture.name_of(ref.uid), ref.container, use.limit.uuid], value(use))
        yield family
    busy = GaugeMetricFamily("kerf_container_busy_percent", "Busy SMs by the driver, percent of card", labels=_LABELS)
    for sample in picture.samples:
        busy.add_metric([*picture.name_of(sample.ref.uid), sample.ref.container, sample.card], sample.percent)
    yield busy
    over = GaugeMetricFamily("kerf_container_overuse_bytes", "Memory used past the limiter", labels=_LABELS)
    for overuse in picture.overuse:
        labels = [*picture.name_of(overuse.ref.uid), overuse.ref.container, overuse.card]
        over.add_metric(labels, overuse.used - overuse.granted)
    yield over
    used = GaugeMetricFamily("kerf_node_card_used_bytes", "Memory of all processes on the card", labels=["card"])
    foreign = GaugeMetricFamily("kerf_node_card_foreign_bytes", "Memory of processes outside pods", labels=["card"])
    for card in cards:
        used.add_metric([card.id], picture.used_bytes(card.id))
        foreign.add_metric([card.id], picture.foreign.get(card.id, 0))
    yield from (used, foreign)


def _card(picture: Picture, card: Card) -> TopCard:
    return TopCard(
        card=card.id,
        model=card.model,
        memory_mib=card.memory_mib,
        used_mib=picture.used_bytes(card.id) // MIB,
        foreign_mib=picture.foreign.get(card.id, 0) // MIB,
        healthy=card.healthy,
        health="" if card.healthy else str(card.health),
    )


def _container(
    picture: Picture, ref: ContainerRef, index: int, sample: CardSample | None, bypassed: bool
) -> TopContainer:
    view = picture.ledgers[ref]
    use, (namespace, pod) = view.cards[index], picture.name_of(ref.uid)
    return TopContainer(
        namespace=namespace,
        pod=pod,
        container=ref.container,
        card=use.limit.uuid,
        limit_mib=None if use.limit.memory_bytes is None else use.limit.memory_bytes // MIB,
        used_mib=use.charged_bytes // MIB,
        peak_mib=use.peak_bytes // MIB,
        driver_mib=sample.memory_bytes // MIB if sample else 0,
        denied=use.denied,
        cores=use.limit.cores or 0,
        busy_percent=sample.percent if sample else 0,
        throttled_ms=use.throttled_ns // 1_000_000,
        launches=use.launches,
        processes=tuple(
            TopProcess(p.pid, p.host_pid, p.command, p.bytes_by_card[index] // MIB) for p in view.processes if p.alive
        ),
        events=view.events,
        bypassed=bypassed,
    )


_FAMILIES: tuple[tuple[str, str, Any, Callable[[Any], float]], ...] = (
    ("kerf_container_memory_used_bytes", "Memory charged by the limiter", GaugeMetricFamily,
     lambda use: use.charged_bytes),
    ("kerf_container_memory_limit_bytes", "Memory granted; -1 is no limit", GaugeMetricFamily,
     lambda use: -1 if use.limit.memory_bytes is None else use.limit.memory_bytes),
    ("kerf_container_memory_peak_bytes", "Highest memory charged", GaugeMetricFamily, lambda use: use.peak_bytes),
    ("kerf_container_cores_limit_percent", "Share of the SMs granted; 0 is no limit", GaugeMetricFamily,
     lambda use: use.limit.cores or 0),
    ("kerf_container_denied", "Allocations refused at the limit", CounterMetricFamily, lambda use: use.denied),
    ("kerf_container_gpu_seconds", "GPU time used, by timing events", CounterMetricFamily,
     lambda use: use.busy_ns / 1e9),
    ("kerf_container_throttled_seconds", "Time that launches were held back", CounterMetricFamily,
     lambda use: use.throttled_ns / 1e9),
)  # fmt: skip
