"""Gauges that are read from the store at each scrape; on demand under HAMi's names too."""

from collections.abc import Iterator

from prometheus_client import Gauge

from kerf.obs.metrics import Metrics
from scheduler.core.state import NodeState
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store

_CARD = ("zone", "node", "device_uuid", "device_index", "device_type")
_POD = ("zone", "namespace", "node", "pod", "container_index", "device_uuid")
_ZONE = "vGPU"
_MIB = 1024 * 1024


class Gauges:
    """Refreshes what the store knows. With `hami`, dashboards made for HAMi find their series."""

    def __init__(self, store: Store, metrics: SchedulerMetrics, registry: Metrics, *, hami: bool) -> None:
        self._store = store
        self._metrics = metrics
        self._registry = registry
        self._hami = _HamiGauges(registry) if hami else None

    def scrape(self) -> bytes:
        """Set every gauge to the present and render everything."""
        self.refresh()
        return self._registry.render()

    def refresh(self) -> None:
        """Set every gauge to the present."""
        for state, count in self._store.ledger.counts().items():
            self._metrics.tenants.labels(state.value).set(count)
        self._metrics.waiting.set(len(self._store.desk.waiting()))
        if self._hami:
            self._hami.refresh(self._store)


class _HamiGauges:
    def __init__(self, registry: Metrics) -> None:
        self._limit = registry.gauge("hami_gpu_memory_limit_bytes", "Memory of the card", _CARD)
        self._cores = registry.gauge("hami_gpu_core_limit_ratio", "Cores of the card", _CARD)
        self._shared = registry.gauge("hami_gpu_shared_count", "Slices on the card", _CARD)
        self._core_used = registry.gauge("hami_gpu_core_allocated_ratio", "Cores granted", _CARD)
        self._mem_used = registry.gauge("hami_gpu_memory_allocated_bytes", "Memory granted", (*_CARD, "device_cores"))
        self._mem_ratio = registry.gauge("hami_node_gpu_memory_allocated_ratio", "Share of memory granted", _CARD)
        self._pod_mem = registry.gauge("hami_vgpu_memory_allocated_bytes", "Memory a pod holds", _POD)
        self._pod_core = registry.gauge("hami_vgpu_core_allocated_ratio", "Cores a pod holds", _POD)
        self._shown: dict[str, tuple[NodeState, list[tuple[Gauge, tuple[str, ...]]]]] = {}
        """By node, the state that its series show, and these."""

    def refresh(self, store: Store) -> None:
        """Set the series of the nodes that have changed; the others stay as they are."""
        states = {state.name: state for state in store.desk.states()}
        for name in self._shown.keys() - states.keys():
            self._forget(name)
        for name, state in states.items():
            known = self._shown.get(name)
            if known is None or known[0] is not state:
                self._forget(name)
                self._shown[name] = (state, [*self._cards(state), *self._pods(store, name)])

    def _forget(self, name: str) -> None:
        for gauge, labels in self._shown.pop(name, (None, []))[1]:
            gauge.remove(*labels)

    def _cards(self, node: NodeState) -> Iterator[tuple[Gauge, tuple[str, ...]]]:
        for state in node.cards:
            card, used = state.card, state.used
            labels = (_ZONE, node.name, card.id, str(card.index), card.model)
            yield _set(self._limit, labels, card.memory_mib * _MIB)
            yield _set(self._cores, labels, card.cores)
            yield _set(self._shared, labels, used.slots)
            yield _set(self._core_used, labels, used.cores)
            yield _set(self._mem_used, (*labels, str(used.cores)), used.memory_mib * _MIB)
            yield _set(self._mem_ratio, labels, used.memory_mib / card.memory_mib if card.memory_mib else 0)

    def _pods(self, store: Store, name: str) -> Iterator[tuple[Gauge, tuple[str, ...]]]:
        for booking in store.ledger.on_node(name):
            namespace, _, pod = booking.key.partition("/")
            for card, use in booking.uses.items():
                labels = (_ZONE, namespace, name, pod, "0", card)
                yield _set(self._pod_mem, labels, use.memory_mib * _MIB)
                yield _set(self._pod_core, labels, use.cores)


def _set(gauge: Gauge, labels: tuple[str, ...], value: float) -> tuple[Gauge, tuple[str, ...]]:
    gauge.labels(*labels).set(value)
    return gauge, labels
