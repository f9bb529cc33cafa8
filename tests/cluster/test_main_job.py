"""The whole of Kerf on a real node: webhook, extender, device plugin, kubelet and containerd together."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kerf.testing.builders import a_container, a_grant
from kerf.values.units import MIB
from kerf.wire.annotations import GRANT, parse_grant, render_grant
from kerf.wire.limiter import parse_ledger
from sandbox import SLEEPER, ControlPlane, Node, await_until, parse_report
from sandbox.stack import EXTENDER, PLUGIN, start_plugin, start_stack, stop_stack
from tests.cluster.gpu_pods import PODS, await_refused, overcommitted, pods, remove_pods

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
LEDGER = "/usr/local/kerf/ledger"
SETS = "/apis/apps/v1/namespaces/default/replicasets"


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane, node: Node) -> Iterator[tuple[ControlPlane, Node]]:
    start_stack(control_plane)
    start_plugin(control_plane, node, ROOT / "examples" / "fleets" / "demo.yaml")
    yield control_plane, node
    stop_stack(control_plane, PLUGIN)


@pytest.fixture(autouse=True)
def no_pods_left(cluster: tuple[ControlPlane, Node]) -> Iterator[None]:
    yield
    remove_pods(cluster[0])


def a_pod(name: str, *containers: dict[str, Any], **meta: Any) -> dict[str, Any]:
    spec = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "containers": list(containers)}
    metadata = {"name": name, "namespace": "default", **meta}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def sleeper(name: str = "main", mem: int = 1000, cores: int = 5, gpu: int = 1) -> dict[str, Any]:
    wanted = a_container(name, gpu=gpu, mem=mem, cores=cores)
    return {**wanted, "image": SLEEPER, "imagePullPolicy": "Never", "args": ["--cat", LEDGER]}


def await_running(cp: ControlPlane, names: list[str]) -> None:
    def running() -> bool:
        phases = {pod["metadata"]["name"]: pod["status"].get("phase") for pod in pods(cp)}
        return all(phases.get(name) == "Running" for name in names)

    await_until(running, f"{len(names)} pods to run")


def held(cp: ControlPlane, name: str, container: str = "main") -> list[tuple[str, int, int]]:
    grant = parse_grant(cp.api.get(f"{PODS}/{name}")["metadata"]["annotations"][GRANT])
    return [(s.card, s.memory_mib, s.cores) for s in grant.of(container)]


def seen(node: Node, name: str, container: str = "main") -> list[tuple[str, int, int]]:
    """What the container itself sees: its ledger, which must agree with its environment."""
    await_until(lambda: parse_report(node.output("default", name, container)).complete, f"the report of {name}")
    report = parse_report(node.output("default", name, container))
    cards = parse_ledger(report.files[LEDGER]).spec.cards
    found = [(card.uuid, (card.memory_bytes or 0) // MIB, card.cores or 0) for card in cards]
    assert report.environment["NVIDIA_VISIBLE_DEVICES"] == ",".join(uuid for uuid, _, _ in found)
    assert [report.environment[f"CUDA_DEVICE_MEMORY_LIMIT_{i}"] for i in range(len(found))] == [
        f"{memory}m" for _, memory, _ in found
    ]
    return found


def test_twenty_pods_with_the_same_count_and_different_memory_each_get_their_own(cluster):
    cp, node = cluster
    names = [f"own-{i}" for i in range(20)]

    for i, name in enumerate(names):
        cp.api.post(PODS, a_pod(name, sleeper(mem=1000 + 100 * i)))
    await_running(cp, names)

    assert [seen(node, name) for name in names] == [held(cp, name) for name in names]
    assert [held(cp, name)[0][1] for name in names] == [1000 + 100 * i for i in range(20)]
    assert overcommitted(cp) == []


def test_kerf_writes_once_for_each_pod(cluster):
    cp, _ = cluster
    before = len([w for w in cp.writes_by(EXTENDER) if w.resource != "events"])

    cp.api.post(PODS, a_pod("single", sleeper()))
    await_running(cp, ["single"])

    writes = [(w.verb, w.resource, w.name) for w in cp.writes_by(EXTENDER) if w.resource != "events"][before:]
    assert writes == [("create", "pods/binding", "single")]


def test_containers_sidecar_and_init_container_each_get_their_own(cluster):
    cp, node = cluster
    pod = a_pod("crew", sleeper("asr", 3000, 10), sleeper("tts", 4000, 15))
    side, init = sleeper("side", 1500, 5), sleeper("init", 9000, 20)
    side["restartPolicy"] = "Always"
    init["args"] = ["--cat", LEDGER, "--exit", "0"]
    pod["spec"]["initContainers"] = [side, init]

    cp.api.post(PODS, pod)
    await_running(cp, ["crew"])

    parts = ("side", "init", "asr", "tts")
    assert [seen(node, "crew", part) for part in parts] == [held(cp, "crew", part) for part in parts]
    assert [held(cp, "crew", part)[0][1] for part in parts] == [1500, 9000, 3000, 4000]


def test_a_forged_grant_changes_nothing(cluster):
    cp, node = cluster
    forged = {
        GRANT: render_grant(a_grant("GPU-node-1-3", 80_000, 100)),
        "hami.io/vgpu-node": "node-1",
        "hami.io/vgpu-devices-allocated": "GPU-node-1-3,NVIDIA,80000,100:;",
    }

    cp.api.post(PODS, a_pod("forger", sleeper(mem=2000, cores=10), annotations=forged))
    await_running(cp, ["forger"])

    assert [(memory, cores) for _, memory, cores in seen(node, "forger")] == [(2000, 10)]
    notes = cp.api.get(f"{PODS}/forger")["metadata"]["annotations"]
    assert not [key for key in notes if key.startswith("hami.io/vgpu")]


def test_a_tenant_cannot_shrink_its_grant_afterwards(cluster):
    cp, _ = cluster
    cp.api.post(PODS, a_pod("shrinker", sleeper(mem=2000, cores=10)))
    await_running(cp, ["shrinker"])
    before = held(cp, "shrinker")

    shrunk = render_grant(a_grant(before[0][0], 1, 0))
    cp.api.patch(f"{PODS}/shrinker", {"metadata": {"annotations": {GRANT: shrunk, "mine": "kept"}}})

    assert held(cp, "shrinker") == before
    assert cp.api.get(f"{PODS}/shrinker")["metadata"]["annotations"]["mine"] == "kept"


def test_scheduler_and_plugin_killed_in_the_middle_lose_nothing(cluster):
    """The kubelet fails a pod that arrives while no plugin answers; the pod's owner creates another."""
    cp, node = cluster
    labels = {"app": "storm"}
    template = {"metadata": {"labels": labels}, "spec": a_pod("x", sleeper(mem=2000))["spec"]}
    spec = {"replicas": 12, "selector": {"matchLabels": labels}, "template": template}
    cp.api.post(SETS, {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "storm"}, "spec": spec})
    await_until(lambda: sum(bool(pod["spec"].get("nodeName")) for pod in pods(cp)) >= 4, "some binds")

    cp.kill(EXTENDER)
    cp.kill(PLUGIN)
    cp.restart(EXTENDER)
    cp.restart(PLUGIN)

    await_until(lambda: len(running(cp)) == 12, "twelve pods to run")
    names = running(cp)
    assert [seen(node, name) for name in names] == [held(cp, name) for name in names]
    assert overcommitted(cp) == []
    cp.api.delete(f"{SETS}/storm")


