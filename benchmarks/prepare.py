"""`make bench-prepare`: how long a start waits for Kerf, by a claim (DRA) and by the kubelet's device plugin.

A real API server and the real device plugin; this program plays the kubelet. Both ways end at the same check and write
the same files. Each pod is created, timed and deleted before the next. What is timed is the call that the kubelet
makes: PreStartContainer, and NodePrepareResources.
The last line is one JSON object: `prepare_p50_ms`, `prepare_p99_ms` (claims), `start_p50_ms` and `start_p99_ms` (the
device plugin), and how many `pods` each way had.
"""

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import yaml

from benchmarks.timing import percentiles, timed
from deviceplugin._pb import kubelet_dra_v1_pb2 as dra
from deviceplugin._pb import kubelet_pluginregistration_v1_pb2 as reg
from deviceplugin.kubelet import rpc
from kerf.testing.builders import a_claim, a_claiming_pod, a_grant, a_pod
from kerf.wire.inventory import KEY, parse_inventory
from sandbox import ApiError, Command, ControlPlane, await_until, ensure, run_directory
from tests.deviceplugin.fake_kubelet import FakeKubelet

NODE = "node-1"
PODS = "/api/v1/namespaces/default/pods"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
CARD = "GPU-sim-0"


def main(argv: list[str] | None = None) -> int:
    """Measure both ways in one run and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=200)
    count = parser.parse_args(argv).pods
    parts = ensure(("etcd", "kube-apiserver", "kube-controller-manager"))
    with run_directory() as run_dir, ControlPlane.start(run_dir, parts, controller_manager=False) as cp:
        cp.api.post("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        kubelet = FakeKubelet(run_dir).start()
        start_plugin(cp, run_dir, kubelet)
        starts = [start_by_slots(cp, kubelet, i) for i in range(count)]
        write_policy(run_dir, "dra")
        await_hands(cp, "dra")
        prepares = [prepare_claim(cp, run_dir, i) for i in range(count)]
        kubelet.stop()
    result = {**percentiles("prepare", prepares), **percentiles("start", starts), "pods": count}
    print(json.dumps(result))
    return 0


def start_plugin(cp: ControlPlane, run_dir: Path, kubelet: FakeKubelet) -> None:
    """The plugin with its driver, registered both ways, its cards in the extender's hands."""
    fleet = run_dir / "fleet.yaml"
    fleet.write_text(yaml.safe_dump({"cards": [{"model": "H100", "memory_mib": 81_920, "ids": [CARD]}]}))
    write_policy(run_dir, "extender")
    directories = {"cdi-dir": "cdi", "cdi-specs-from": "cdi", "state-dir": "state", "plugins-dir": "plugins"}
    argv = [
        *(sys.executable, "-m", "deviceplugin", "--node-name", NODE, "--kubeconfig", str(cp.kubeconfig)),
        *("--probe", f"simulated:{fleet}", "--config", str(run_dir / "policy.yaml"), "--hand-over-seconds", "1"),
        *("--pod-resources-socket", str(kubelet.socket), "--device-plugin-dir", str(kubelet.plugin_dir), "--dra"),
        *(word for flag, name in directories.items() for word in (f"--{flag}", str(run_dir / name))),
        *("--plugins-registry-dir", str(run_dir / "registry")),
    ]
    registry = run_dir / "registry" / "gpu.kerf.dev-reg.sock"
    cp.supervisor.start(Command("deviceplugin", tuple(argv), ready=registry.exists))
    call(
        registry,
        "/pluginregistration.Registration/NotifyRegistrationStatus",
        reg.RegistrationStatus(plugin_registered=True),
    )
    kubelet.wait_devices(10, timeout_s=30.0)
    await_hands(cp, "extender")


def write_policy(run_dir: Path, allocator: str) -> None:
    """One pool for every node."""
    document = {
        "apiVersion": "kerf.dev/v1alpha1",
        "kind": "SchedulingPolicy",
        "spec": {"pools": [{"name": "all", "allocator": allocator}]},
    }
    fresh = run_dir / "policy.new"
    fresh.write_text(yaml.safe_dump(document))
    fresh.replace(run_dir / "policy.yaml")


