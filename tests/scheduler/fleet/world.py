"""A fleet of fake API servers with a toy scheduler in each, and a manager that may die at any write."""

import base64
import copy
import json
from dataclasses import dataclass, field
from typing import Any

from kerf.config.prices import read_prices
from kerf.kube.errors import Unreachable
from kerf.testing.builders import a_container, a_node, cards_of
from kerf.testing.fake_kube import FakeKube
from kerf.values.allocator import Allocator
from kerf.values.fleet import FleetSettings
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.fleet import LABEL_CLUSTER, LABEL_EPOCH
from kerf.wire.json import at
from scheduler.core.place import place
from scheduler.core.preference import wished
from scheduler.fleet.manager import Manager
from scheduler.fleet.member import fleet_pods
from scheduler.fleet.neighbours import Neighbour, Neighbourhood
from scheduler.state.store import Store, load

SETTINGS = FleetSettings(lost_after_s=30, stale_after_s=10, back_off_s=20, move_saving_percent=100)
API = "kerf.dev/v1alpha1"
APPS = "/apis/apps/v1/deployments"
PRICES = read_prices(None)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
NAMES = tuple(vendor.words for vendor in VENDORS)


class Killed(BaseException):
    """The manager's process ends."""


@dataclass
class Cluster:
    """One member: its API server, whether the manager reaches it, and what its own controllers do."""

    name: str
    nodes: int
    cards: int = 4
    model: str = "NVIDIA H100 80GB HBM3"
    up: bool = True
    kube: FakeKube = field(default_factory=FakeKube)
    clock: "Clock" = field(default_factory=lambda: Clock())  # noqa: PLW0108
    last: float = 0.0

    def __post_init__(self) -> None:
        for node in self.nodes_of():
            self.kube.put(node)
        self.kube.fail = self._fail

    def nodes_of(self) -> list[dict[str, Any]]:
        names = [f"{self.name}-{i}" for i in range(self.nodes)]
        return [a_node(name, cards_of(name, self.cards, model=self.model, allocator=self.allocator)) for name in names]

    def _fail(self, method: str, path: str) -> None:
        if not self.up and not self.inside:
            raise Unreachable(f"{method} {path}: {self.name} does not answer")

    inside: bool = False

    # ---- scheduler.fleet.member.Member
    def answered(self) -> float:
        if self.up:
            self.last = self.clock.now
        return self.last

    def seen(self) -> Any:
        store = self.store()
        pods = fleet_pods(self.pods(), "kerf", self.name, store) if self.up else self.frozen
        self.frozen = pods
        return tuple(store.desk.nodes()), store.desk.states(), tuple(pods)

    def neighbours(self) -> dict[Neighbour, frozenset[str]]:
        found = Neighbourhood()
        found.replace(self.pods() if self.up else [])
        return found.seen()

    def knows_claims(self) -> bool:
        return self.reads_claims

    def lacks(self) -> tuple[str, ...]:
        return self.missing

    missing: tuple[str, ...] = ()
    reads_claims: bool = True
    allocator: Allocator = Allocator.EXTENDER
    frozen: list[Any] = field(default_factory=list)

    def stop(self) -> None:
        pass

    # ---- the cluster's own life
    def store(self) -> Store:
        store = Store(SchedulingPolicy(), VENDORS, check_node=True)
        load(store, self.kube.objects("/api/v1/nodes/"), self.pods())
        return store

    def pods(self) -> list[dict[str, Any]]:
        return [o for o in self.kube.objects("/api/v1/namespaces/") if o.get("kind") == "Pod"]

    def objects(self) -> list[dict[str, Any]]:
        """What was handed over: Deployments and LeaderWorkerSets, and what MultiKueue would copy while it can."""
        if self.queued_at is not None and self.up:
            self.copied = [o for o in _handed_over(self.queued_at) if self._is_mine(o)]
        direct = [o for o in _handed_over(self.kube) if LABEL_CLUSTER not in o["metadata"]["labels"]]
        return [*direct, *self.copied]

    def _is_mine(self, item: dict[str, Any]) -> bool:
        return bool(item["metadata"]["labels"].get(LABEL_CLUSTER) == self.name)

    queued_at: FakeKube | None = None
    """The manager cluster, where MultiKueue connects the two."""
    copied: list[dict[str, Any]] = field(default_factory=list)

    def live(self) -> None:
        """One round of its controllers and its scheduler: pods for Deployments, places for pods."""
        self.inside = True
        owned: dict[str, list[dict[str, Any]]] = {}
        for pod in self.pods():
            if owner := pod["metadata"]["labels"].get("owner"):  # the others are not the fleet's
                owned.setdefault(owner, []).append(pod)
        objects = {o["metadata"]["name"]: o for o in self.objects()}
        for name, pods in owned.items():
            wanted = pods_of(objects[name]) if name in objects else 0
            for pod in sorted(pods, key=lambda p: bool(p["spec"].get("nodeName")))[: max(0, len(pods) - wanted)]:
                self.kube.remove(f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}")
        for name, item in objects.items():
            have = {pod["metadata"]["name"] for pod in owned.get(name, [])}
            for _ in range(pods_of(item) - min(len(have), pods_of(item))):
                free = next(n for n in range(1000) if f"{name}-{n}" not in have)
                have.add(f"{name}-{free}")
                self._create(item, f"{name}-{free}")
        self._schedule()
        self.inside = False

    def _create(self, item: dict[str, Any], name: str) -> None:
        group = item["spec"].get("leaderWorkerTemplate")
        pod = copy.deepcopy(group["workerTemplate"] if group else item["spec"]["template"])
        meta = pod["metadata"]
        meta |= {"name": name, "namespace": item["metadata"]["namespace"], "uid": f"{self.name}-{name}"}
        meta["labels"] = {**meta["labels"], "owner": item["metadata"]["name"]}
        self.kube.put({"apiVersion": "v1", "kind": "Pod", **pod, "status": {"phase": "Pending"}})

    def _barred(self, pod: dict[str, Any]) -> set[str]:
        """The nodes on which kube-scheduler would not put it, because of the pods that are there."""
        return {p["spec"].get("nodeName", "") for p in self.pods() if shuns(pod, p) or shuns(p, pod)}

    def _schedule(self) -> None:
        for pod in self.pods():
            if pod["spec"].get("nodeName"):
                continue
            store = self.store()
            ask, _ = store.desk.read(pod)
            for state in store.desk.states():
                if state.name in self._barred(pod):
                    continue
                grant = place(ask, state, *wished(ask, SchedulingPolicy()))
                if isinstance(grant, Grant):
                    pod["spec"]["nodeName"] = state.name
                    pod["metadata"]["annotations"][GRANT] = render_grant(grant)
                    pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                    self.kube.put(pod)
                    break


