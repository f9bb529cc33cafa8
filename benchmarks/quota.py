"""`make bench-quota`: how fast the real Kueue admits waiting pods, with quota by hand and with quota by Kerf.

Both runs see the same nodes, the same kube-scheduler and Kerf's extender; pods carry the totals that the webhook would
write. By hand: one ClusterQueue whose quota is raised by one `apply`. By Kerf: a TenantQuota without cards, to which
cards come (the nodes' inventories), so the controller raises the quota, and every workload passes the fit check. The
clock runs from the moment of the change to the last admission.
The last line is one JSON object: {"kerf_workloads_per_s", "manual_workloads_per_s", "ratio", "overcommitted"}.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from kerf.kube.client import KubeClient, connect
from kerf.model.quota import class_of
from kerf.sandbox import CONTROL_PLANE, ControlPlane, Extender, FakeNode, ensure, free_ports, invariants, run_directory
from kerf.sandbox.crds import install_crds
from kerf.sandbox.kueue import start_kueue
from kerf.sandbox.stack import start_extender
from kerf.testing.builders import a_card, a_container, cards_of
from kerf.vendors.registry import NAMES
from kerf.wire.inventory import render_inventory
from kerf.wire.kueue import QUEUE_LABEL, ROOT, VERSION, is_true
from kerf.wire.quota import PATH

CARDS_A_NODE = 8
PODS_A_CARD = 5
MIB = 81_559 // PODS_A_CARD
CORES = 100 // PODS_A_CARD
SLUG = class_of(a_card()).slug
Json = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Run both and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=500)
    args = parser.parse_args(argv)
    nodes = -(-args.pods // (CARDS_A_NODE * PODS_A_CARD))
    parts = ensure(
        (*CONTROL_PLANE, "kwok", "kueue"), lambda p: print(f"building {p.parts}: {p.elapsed:.0f} s", file=sys.stderr)
    )
    with run_directory() as run_dir, ControlPlane.start(run_dir, parts) as cp:
        kube = connect(str(cp.kubeconfig), timeout_s=60.0)
        cp.start_kwok()
        start_kueue(cp)
        install_crds(cp)
        start_scheduling(cp)
        manual = run(kube, args.pods, Manual(cp, kube, nodes))
        print(f"quota by hand: {manual:.1f} workloads/s", flush=True)
        kerf = run(kube, args.pods, ByKerf(cp, kube, nodes))
        print(f"quota by Kerf, fit-checked: {kerf:.1f} workloads/s", flush=True)
        over = len(invariants.overcommitted(kube.list("/api/v1/nodes")[0], kube.list("/api/v1/pods")[0]))
    result = {
        "kerf_workloads_per_s": round(kerf, 1),
        "manual_workloads_per_s": round(manual, 1),
        "ratio": round(kerf / manual, 3),
        "overcommitted": over,
    }
    print(json.dumps(result))
    return 0


class Manual:
    """A ClusterQueue as people write it."""

    namespace, queue = "manual", "manual"

    def __init__(self, cp: ControlPlane, kube: KubeClient, nodes: int) -> None:
        self._cp, self._kube = cp, kube
        self._full = nodes * CARDS_A_NODE
        self._nodes = [fake_node(f"manual-{i:02}", {f"class.kerf.dev/{SLUG}": "true"}) for i in range(nodes)]

    def prepare(self) -> None:
        """Cards, and a queue without quota."""
        self._cp.add_fake_nodes(self._nodes, seconds=120)
        flavor = {"nodeLabels": {f"class.kerf.dev/{SLUG}": "true"}}
        apply(self._kube, "ResourceFlavor", "resourceflavors", "by-hand", flavor)
        self._quota(0)
        local = {"metadata": {"name": self.queue, "namespace": self.namespace}, "spec": {"clusterQueue": "by-hand"}}
        path = f"{ROOT}/namespaces/{self.namespace}/localqueues"
        self._kube.create(path, {"apiVersion": VERSION, "kind": "LocalQueue", **local})

    def change(self) -> None:
        """Quota for every card."""
        self._quota(self._full)

    def clean(self) -> None:
        """Leave room for the next run."""
        for node in self._nodes:
            self._kube.delete(f"/api/v1/nodes/{node.name}")

    def _quota(self, cards: int) -> None:
        amounts = (81_559 * cards, 100 * cards, 10 * cards)
        resources = [{"name": n, "nominalQuota": str(a)} for n, a in zip(NAMES[0].quota, amounts, strict=True)]
        groups = [{"coveredResources": list(NAMES[0].quota), "flavors": [{"name": "by-hand", "resources": resources}]}]
        spec = {"namespaceSelector": {}, "resourceGroups": groups}
        apply(self._kube, "ClusterQueue", "clusterqueues", "by-hand", spec)


class ByKerf:
    """A TenantQuota; the cards come when the clock starts."""

    namespace, queue = "tenant", "kerf"

    def __init__(self, cp: ControlPlane, kube: KubeClient, nodes: int) -> None:
        self._cp, self._kube, self._count = cp, kube, nodes

    def prepare(self) -> None:
        """Nodes whose cards are sick, and a tenant that is promised all of them."""
        self._cp.add_fake_nodes([fake_node(name, {}, healthy=False) for name in self._names()], seconds=120)
        spec = {
            "namespaces": [self.namespace],
            "classes": [{"model": "H100", "guaranteed": f"{self._count * CARDS_A_NODE} cards"}],
        }
        body = {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "tenant"}, "spec": spec}
        self._kube.create(PATH, body)
        path = f"{ROOT}/namespaces/{self.namespace}/localqueues"
        wait(lambda: bool(self._kube.list(path)[0]), "the tenant's queue")

    def change(self) -> None:
        """The cards recover."""
        for name in self._names():
            notes = fake_node(name, {}).annotations
            self._kube.patch(f"/api/v1/nodes/{name}", {"metadata": {"annotations": dict(notes)}})

    def clean(self) -> None:
        """Nothing runs afterwards."""

    def _names(self) -> list[str]:
        return [f"tenant-{i:02}" for i in range(self._count)]


def run(kube: KubeClient, count: int, way: Manual | ByKerf) -> float:
    """Workloads admitted a second, from the change of quota to the last admission."""
    kube.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": way.namespace}})
    way.prepare()
    pods = f"/api/v1/namespaces/{way.namespace}/pods"
    workloads = f"{ROOT}/namespaces/{way.namespace}/workloads"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: kube.create(pods, pod(i, way.queue)), range(count)))
    wait(lambda: len(kube.list(workloads)[0]) == count, "every workload to be there")
    items, version = kube.list(workloads)
    assert not any(is_true(item, "Admitted") for item in items), "there was quota before the clock started"
    started = time.monotonic()
    way.change()
    last = admissions(kube, workloads, version, count)
    bound = {"fieldSelector": "spec.nodeName="}
    wait(lambda: not kube.list(pods, bound)[0], "every pod to be bound")
    if isinstance(way, Manual):
        while kube.list(pods)[0]:
            kube.delete(pods, {"gracePeriodSeconds": 0})
            time.sleep(0.5)
    way.clean()
    return count / (last - started)


def admissions(kube: KubeClient, path: str, version: str, count: int) -> float:
    """The moment of the last of `count` admissions, as a watch tells it."""
    admitted: set[str] = set()
    deadline = time.monotonic() + 600
    last = 0.0
    while len(admitted) < count:
        for _, item in kube.watch(path, version, timeout_s=30):
            version = item["metadata"]["resourceVersion"]
            name = item["metadata"].get("name", "")
            if is_true(item, "Admitted") and name not in admitted:
                admitted.add(name)
                last = time.monotonic()
            if len(admitted) == count:
                break
        if time.monotonic() > deadline:
            raise SystemExit(f"only {len(admitted)} of {count} workloads were admitted within 600 s")
    return last


def start_scheduling(cp: ControlPlane) -> None:
    """Kerf's extender with Kueue as its engine, and kube-scheduler."""
    settings = {"quota": {"engine": "kueue", "shrinkAfterSeconds": 0}}
    policy = Path(tempfile.mkdtemp(dir=cp.run_dir)) / "policy.yaml"
    document = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": settings}
    policy.write_text(yaml.safe_dump(document))
    (port,) = free_ports(1)
    start_extender(cp, port, ("--config", str(policy), "--log-level", "warning"))
    cp.start_scheduler(Extender(f"http://127.0.0.1:{port}"))


