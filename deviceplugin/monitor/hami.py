"""The monitor's series under HAMi's names, for HAMi-WebUI and dashboards made for HAMi. Names and labels are HAMi's."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from deviceplugin.monitor.picture import Picture
from kerf.values.device import Card

HOST = ("node", "device_index", "device_uuid", "device_type")
CONTAINER = ("namespace", "pod", "container", "vdevice_index", "device_uuid")


def hami_families(picture: Picture, cards: Iterable[Card], node: str) -> Iterator[Metric]:
    """What HAMi's vGPUmonitor shows of a node; utilisation is in percent there, whatever its name says."""
    yield from _host(picture, tuple(cards), node)
    yield from _containers(picture)


def _host(picture: Picture, cards: tuple[Card, ...], node: str) -> Iterator[Metric]:
    memory = GaugeMetricFamily("hami_host_gpu_memory_used_bytes", "Memory of all processes on the card", labels=HOST)
    busy = GaugeMetricFamily("hami_host_gpu_utilization_ratio", "Percent of the card's cores in use", labels=HOST)
    for card in cards:
        labels = (node, str(card.index), card.id, card.model)
        memory.add_metric(labels, picture.used_bytes(card.id))
        percent = sum(sample.percent for sample in picture.samples if sample.card == card.id)
        busy.add_metric(labels, min(percent, 100))
    yield from (memory, busy)


def _containers(picture: Picture) -> Iterator[Metric]:
    used = GaugeMetricFamily("hami_vgpu_memory_used_bytes", "Memory charged to the container", labels=CONTAINER)
    limit = GaugeMetricFamily("hami_vgpu_memory_limit_bytes", "Memory granted to the container", labels=CONTAINER)
    same = GaugeMetricFamily("hami_container_device_memory_bytes", "Memory by the driver's count", labels=CONTAINER)
    busy = GaugeMetricFamily(
        "hami_container_device_utilization_ratio",
        "Percent of the cores that the container uses",
        labels=CONTAINER,
    )
    samples = {(sample.ref, sample.card): sample for sample in picture.samples}
    for ref, view in sorted(picture.ledgers.items()):
        for index, use in enumerate(view.cards):
            labels = (*picture.name_of(ref.uid), ref.container, str(index), use.limit.uuid)
            sample = samples.get((ref, use.limit.uuid))
            used.add_metric(labels, use.charged_bytes)
            limit.add_metric(labels, use.limit.memory_bytes or 0)
            same.add_metric(labels, sample.memory_bytes if sample else 0)
            busy.add_metric(labels, sample.percent if sample else 0)
    yield from (used, limit, same, busy)
