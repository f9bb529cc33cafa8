"""Kerf's MIG instances as metrics, under HAMi's name too on demand."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deviceplugin.gate.instances import Instances
from deviceplugin.gate.pods import meta
from deviceplugin.monitor.watch import Monitor
from deviceplugin.state.node import LocalNode

_OWN = ("card", "profile", "start", "size", "uuid", "namespace", "pod")
_HAMI = (
    "node", "device_uuid", "device_index", "mig_uuid", "profile", "gpu_instance_id", "placement_start",
    "placement_size",
)  # fmt: skip
"""HAMi's `compute_instance_id` is left out: an instance has one, with all of it."""


class InstanceSeries(Collector):
    """One series for each instance that exists now."""

    def __init__(self, instances: Instances, node: LocalNode, monitor: Monitor, *, hami: bool) -> None:
        self._instances = instances
        self._node = node
        self._monitor = monitor
        self._hami = hami

    def collect(self) -> Iterator[Metric]:
        """Read the records."""
        own = GaugeMetricFamily("kerf_node_mig_instance_info", "MIG instances that Kerf made", labels=_OWN)
        hami = GaugeMetricFamily("hami_node_gpu_mig_instance_info", "MIG instances that Kerf made", labels=_HAMI)
        cards = {card.id: card for card in self._node.cards}
        pods = {meta(pod, "uid"): (meta(pod, "namespace"), meta(pod, "name")) for pod in self._monitor.pods()}
        for record in (r for r in self._instances.records() if r.uuid and r.card in cards):
            card = cards[record.card]
            known = card.mig.profiles if card.mig is not None else ()
            profile = next((each.name for each in known if each.id == record.profile), str(record.profile))
            place = str(record.start), str(record.size)
            own.add_metric([card.id, profile, *place, record.uuid, *pods.get(record.uid, ("", record.uid))], 1)
            labels = (self._node.name, card.id, str(card.index), record.uuid, profile, str(record.number), *place)
            hami.add_metric(labels, 1)
        yield own
        if self._hami:
            yield hami