def running(cp: ControlPlane) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods(cp) if pod["status"].get("phase") == "Running"]


def test_explain_inventory_and_snapshot_read_the_live_cluster_and_simulate_replays_it(cluster, tmp_path):
    cp, _ = cluster
    cp.api.post(PODS, a_pod("runs", sleeper(mem=40_000)))
    cp.api.post(PODS, a_pod("waits", sleeper(mem=60_000, gpu=5)))
    await_running(cp, ["runs"])
    assert "60,000 MiB" in await_refused(cp, "waits")
    dump = tmp_path / "now.json"

    explained = kerf(cp, "explain", "waits", "--json")
    cards = json.loads(kerf(cp, "inventory", "--json").stdout)["cards"]
    kerf(cp, "snapshot", "-o", str(dump))
    replayed = json.loads(kerf(cp, "simulate", str(dump), "--json", cluster=False).stdout)

    assert explained.returncode == 1
    assert "5 cards" in json.loads(explained.stdout)["sentence"]
    assert sum(card["used_mib"] for card in cards) == 40_000
    assert [pod["name"] for pod in replayed["pods"] if pod["slices"]] == ["runs"]
    assert [pod["name"] for pod in replayed["refused"]] == ["waits"]


def kerf(cp: ControlPlane, *words: str, cluster: bool = True) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-c", "import sys; from kerfctl.main import main; sys.exit(main())", *words]
    where = ["--kubeconfig", str(cp.kubeconfig)] if cluster else []
    return subprocess.run([*argv, *where], capture_output=True, text=True, check=False)
