"""Fleets of kwok nodes with cards, and pods that ask for slices, on the real API server."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kerf.testing.builders import a_container, cards_of
from kerf.vendors.registry import NAMES
from kerf.wire.inventory import render_inventory
from sandbox import ControlPlane, Extender, FakeNode, await_until, free_ports, invariants
from sandbox.stack import EXTENDER, start_extender

PODS = "/api/v1/namespaces/default/pods"


def a_fake_node(name: str, cards: int = 2, **labels: str) -> FakeNode:
    """A kwok node with 80 GB cards, as the device plugin publishes it."""
    notes = {"kerf.dev/inventory": render_inventory(cards_of(name, cards))}
    plenty = {resource: "2147483647" for names in NAMES if names.vendor == "nvidia" for resource in names.ignored}
    return FakeNode(name, notes, labels, {"nvidia.com/gpu": str(10 * cards), **plenty})


def a_gpu_pod(name: str, mem: int = 8000, cores: int = 10, gpu: int = 1, **more: Any) -> dict[str, Any]:
    """A pod for Kerf's scheduler. `more`: labels, annotations, and spec fields."""
    meta = {key: more.pop(key) for key in ("labels", "annotations") if key in more}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **meta},
        "spec": {
            "schedulerName": "kerf-scheduler",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [a_container(gpu=gpu, mem=mem, cores=cores)],
            **more,
        },
    }


@contextmanager
def a_fleet(cp: ControlPlane, nodes: Iterable[FakeNode], *arguments: str) -> Iterator[int]:
    """Nodes, Kerf's extender and kube-scheduler while the context lasts. Yields the extender's port."""
    names = [node.name for node in nodes]
    (port,) = free_ports(1)
    cp.add_fake_nodes(nodes)
    start_extender(cp, port, arguments)
    try:
        cp.start_scheduler(Extender(f"http://127.0.0.1:{port}"))
        yield port
    finally:
        for name in ("kube-scheduler", EXTENDER):
            if cp.supervisor.alive(name):
                cp.supervisor.stop(name)
        remove_pods(cp)
        for name in names:
            cp.api.delete(f"/api/v1/nodes/{name}")


def remove_pods(cp: ControlPlane) -> None:
    """Delete every pod and wait until none is left."""
    for pod in pods(cp):
        cp.api.remove(f"{PODS}/{pod['metadata']['name']}", 0)
    await_until(lambda: not pods(cp), "the pods to be gone")


def pods(cp: ControlPlane) -> list[dict[str, Any]]:
    return list(cp.api.get(PODS)["items"])


def create(cp: ControlPlane, *wanted: dict[str, Any]) -> None:
    for pod in wanted:
        cp.api.post(PODS, pod)


def node_of(cp: ControlPlane, name: str) -> str:
    """The node of a pod; empty while it is pending."""
    return str(cp.api.get(f"{PODS}/{name}")["spec"].get("nodeName", ""))


def await_bound(cp: ControlPlane, *names: str) -> None:
    await_until(lambda: all(node_of(cp, name) for name in names), f"{', '.join(names)} to be bound")


def refusal(cp: ControlPlane, name: str) -> str:
    """The reason in the pod's own condition for why it is pending; empty until the scheduler has tried."""
    conditions = cp.api.get(f"{PODS}/{name}")["status"].get("conditions", [])
    return next(
        (c.get("message", "") for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"), ""
    )


def await_refused(cp: ControlPlane, name: str) -> str:
    await_until(lambda: bool(refusal(cp, name)), f"{name} to be refused")
    return refusal(cp, name)


def seconds_until(condition: Callable[[], bool], what: str) -> float:
    """The time until a condition holds."""
    start = time.monotonic()
    await_until(condition, what)
    return time.monotonic() - start


def overcommitted(cp: ControlPlane) -> list[str]:
    """Over-committed cards, computed from the API server alone."""
    return overcommitted_in(cp, "default")


def overcommitted_in(cp: ControlPlane, *namespaces: str) -> list[str]:
    """The same for the pods of some namespaces."""
    held = [pod for name in namespaces for pod in cp.api.get(f"/api/v1/namespaces/{name}/pods")["items"]]
    return invariants.overcommitted(cp.api.get("/api/v1/nodes")["items"], held)
