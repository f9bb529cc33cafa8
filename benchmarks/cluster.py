"""`make bench-cluster`: real etcd, API server and kube-scheduler; kwok nodes; Kerf beside a do-nothing extender.

The benchmark creates all pods before a scheduler starts. The clock runs from the first to the last Binding that the API
server writes, so pod creation is not measured. Both extenders get the same nodes and pods in one run, Kerf second.
The last line is one JSON object: {"kerf_pods_per_s", "empty_pods_per_s", "ratio", "writes_per_pod", "overcommitted",
"cpu_ms_per_pod", "empty_cpu_ms_per_pod"}. CPU is that of the extender's process from the first Binding to the last. A
line before says what every process took: whether the rate is Kerf's, the API server's or the machine's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fake_api_server import SIZES, container_json, node_json
from benchmarks.http_client import cpu_s
from kerf.kube.client import KubeClient, connect
from kerf.kube.errors import Busy, Unreachable
from sandbox import (
    CONTROL_PLANE,
    Command,
    ControlPlane,
    Extender,
    FakeNode,
    ensure,
    free_ports,
    invariants,
    run_directory,
)
from sandbox.commands import answers
from sandbox.stack import EXTENDER, start_extender

EMPTY = Path(__file__).parent / "empty_extender"
PODS = "/api/v1/namespaces/default/pods"
Start = Callable[[ControlPlane], tuple[str, str]]
"""Starts an extender; its name and address."""


def main(argv: list[str] | None = None) -> int:
    """Measure both extenders and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument(
        "--checkout", type=Path, help="a folder with another version, whose scheduler is measured instead"
    )
    args = parser.parse_args(argv)
    start = partial(start_other, args.checkout.resolve()) if args.checkout else start_kerf
    print(json.dumps(compare("kerf", args.nodes, args.pods, start)))
    return 0


def compare(
    name: str, nodes: int, pods: int, start: Start, look: Callable[[KubeClient], None] = lambda _: None
) -> dict[str, float]:
    """The do-nothing extender and then `start`'s, in numbers. `look` is called while its pods are there."""
    parts = ensure((*CONTROL_PLANE, "kwok"), lambda p: print(f"building {p.parts}: {p.elapsed:.0f} s", file=sys.stderr))
    with run_directory() as run_dir, ControlPlane.start(run_dir, parts, audit=True) as cp:
        kube = connect(str(cp.kubeconfig), timeout_s=60.0)
        cp.start_kwok()
        cp.add_fake_nodes([fake_node(i) for i in range(nodes)], seconds=300)
        empty, empty_cpu = run(cp, kube, pods, start_empty, "do-nothing extender")
        ours, our_cpu = run(cp, kube, pods, start, name)
        look(kube)
        writes = [write for write in cp.writes_by(EXTENDER) if write.resource != "events"]
        return {
            f"{name}_pods_per_s": round(ours, 1),
            "empty_pods_per_s": round(empty, 1),
            "ratio": round(ours / empty, 3),
            "writes_per_pod": round(len(writes) / pods, 3),
            "overcommitted": overcommitted(kube),
            "cpu_ms_per_pod": round(our_cpu, 2),
            "empty_cpu_ms_per_pod": round(empty_cpu, 2),
        }


def run(cp: ControlPlane, kube: KubeClient, count: int, start: Start, title: str) -> tuple[float, float]:
    """Pods per second with one extender, and its milliseconds of CPU a pod. Only the last run keeps its pods."""
    remove_pods(kube)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: kube.create(PODS, pod(i)), range(count)))
    name, url = start(cp)
    _, version = kube.list(PODS, {"limit": 1})
    cp.start_scheduler(Extender(url))
    used: list[dict[str, float]] = []
    moments = bindings(kube, version, count, lambda: used.append(cpu_of_all(cp)))
    cp.supervisor.stop("kube-scheduler")
    cp.supervisor.stop(name)
    ms = {each: round((used[-1][each] - at) / (count - 1) * 1000, 2) for each, at in used[0].items()}
    rate = (count - 1) / (moments[-1] - moments[0])
    print(f"{title}: {rate:.1f} pods/s; ms of CPU a pod: {json.dumps(ms)}, {sum(ms.values()):.1f} in all", flush=True)
    return rate, ms[name]


