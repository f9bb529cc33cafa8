"""`make bench-quota`: how fast the real Kueue admits pending pods, with quota written by hand and by Kerf.

All runs use equal nodes, the same kube-scheduler and Kerf's extender. Pods carry the totals that the webhook would
write. By hand: one `apply` raises the quota of a ClusterQueue. By Kerf: a TenantQuota starts without cards, the nodes
publish their inventories, and the controller raises the quota. Each runs once without and once with an admission
check: by hand, a check that accepts everything, which measures the cost of Kueue's own checks; by Kerf, the fit check.
The clock runs from the change to the last admission.
The last line is one JSON object: workloads/s of the four, `ratio` = Kerf / by hand, `checked_ratio` = the same with
checks, and `overcommitted` cards.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from kerf.kube.client import KubeClient, connect
from kerf.kube.watch import Follower
from kerf.testing.builders import a_card, a_container, cards_of
from kerf.values.health import HEALTHY, SUSPECT
from kerf.values.quota import class_of
from kerf.vendors.registry import NAMES
from kerf.wire.inventory import render_inventory
from kerf.wire.kueue import QUEUE_LABEL, ROOT, VERSION, is_true
from kerf.wire.quota import PATH
from sandbox import CONTROL_PLANE, ControlPlane, Extender, FakeNode, ensure, free_ports, invariants, run_directory
from sandbox.crds import install_crds
from sandbox.kueue import start_kueue
from sandbox.stack import start_extender

CARDS_A_NODE = 8
PODS_A_CARD = 5
MIB = 81_559 // PODS_A_CARD
CORES = 100 // PODS_A_CARD
SLUG = class_of(a_card()).slug
AGREEING = "agreeing"
Json = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Measure all four and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=500)
    args = parser.parse_args(argv)
    parts = ensure(
        (*CONTROL_PLANE, "kwok", "kueue"), lambda p: print(f"building {p.parts}: {p.elapsed:.0f} s", file=sys.stderr)
    )
    rates, over = {}, 0
    with run_directory() as run_dir, ControlPlane.start(run_dir, parts) as cp:
        kube = connect(str(cp.kubeconfig), timeout_s=60.0)
        cp.start_kwok()
        start_kueue(cp)
        install_crds(cp)
        policy = start_scheduling(cp)
        cards = -(-args.pods // (CARDS_A_NODE * PODS_A_CARD)) * CARDS_A_NODE
        for checked in (False, True):
            for way in (Manual(cp, kube, cards, checked=checked), ByKerf(cp, kube, cards, policy, checked=checked)):
                rates[way.name] = run(kube, args.pods, way)
                over += len(invariants.overcommitted(kube.list("/api/v1/nodes")[0], kube.list("/api/v1/pods")[0]))
                clean(kube, way)
                print(f"{way.what}: {rates[way.name]:.1f} workloads/s", flush=True)
    result: Json = {f"{name.replace('-', '_')}_workloads_per_s": round(rate, 1) for name, rate in rates.items()}
    result["ratio"] = round(rates["kerf"] / rates["manual"], 3)
    result["checked_ratio"] = round(rates["kerf-checked"] / rates["manual-checked"], 3)
    print(json.dumps({**result, "overcommitted": over}))
    return 0


class Manual:
    """A ClusterQueue written by hand."""

    def __init__(self, cp: ControlPlane, kube: KubeClient, cards: int, *, checked: bool) -> None:
        self._cp, self._kube, self._cards, self._checked = cp, kube, cards, checked
        self.name = self.queue = "manual-checked" if checked else "manual"
        self.what = "quota by hand, a check that accepts everything" if checked else "quota by hand"
        labels = {f"class.kerf.dev/{SLUG}": "true"}
        self.nodes = [fake_node(f"{self.name}-{i:02}", labels) for i in range(cards // CARDS_A_NODE)]

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Create cards, and a queue without quota."""
        self._cp.add_fake_nodes(self.nodes, seconds=120)
        apply(self._kube, "ResourceFlavor", "resourceflavors", "by-hand", {"nodeLabels": self.nodes[0].labels})
        with agreeing(self._kube) if self._checked else nullcontext():
            self._quota(0)
            local = {"metadata": {"name": self.queue, "namespace": self.name}, "spec": {"clusterQueue": self.name}}
            path = f"{ROOT}/namespaces/{self.name}/localqueues"
            self._kube.create(path, {"apiVersion": VERSION, "kind": "LocalQueue", **local})
            yield

    def change(self) -> None:
        """Raise the quota to every card."""
        self._quota(self._cards)

    def _quota(self, cards: int) -> None:
        amounts = (81_559 * cards, 100 * cards, 10 * cards)
        resources = [{"name": n, "nominalQuota": str(a)} for n, a in zip(NAMES[0].quota, amounts, strict=True)]
        groups = [{"coveredResources": list(NAMES[0].quota), "flavors": [{"name": "by-hand", "resources": resources}]}]
        checks = {"admissionChecksStrategy": {"admissionChecks": [{"name": AGREEING}]}} if self._checked else {}
        spec = {"namespaceSelector": {}, "resourceGroups": groups, **checks}
        apply(self._kube, "ClusterQueue", "clusterqueues", self.name, spec)