def fake_node(name: str, labels: Json, *, healthy: bool = True) -> FakeNode:
    """A kwok node with eight cards."""
    notes = {"kerf.dev/inventory": render_inventory(cards_of(name, CARDS_A_NODE, healthy=healthy))}
    plenty = dict.fromkeys(NAMES[0].ignored, "2147483647")
    return FakeNode(name, notes, labels, {"nvidia.com/gpu": str(10 * CARDS_A_NODE), **plenty})


def pod(number: int, queue: str) -> Json:
    """A fifth of a card, with its totals."""
    container = a_container(mem=MIB, cores=CORES)
    totals = dict(zip(NAMES[0].quota, (str(MIB), str(CORES), "1"), strict=True))
    limits = {**container["resources"]["limits"], **totals}
    container["resources"] = {"limits": limits, "requests": limits}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"bench-{number:05}", "labels": {QUEUE_LABEL: queue}},
        "spec": {
            "schedulerName": "kerf-scheduler",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }


def apply(kube: KubeClient, kind: str, plural: str, name: str, spec: Json) -> None:
    """Server-side apply of a cluster-wide Kueue object, as a person would."""
    body = {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    kube.patch(f"{ROOT}/{plural}/{name}", body, "apply", {"fieldManager": "by-hand", "force": "true"})


def wait(condition: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    """Poll; SystemExit when time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
