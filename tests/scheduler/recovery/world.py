"""A cluster in memory whose cards fail, and the leader's recovery in it."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from kerf.kube.errors import Busy
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_card, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.device import Card
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.health import Health, State
from kerf.values.policy import SchedulingPolicy
from kerf.values.recovery import RecoveryMode, RecoverySettings
from kerf.vendors.registry import VENDORS
from scheduler.metrics import RecoveryMetrics
from scheduler.recovery.controller import SETTLE_S, Recovery
from scheduler.state.store import Store

NOW = 1_764_000_000
RECOVER = SchedulingPolicy(recovery=RecoverySettings(mode=RecoveryMode.RECOVER))


def lost(at: int = NOW, **changes: Any) -> Health:
    fields: dict[str, Any] = {"cause": "XID 79 (GPU has fallen off the bus)", "since": at, "code": 79, "moves": True}
    return Health(State.CORDONED, **{**fields, **changes})


def broken(at: int = NOW) -> Health:
    """A card that needs a reset while its tenants may stay."""
    return Health(State.CORDONED, "XID 64 (row remapping failure)", at, 64)


def card_id(node: str, index: int) -> str:
    return f"GPU-{node}-{index}"


@dataclass
class Heard:
    """Events that were emitted."""

    said: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def emit(self, about: Any, reason: str, message: str, kind: str = "Warning", annotations: Any = None) -> None:
        self.said.append((about["name"], message, annotations or {}))


@dataclass
class World:
    """Nodes of four cards each. Every change reaches the scheduler at once, as its watches would."""

    policy: SchedulingPolicy = RECOVER
    nodes: dict[str, list[Card]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    budgets: set[str] = field(default_factory=set)
    """Names of pods that a PodDisruptionBudget holds."""
    now: float = NOW

    def __post_init__(self) -> None:
        self.kube = FakeKube()
        self.kube.fail = self._refuse
        self.events = Heard()
        self.gone: list[str] = []
        self.monotonic = 0.0
        self.metrics = RecoveryMetrics.build(Metrics())
        self.lead()

    # ---- what happens
    def lead(self) -> None:
        """A new leader, with all that the cluster says and nothing else."""
        self.store = Store(self.policy, VENDORS, clock=lambda: self.monotonic)
        self.recovery = Recovery(self.store, self.kube, self.events, self.metrics, "kerf-system", lambda: self.now)
        self.recovery._movers._clock = lambda: self.monotonic
        for item in (*self.kube.objects("/api/v1/nodes"), *self.pods()):
            self._see(item)

    def node(self, name: str, cards: int = 4) -> "World":
        self.nodes[name] = [a_card(i, id=card_id(name, i), bus=f"0000:{i:02x}:00") for i in range(cards)]
        self._publish(name)
        return self

    def fail(self, name: str, index: int, health: Health) -> None:
        self.nodes[name][index] = replace(self.nodes[name][index], health=health)
        self._publish(name)

    def run(self, name: str, node: str, *cards: int, mib: int = 20_000, **changes: Any) -> dict[str, Any]:
        """A running pod with a slice of each card."""
        slices = tuple(Slice(card_id(node, index), "nvidia", mib, 10) for index in cards)
        pod = a_pod(name, node=node, grant=Grant((ContainerGrant("main", slices),)), gpu=len(cards), mem=mib, cores=10,
                    **changes)  # fmt: skip
        return self.put(pod)

    def put(self, item: dict[str, Any]) -> dict[str, Any]:
        stored = self.kube.put(item)
        self._see(stored)
        return stored

    def round(self, seconds: float = 0.0) -> list[str]:
        """What recovery does after so many seconds; the names of the pods that are gone by then, all in all."""
        self.wait(seconds)
        self.recovery.run_once()
        self.wait(SETTLE_S)  # faults that it has just seen are acted upon
        self.recovery.run_once()
        self.take_evictions()
        return sorted(self.gone)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.monotonic += seconds

    def take_evictions(self) -> None:
        """What the API server and the kubelet do after accepted evictions and deletions."""
        for path in [path for path in self._accepted() if path]:
            namespace, name = path.split("/")[4], path.split("/")[6]
            where = f"/api/v1/namespaces/{namespace}/pods/{name}"
            if name in self.running():
                self.kube.remove(where)
            if name not in self.gone:
                self.gone.append(name)
                gone = next(b.uid for b in self.store.ledger.bookings() if b.key == f"{namespace}/{name}")
                self.store.feed.apply_pod("DELETED", {"metadata": {"uid": gone}})
        self._sync()

    # ---- what is seen
    def pods(self) -> list[dict[str, Any]]:
        return [one for one in self.kube.objects("/api/v1/namespaces") if one["kind"] == "Pod"]

    def running(self) -> list[str]:
        return sorted(one["metadata"]["name"] for one in self.pods())

    def cordoned(self, node: str) -> str | None:
        found = self.kube.get(f"/api/v1/nodes/{node}")["metadata"]["annotations"].get("kerf.dev/fault-cordon")
        return None if found is None else str(found)

    def condition(self, node: str) -> str | None:
        found = self.kube.get(f"/api/v1/nodes/{node}").get("status", {}).get("conditions") or []
        return next((str(one["status"]) for one in found if one["type"] == "KerfRecoveryPaused"), None)

    def evictions(self) -> list[str]:
        """The pods whose evictions were asked for, in order."""
        return [path.split("/")[6] for method, path in self.kube.writes if path.endswith("/eviction")]

    # ---- inside
    def _refuse(self, method: str, path: str) -> None:
        if path.endswith("/eviction") and path.split("/")[6] in self.budgets:
            raise Busy(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")

    def _accepted(self) -> list[str]:
        return [
            path.removesuffix("/eviction")
            for method, path in self.kube.writes
            if (path.endswith("/eviction") and path.split("/")[6] not in self.budgets)
            or (method == "DELETE" and "/pods/" in path)
        ]

    def _publish(self, name: str) -> None:
        known = next((one for one in self.kube.objects("/api/v1/nodes") if one["metadata"]["name"] == name), None)
        kept = dict(known["metadata"]["annotations"]) if known else {}
        kept.pop("kerf.dev/inventory", None)
        item = a_node(name, tuple(self.nodes[name]), **kept)
        item["metadata"]["labels"] = dict(self.labels)
        if known:
            item["status"] = {**item["status"], "conditions": known["status"].get("conditions", [])}
        self.put(item)

    def _sync(self) -> None:
        for item in self.kube.objects("/api/v1/nodes"):
            self._see(item)

    def _see(self, item: dict[str, Any]) -> None:
        if item["kind"] == "Node":
            self.store.feed.apply_node("MODIFIED", item)
        else:
            self.store.feed.apply_pod("MODIFIED", item)


def owned(uid: str, kind: str = "ReplicaSet", api: str = "apps/v1", name: str = "owner") -> list[dict[str, Any]]:
    return [{"apiVersion": api, "kind": kind, "name": name, "uid": uid, "controller": True}]


def with_owner(pod: dict[str, Any], owners: list[dict[str, Any]]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(pod))
    copied["metadata"]["ownerReferences"] = owners
    return copied