def shuns(pod: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether required anti-affinity of one namespace, by `matchLabels`, keeps another pod off the node."""
    terms = at(pod, "spec", "affinity", "podAntiAffinity").get(REQUIRED) or []
    selectors = [at(term, "labelSelector", "matchLabels").items() for term in terms]
    here = pod["metadata"]["namespace"] == other["metadata"]["namespace"]
    return here and any(rules and rules <= other["metadata"]["labels"].items() for rules in selectors)


def _handed_over(kube: FakeKube) -> list[dict[str, Any]]:
    return [*kube.objects("/apis/apps/v1/"), *kube.objects("/apis/leaderworkerset.x-k8s.io/v1/")]


def pods_of(item: dict[str, Any]) -> int:
    """How many pods the object's controller makes; it makes and removes the pods of a group together."""
    return int(item["spec"]["replicas"] * item["spec"].get("leaderWorkerTemplate", {"size": 1})["size"])


@dataclass
class Clock:
    now: float = 1_764_000_000.0

    def __call__(self) -> float:
        return self.now


class World:
    """The manager's API server, its clusters, and the manager, which `restart` replaces."""

    def __init__(self, *clusters: Cluster, settings: FleetSettings = SETTINGS) -> None:
        self.clock = Clock()
        self.home = FakeKube()
        self.clusters = {cluster.name: cluster for cluster in clusters}
        self.policy = SchedulingPolicy(fleet=settings)
        for cluster in clusters:
            cluster.clock = self.clock
            self.join(cluster.name)
        self.manager = self.restart()

    def join(self, name: str, **spec: Any) -> None:
        found = self.home.objects(f"/apis/{API}/clusters/{name}")
        kept = {"status": found[0]["status"]} if found and "status" in found[0] else {}
        meta = {"name": name}
        body = {"apiVersion": API, "kind": "Cluster", "metadata": meta, "spec": {"supply": "owned", **spec}, **kept}
        self.home.put(body)
        config = base64.b64encode(json.dumps({"users": [], "clusters": []}).encode()).decode()
        meta = {"name": f"kerf-cluster-{name}", "namespace": "kerf-system"}
        self.home.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"kubeconfig": config}})

    def restart(self) -> Manager:
        self.manager = Manager(
            self.home,
            lambda name, _: self.clusters[name],
            lambda: (self.policy, PRICES),
            NAMES,
            clock=self.clock,
        )
        return self.manager

    def ask(self, name: str, replicas: int, **spec: Any) -> None:
        template = spec.pop("template", {"spec": {"containers": [a_container(mem=40_000, cores=50)]}})
        meta = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
        body = {"replicas": replicas, "template": template, **spec}
        self.home.put({"apiVersion": API, "kind": "FleetWorkload", "metadata": meta, "spec": body})

    def ask_again(self, name: str, replicas: int) -> None:
        item = self.home.get(f"/apis/{API}/namespaces/default/fleetworkloads/{name}")
        self.home.put({**item, "spec": {**item["spec"], "replicas": replicas}})

    def round(self, seconds: float = 2.0, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.clock.now += seconds
            self.manager.run_once()
            for cluster in self.clusters.values():
                cluster.live()

    def status(self, name: str) -> dict[str, Any]:
        return self.home.get(f"/apis/{API}/namespaces/default/fleetworkloads/{name}").get("status") or {}

    def record(self, cluster: str) -> dict[str, Any]:
        return self.home.get(f"/apis/{API}/clusters/{cluster}").get("status") or {}

    def running(self, name: str) -> dict[str, int]:
        """Pods of a workload that are bound, by cluster."""
        found = {}
        for cluster in self.clusters.values():
            cluster.inside = True
            pods = [
                pod
                for pod in cluster.pods()
                if pod["metadata"]["labels"].get("owner", "").startswith(name) and pod["spec"].get("nodeName")
            ]
            cluster.inside = False
            if pods:
                found[cluster.name] = len(pods)
        return found

    def epochs(self, cluster: str) -> set[str]:
        return {pod["metadata"]["labels"][LABEL_EPOCH] for pod in self.clusters[cluster].pods()}


__all__ = ["API", "APPS", "Clock", "Cluster", "ContainerGrant", "Killed", "Slice", "World"]