def cpu_of_all(cp: ControlPlane) -> dict[str, float]:
    """CPU seconds of every part that runs, and of this process."""
    parts = {name: cp.supervisor.pid(name) for name in cp.supervisor.names() if cp.supervisor.alive(name)}
    return {name: cpu_s(pid) for name, pid in parts.items()} | {"benchmark": time.process_time()}


def bindings(kube: KubeClient, version: str, count: int, each: Callable[[], None]) -> list[float]:
    """The times at which `count` pods were bound, from a watch; `each` is called at the first and the last."""
    moments: list[float] = []
    deadline = time.monotonic() + 600
    while len(moments) < count:
        for kind, item in kube.watch(PODS, version, {"fieldSelector": "spec.nodeName!="}, timeout_s=30):
            version = item["metadata"]["resourceVersion"]
            if kind == "ADDED":
                moments.append(time.monotonic())
                if len(moments) in {1, count}:
                    each()
            if len(moments) == count:
                break
        if time.monotonic() > deadline:
            raise SystemExit(f"only {len(moments)} of {count} pods were bound within 600 s")
    return moments


def start_empty(cp: ControlPlane) -> tuple[str, str]:
    """Build and start the do-nothing extender (standard library only)."""
    binary = Path(tempfile.mkdtemp(dir=cp.run_dir)) / "empty-extender"
    subprocess.run(["go", "build", "-o", str(binary), "."], cwd=EMPTY, check=True)
    (port,) = free_ports(1)
    cert, key = cp.authority.issue("empty-extender", ("system:masters",)).write(cp.layout.pki, "empty-extender")
    argv = (str(binary), "-bind", f"127.0.0.1:{port}", "-server", cp.url, "-cert", str(cert), "-key", str(key))
    cp.supervisor.start(Command("empty-extender", argv, ready=lambda: answers(f"http://127.0.0.1:{port}/readyz")))
    return "empty-extender", f"http://127.0.0.1:{port}"


def start_kerf(cp: ControlPlane, *arguments: str) -> tuple[str, str]:
    """Start Kerf's extender."""
    (port,) = free_ports(1)
    start_extender(cp, port, ("--log-level", "error", *arguments))
    return EXTENDER, f"http://127.0.0.1:{port}"


def start_other(checkout: Path, cp: ControlPlane) -> tuple[str, str]:
    """Start the extender of another version, with the libraries of this one."""
    (port,) = free_ports(1)
    where = ("--kubeconfig", str(cp.kubeconfig_for(EXTENDER)), "--bind", f"127.0.0.1:{port}", "--log-level", "error")
    argv = ("env", "-C", str(checkout), sys.executable, "-m", "scheduler", *where)
    cp.supervisor.start(Command(EXTENDER, argv, ready=lambda: answers(f"http://127.0.0.1:{port}/readyz")))
    return EXTENDER, f"http://127.0.0.1:{port}"


def remove_pods(kube: KubeClient) -> None:
    """Delete every pod and wait until none is left."""
    while kube.list(PODS)[0]:
        with suppress(Busy, Unreachable):  # it did not get through them all in the time that it, or this client, has
            kube.delete(PODS, {"gracePeriodSeconds": 0})
        time.sleep(0.2)


def fake_node(number: int) -> FakeNode:
    """A kwok node with eight cards."""
    document = node_json(number)
    notes = document["metadata"]["annotations"]
    return FakeNode(document["metadata"]["name"], notes, allocatable={"nvidia.com/gpu": "80"})


def pod(number: int) -> dict[str, Any]:
    """A pod of one of a few shapes. The webhook takes no part in this benchmark."""
    container = container_json(*SIZES[number % len(SIZES)])
    container["resources"]["requests"].update(cpu="100m", memory="128Mi")
    spec = {"schedulerName": "kerf-scheduler", "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"bench-{number:05}"}, "spec": spec}


def overcommitted(kube: KubeClient) -> int:
    """Cards that are over-committed. Computed from the API server alone, without the scheduler's code."""
    return len(invariants.overcommitted(kube.list("/api/v1/nodes")[0], kube.list(PODS)[0]))


if __name__ == "__main__":
    sys.exit(main())