class ByKerf:
    """A TenantQuota whose cards recover when the clock starts."""

    def __init__(self, cp: ControlPlane, kube: KubeClient, cards: int, policy: Path, *, checked: bool) -> None:
        self._cp, self._kube, self._policy, self._checked, self._cards = cp, kube, policy, checked, cards
        self.name, self.queue = "kerf-checked" if checked else "kerf", "kerf"
        self.what = "quota by Kerf, fit-checked" if checked else "quota by Kerf"
        self.nodes = [fake_node(f"{self.name}-{i:02}", {}) for i in range(cards // CARDS_A_NODE)]

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Create nodes with unhealthy cards, and a tenant that is guaranteed all of them."""
        write_policy(self._policy, fit_check=self._checked)
        self._cp.add_fake_nodes([fake_node(node.name, {}, healthy=False) for node in self.nodes], seconds=120)
        spec = {
            "namespaces": [self.name],
            "classes": [{"model": "H100", "guaranteed": f"{self._cards} cards"}],
        }
        body = {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": self.name}, "spec": spec}
        self._kube.create(PATH, body)
        wait(self._queue_is_there, "the tenant's queue")
        yield
        self._kube.delete(f"{PATH}/{self.name}")

    def _queue_is_there(self) -> bool:
        queues, _ = self._kube.list(f"{ROOT}/clusterqueues", {"fieldSelector": f"metadata.name={self.name}"})
        local, _ = self._kube.list(f"{ROOT}/namespaces/{self.name}/localqueues")
        return bool(local) and all(("admissionChecksStrategy" in q["spec"]) == self._checked for q in queues)

    def change(self) -> None:
        """Let the cards recover."""
        for node in self.nodes:
            self._kube.patch(f"/api/v1/nodes/{node.name}", {"metadata": {"annotations": dict(node.annotations)}})


@contextmanager
def agreeing(kube: KubeClient) -> Iterator[None]:
    """An admission check that answers Ready to every workload with quota, eight at a time like Kerf's."""
    path = f"{ROOT}/admissionchecks/{AGREEING}"
    apply(kube, "AdmissionCheck", "admissionchecks", AGREEING, {"controllerName": "example.com/agreeing"})
    active = {"type": "Active", "status": "True", "reason": "Serving", "message": "", "lastTransitionTime": now()}
    kube.patch(f"{path}/status", {"status": {"conditions": [active]}})
    said: set[str] = set()

    def agree(workload: Json) -> None:
        meta = workload["metadata"]
        check = {"name": AGREEING, "state": "Ready", "message": "", "lastTransitionTime": now()}
        named = {"name": meta["name"], "namespace": meta["namespace"]}
        body = {"apiVersion": VERSION, "kind": "Workload", "metadata": named, "status": {"admissionChecks": [check]}}
        where = f"{ROOT}/namespaces/{meta['namespace']}/workloads/{meta['name']}/status"
        kube.patch(where, body, "apply", {"fieldManager": "agreeing", "force": "true"})

    def changed(_: str, workload: Json) -> None:
        uid = workload["metadata"]["uid"]
        if is_true(workload, "QuotaReserved") and uid not in said:
            said.add(uid)
            pool.submit(agree, workload)

    def listed(workloads: list[Json]) -> None:
        for workload in workloads:
            changed("ADDED", workload)

    follower = Follower(kube, f"{ROOT}/workloads", listed, changed)
    with ThreadPoolExecutor(8) as pool:
        follower.start()
        yield
        follower.stop()


def run(kube: KubeClient, count: int, way: Manual | ByKerf) -> float:
    """Workloads admitted per second, from the change of quota to the last admission."""
    kube.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": way.name}})
    pods = f"/api/v1/namespaces/{way.name}/pods"
    workloads = f"{ROOT}/namespaces/{way.name}/workloads"
    with way.ready():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: kube.create(pods, pod(i, way.queue)), range(count)))
        wait(lambda: len(kube.list(workloads)[0]) == count, "every workload to be there")
        items, version = kube.list(workloads)
        assert not any(is_true(item, "Admitted") for item in items), "there was quota before the clock started"
        started = time.monotonic()
        way.change()
        last = admissions(kube, workloads, version, count)
        wait(lambda: not kube.list(pods, {"fieldSelector": "spec.nodeName="})[0], "every pod to be bound")
    return count / (last - started)


