"""A pod's way through webhook and scheduler to the annotations that a vendor's plugin reads."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import Vendor
from kerf.vendors.registry import VENDORS
from kerf.wire.annotations import GRANT, parse_grant
from kerf.wire.extender import BindQuery
from scheduler.extender.bind import Binder
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store, load
from tests.scheduler.extender.test_bind import Office
from tests.webhook.json_patch import apply
from tests.webhook.tenants import a_review
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

TIMES = {"hami.io/vgpu-time", "hami.io/bind-time"}
COMMON = {"hami.io/vgpu-node", "hami.io/bind-phase", *TIMES}
"""What every plugin of HAMi's kind reads, checked once and left out of the tables."""


def a_vendor_node(
    name: str = "n", annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None, **capacity: str
) -> dict[str, Any]:
    """A node as a vendor's plugin leaves it. Capacity is given by resource name, through `**{...}`."""
    amounts = {"cpu": "64", "memory": "512Gi", **capacity}
    return {
        "kind": "Node",
        "metadata": {"name": name, "annotations": annotations or {}, "labels": labels or {}},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def registered(*devices: dict[str, Any]) -> str:
    """HAMi's JSON form: zero values are left out."""
    listed = (
        {"index": i, "count": 10, "devmem": 1, "devcore": 100, "health": True, **one} for i, one in enumerate(devices)
    )
    return json.dumps([{key: value for key, value in one.items() if value} for one in listed])


def asking(name: str = "pod-1", annotations: dict[str, str] | None = None, **limits: Any) -> dict[str, Any]:
    """A pod of one container."""
    texts = {key: str(value) for key, value in limits.items()}
    return a_pod(name, containers=[{"name": "main", "resources": {"limits": texts}}], annotations=annotations or {})


@dataclass
class Outcome:
    """What became of a pod: refused by the webhook, refused by the scheduler, or bound."""

    refused: str = ""
    misfit: str = ""
    warnings: tuple[str, ...] = ()
    stored: dict[str, Any] = field(default_factory=dict)
    slices: list[tuple[str, str, int, int]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def limits(self) -> dict[str, str]:
        """What is stored as limits of the first container."""
        return self.stored["spec"]["containers"][0]["resources"]["limits"]


class Shop:
    """A cluster with nodes of any vendor, and the scheduler in front of it."""

    def __init__(self, *nodes: dict[str, Any], vendors: tuple[Vendor, ...] = VENDORS) -> None:
        self.vendors = vendors
        self.kube = FakeKube(*nodes)
        self.store = Store(SchedulingPolicy(), vendors)
        load(self.store, nodes, [])
        metrics = SchedulerMetrics.build(Metrics())
        self.verbs = Verbs(self.store.desk, metrics)
        self.binder = Binder(self.store, self.kube, metrics, Office())

    def take(self, pod: dict[str, Any]) -> Outcome:
        """Admit, place and bind one pod."""
        answer = mutate(a_review(pod), Settings(self.vendors))
        if not answer.allowed:
            return Outcome(refused=answer.message)
        stored = apply(pod, answer.patch)
        self.kube.put(stored)
        self.store.feed.apply_pod("ADDED", stored)
        names = self.store.desk.node_names()
        query = json.dumps({"Pod": stored, "NodeNames": names}).encode()
        found = json.loads(self.verbs.filter(query))
        if not found["NodeNames"]:
            said = {**found["FailedNodes"], **found["FailedAndUnresolvableNodes"]}
            return Outcome(misfit="; ".join(said.values()), warnings=answer.warnings, stored=stored)
        meta = stored["metadata"]
        problem = asyncio.run(
            self.binder.bind(BindQuery(meta["namespace"], meta["name"], meta["uid"], found["NodeNames"][0]))
        )
        if problem:
            return Outcome(misfit=problem, warnings=answer.warnings, stored=stored)
        return self._bound(meta, answer.warnings, stored)

    def _bound(self, meta: dict[str, Any], warnings: tuple[str, ...], stored: dict[str, Any]) -> Outcome:
        pod = self.kube.get(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}")
        self.store.feed.apply_pod("MODIFIED", pod)
        before, notes = meta.get("annotations") or {}, pod["metadata"]["annotations"]
        grant = parse_grant(notes[GRANT])
        slices = [(s.card, s.vendor, s.memory_mib, s.cores) for c in grant.containers for s in c.slices]
        fresh = {key: text for key, text in notes.items() if before.get(key) != text and key not in COMMON | {GRANT}}
        return Outcome("", "", warnings, stored, slices, fresh)

    def unlock(self, node: str = "n", key: str = "hami.io/mutex.lock") -> None:
        """What a plugin does once it has served the pod of the lock."""
        self.kube.patch(f"/api/v1/nodes/{node}", {"metadata": {"annotations": {key: None}}})
