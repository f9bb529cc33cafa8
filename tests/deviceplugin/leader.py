"""The scheduler's leader beside a node in this process: what it does about the faults that the node has published."""

import time
from typing import Any

from kerf.obs.metrics import Metrics
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.values.recovery import RecoveryMode, RecoverySettings
from kerf.vendors.registry import VENDORS
from scheduler.metrics import RecoveryMetrics
from scheduler.recovery.controller import SETTLE_S, Recovery
from scheduler.state.store import Store

RECOVER = SchedulingPolicy(recovery=RecoverySettings(mode=RecoveryMode.RECOVER))


class _Unheard:
    def emit(self, about: Any, reason: str, message: str, kind: str = "Warning", annotations: Any = None) -> None: ...


def evicted(kube: FakeKube) -> list[str]:
    """The pods that a new leader evicts, which has read the cluster as it is now."""
    store, now = Store(RECOVER, VENDORS), [time.time()]
    recovery = Recovery(store, kube, _Unheard(), RecoveryMetrics.build(Metrics()), "kerf-system", lambda: now[0])  # type: ignore[arg-type]
    for item in kube.objects("/api/v1/nodes"):
        store.feed.apply_node("ADDED", item)
    for item in (each for each in kube.objects("/api/v1/namespaces") if each["kind"] == "Pod"):
        store.feed.apply_pod("ADDED", item)
    before = len(kube.writes)
    recovery.run_once()
    now[0] += SETTLE_S
    recovery.run_once()
    return sorted(path.split("/")[6] for _, path in kube.writes[before:] if path.endswith("/eviction"))