def clean(kube: KubeClient, way: Manual | ByKerf) -> None:
    """Clean up for the next run."""
    pods = f"/api/v1/namespaces/{way.name}/pods"
    while kube.list(pods)[0]:
        kube.delete(pods, {"gracePeriodSeconds": 0})
        time.sleep(0.5)
    for node in way.nodes:
        kube.delete(f"/api/v1/nodes/{node.name}")


def admissions(kube: KubeClient, path: str, version: str, count: int) -> float:
    """The time of the last of `count` admissions, from a watch."""
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


def start_scheduling(cp: ControlPlane) -> Path:
    """Start kube-scheduler and Kerf's extender with Kueue as its engine. Returns the path of the extender's policy."""
    policy = Path(tempfile.mkdtemp(dir=cp.run_dir)) / "policy.yaml"
    write_policy(policy, fit_check=False)
    (port,) = free_ports(1)
    start_extender(cp, port, ("--config", str(policy), "--log-level", "warning"))
    cp.start_scheduler(Extender(f"http://127.0.0.1:{port}"))
    return policy


def write_policy(path: Path, *, fit_check: bool) -> None:
    """The policy with Kueue as the engine. The extender reloads it when it changes."""
    settings = {"quota": {"engine": "kueue", "shrinkAfterSeconds": 0, "fitCheck": fit_check}}
    path.write_text(yaml.safe_dump({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": settings}))


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fake_node(name: str, labels: Json, *, healthy: bool = True) -> FakeNode:
    """A kwok node with eight cards."""
    notes = {
        "kerf.dev/inventory": render_inventory(cards_of(name, CARDS_A_NODE, health=HEALTHY if healthy else SUSPECT))
    }
    plenty = dict.fromkeys(NAMES[0].ignored, "2147483647")
    return FakeNode(name, notes, labels, {"nvidia.com/gpu": str(10 * CARDS_A_NODE), **plenty})


def pod(number: int, queue: str) -> Json:
    """A pod with a fifth of a card, and its totals."""
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
    """Server-side apply of a cluster-wide Kueue object, as a user would do it."""
    body = {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    kube.patch(f"{ROOT}/{plural}/{name}", body, "apply", {"fieldManager": "by-hand", "force": "true"})


def wait(condition: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    """Poll until the condition holds. Raises SystemExit on timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"timed out after {seconds:.0f} s waiting for {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