def await_hands(cp: ControlPlane, hand: str) -> None:
    """Until the node's inventory says who hands out the card."""

    def there() -> bool:
        notes = cp.api.get(f"/api/v1/nodes/{NODE}")["metadata"].get("annotations", {})
        return KEY in notes and [card.allocator.value for card in parse_inventory(notes[KEY])] == [hand]

    await_until(there, f"the card to be in the hands of {hand}", 60)


def start_by_slots(cp: ControlPlane, kubelet: FakeKubelet, number: int) -> float:
    """Seconds of one PreStartContainer."""
    pod = create(cp, a_pod(f"slots-{number}", node=NODE, grant=a_grant(CARD)))
    admitted = kubelet.admit(pod)
    seconds = timed(lambda: kubelet.pre_start(admitted.slots["main"]))
    kubelet.forget(admitted.uid)
    delete(cp, f"{PODS}/slots-{number}")
    return seconds


def prepare_claim(cp: ControlPlane, run_dir: Path, number: int) -> float:
    """Seconds of one NodePrepareResources."""
    name = f"claim-{number}"
    pod = create(cp, a_claiming_pod(name, main=[name]))
    claim = a_claim(name, ("gpu-sim-0", 8000, 30), pod=name)
    spec = {"devices": {"requests": [{"name": "r0", "exactly": {"deviceClassName": "slice.gpu.kerf.dev"}}]}}
    stored = cp.api.post(CLAIMS, {**claim, "metadata": {"name": name}, "spec": spec, "status": {}})
    claim["status"]["reservedFor"][0]["uid"] = pod["metadata"]["uid"]
    for result in claim["status"]["allocation"]["devices"]["results"]:
        result["shareID"] = pod["metadata"]["uid"]
    cp.api.patch(f"{CLAIMS}/{name}/status", {"status": claim["status"]})
    ref = dra.Claim(namespace="default", name=name, uid=stored["metadata"]["uid"])
    socket, service = run_dir / "plugins" / "gpu.kerf.dev" / "dra.sock", "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"
    answers: list[dra.NodePrepareResourcesResponse] = []
    prepare = dra.NodePrepareResourcesRequest(claims=[ref])
    with rpc.connect(str(socket)) as channel:
        grpc.channel_ready_future(channel).result(10)
        ask = channel.unary_unary(
            f"{service}/NodePrepareResources",
            dra.NodePrepareResourcesRequest.SerializeToString,
            dra.NodePrepareResourcesResponse.FromString,
        )
        seconds = timed(lambda: answers.append(ask(prepare, timeout=30)))
    assert not answers[0].claims[ref.uid].error, answers[0].claims[ref.uid].error
    call(socket, f"{service}/NodeUnprepareResources", dra.NodeUnprepareResourcesRequest(claims=[ref]))
    delete(cp, f"{PODS}/{name}")
    delete(cp, f"{CLAIMS}/{name}")
    return seconds


def create(cp: ControlPlane, pod: dict[str, Any]) -> dict[str, Any]:
    """A pod as the API server has it, with the image and the uid that it wants."""
    meta = {key: pod["metadata"][key] for key in ("name", "namespace", "annotations")}
    return cp.api.post(PODS, {**pod, "metadata": meta, "status": {}})


def delete(cp: ControlPlane, path: str) -> None:
    """Delete at once."""
    with suppress(ApiError):
        cp.api.delete(path, grace_seconds=0)


def call(socket: Path, method: str, request: Any) -> None:  # noqa: ANN401
    """One call of which the answer does not matter."""
    with rpc.connect(str(socket)) as channel:
        channel.unary_unary(method, type(request).SerializeToString, bytes)(request, timeout=30)


if __name__ == "__main__":
    sys.exit(main())
