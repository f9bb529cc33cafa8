"""Gauges that are read from the store at each scrape; on demand under HAMi's names too."""

from kerf.obs.metrics import Metrics
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
        self._all = (
            self._limit,
            self._cores,
            self._shared,
            self._core_used,
            self._mem_used,
            self._mem_ratio,
            self._pod_mem,
            self._pod_core,
        )

    def refresh(self, store: Store) -> None:
        for gauge in self._all:
            gauge.clear()
        for name in store.desk.node_names():
            self._cards(store, name)
            self._pods(store, name)

    def _cards(self, store: Store, name: str) -> None:
        for state in store.desk.state(name).cards:
            card, used = state.card, state.used
            labels = (_ZONE, name, card.id, str(card.index), card.model)
            self._limit.labels(*labels).set(card.memory_mib * _MIB)
            self._cores.labels(*labels).set(card.cores)
            self._shared.labels(*labels).set(used.slots)
            self._core_used.labels(*labels).set(used.cores)
            self._mem_used.labels(*labels, str(used.cores)).set(used.memory_mib * _MIB)
            self._mem_ratio.labels(*labels).set(used.memory_mib / card.memory_mib if card.memory_mib else 0)

    def _pods(self, store: Store, name: str) -> None:
        for booking in store.ledger.on_node(name):
            namespace, _, pod = booking.key.partition("/")
            for card, use in booking.uses.items():
                labels = (_ZONE, namespace, name, pod, "0", card)
                self._pod_mem.labels(*labels).set(use.memory_mib * _MIB)
                self._pod_core.labels(*labels).set(use.cores)
