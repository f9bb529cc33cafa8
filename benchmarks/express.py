"""`make bench-express`: the express lane beside a do-nothing extender, with a real control plane and kwok nodes.

The benchmark creates all pods before a scheduler starts, as `make bench-cluster` does. The clock runs from the first to
the last Binding that the API server writes. Both get the same nodes and pods in one run, the express lane second; its
kube-scheduler runs too and binds what it gets. `--packing` fills a small fleet through kube-scheduler and through the
lane, and compares how much of the cards' memory pods hold. The last line is one JSON object:
{"express_pods_per_s", "empty_pods_per_s", "ratio", "writes_per_pod", "overcommitted", "cpu_ms_per_pod",
"empty_cpu_ms_per_pod"}.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cluster import PODS, compare, fake_node, pod, remove_pods, start_kerf
from kerf.kube.client import KubeClient, connect
from kerf.wire.annotations import GRANT
from sandbox import CONTROL_PLANE, ControlPlane, Extender, ensure, run_directory

FLEET, TOO_MANY = 10, 600
"""Nodes with eight cards each, and pods for about twice as many."""
QUIET_S = 15.0
"""Nothing more fits if no pod was bound for this long."""
POLICY = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy"}


def main(argv: list[str] | None = None) -> int:
    """Measure both and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument("--packing", action="store_true", help="compare how full both ways fill a small fleet")
    args = parser.parse_args(argv)
    if args.packing:
        return packing()
    start = partial(start_express, express=True)
    found = compare("express", args.nodes, args.pods, start, lambda kube: print(json.dumps(looks(kube)), flush=True))
    print(json.dumps(found))
    return 0


def packing() -> int:
    """Fill a fleet with more pods than it holds, in both ways. The last line is one JSON object."""
    parts = ensure((*CONTROL_PLANE, "kwok"))
    with run_directory() as run_dir, ControlPlane.start(run_dir, parts) as cp:
        kube = connect(str(cp.kubeconfig), timeout_s=60.0)
        cp.start_kwok()
        cp.add_fake_nodes([fake_node(i) for i in range(FLEET)])
        ways = {"kube_scheduler": fill(cp, kube, express=False), "express": fill(cp, kube, express=True)}
    share = ways["express"]["mib"] / ways["kube_scheduler"]["mib"]
    print(json.dumps({**ways, "ratio": round(share, 4)}))
    return 0


def fill(cp: ControlPlane, kube: KubeClient, *, express: bool) -> dict[str, int]:
    """Pods that are bound, and the MiB that they hold, once nothing more fits."""
    remove_pods(kube)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: kube.create(PODS, pod(i)), range(TOO_MANY)))
    name, url = start_express(cp, express=express)
    cp.start_scheduler(Extender(url))
    held: list[int] = []
    since = time.monotonic()
    while time.monotonic() - since < QUIET_S:
        time.sleep(1.0)
        now = [mib for each in kube.list(PODS)[0] if (mib := granted(each))]
        since = time.monotonic() if len(now) != len(held) else since
        held = now
    cp.supervisor.stop("kube-scheduler")
    cp.supervisor.stop(name)
    return {"pods": len(held), "mib": sum(held)}


def granted(each: Mapping[str, Any]) -> int:
    """MiB of cards that a pod holds."""
    text = (each["metadata"].get("annotations") or {}).get(GRANT)
    containers = json.loads(text)["containers"] if text else ()
    return sum(part["memory_mib"] for container in containers for part in container["slices"])


def start_express(cp: ControlPlane, *, express: bool) -> tuple[str, str]:
    """Start Kerf's extender, with the lane or without."""
    return start_kerf(cp, "--config", str(policy(cp.run_dir, express=express)))


def policy(folder: Path, *, express: bool) -> Path:
    """A policy file."""
    path = folder / f"express-{express}.json"
    path.write_text(json.dumps({**POLICY, "spec": {"express": express}}))
    return path


def looks(kube: KubeClient) -> Mapping[str, int]:
    """How the bound pods look to their users: whether any condition or Event says that one was refused."""
    pods = kube.list(PODS)[0]
    events = kube.list("/apis/events.k8s.io/v1/namespaces/default/events")[0]
    return {
        "bound": sum(bool(pod["spec"].get("nodeName")) for pod in pods),
        "not_scheduled": sum(_says_no(pod["status"].get("conditions") or ()) for pod in pods),
        "failed_scheduling_events": sum(event["reason"] == "FailedScheduling" for event in events),
    }


def _says_no(conditions: Iterable[Mapping[str, Any]]) -> bool:
    return any(each["type"] == "PodScheduled" and each["status"] != "True" for each in conditions)


if __name__ == "__main__":
    sys.exit(main())
