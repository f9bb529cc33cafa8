"""A real node whose cards are given to claims: the device plugin with its DRA driver, and pods with claims."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kerf.wire.inventory import KEY, parse_inventory
from kerf.wire.limiter import parse_ledger
from sandbox import SLEEPER, Command, ControlPlane, Node, await_until, free_ports, parse_report
from sandbox.stack import plugin_on
from tests.chart.helm import NAMESPACE, render
from tests.cluster.sandbox_pods import PODS, a_sleeper

LEDGER = "/usr/local/kerf/ledger"
RESOURCE = "/apis/resource.k8s.io/v1"
CLAIMS = f"{RESOURCE}/namespaces/default/resourceclaims"
CARDS = tuple(f"GPU-sim-{i}" for i in range(4))
Slices = list[tuple[int, int, int]]
"""(card, MiB, percent of cores)."""


@dataclass(frozen=True)
class Driver:
    """The plugin's process and directories beside a real node."""

    cp: ControlPlane
    node: Node
    directory: Path
    http: str

    @property
    def fleet(self) -> Path:
        return self.directory / "fleet.yaml"

    @property
    def policy(self) -> Path:
        return self.directory / "policy.yaml"

    def log(self) -> str:
        return self.cp.supervisor.log("deviceplugin").read_text()

    def last_words(self) -> tuple[str, str]:
        """The ends of the logs of the driver and the kubelet."""
        return self.log()[-3000:], self.cp.supervisor.log(self.node.kubelet).read_text()[-6000:]

    def hands(self) -> list[str]:
        """Who hands out each card, as the node's inventory says."""
        notes = self.cp.api.get(f"/api/v1/nodes/{self.node.name}")["metadata"].get("annotations", {})
        return [card.allocator.value for card in parse_inventory(notes[KEY])] if KEY in notes else []

    def devices(self) -> list[dict[str, Any]]:
        """The node's devices in the order in which the allocator looks at them."""
        slices = self.cp.api.get(f"{RESOURCE}/resourceslices")["items"]
        own = [each for each in slices if each["spec"]["driver"] == "gpu.kerf.dev"]
        return [d for each in sorted(own, key=lambda e: e["metadata"]["name"]) for d in each["spec"].get("devices", ())]


_PATHS = {
    "DeviceClass": f"{RESOURCE}/deviceclasses",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}
_NAMES = ("kerf-deviceplugin", "kerf-own-node", "kerf-own-slices", "kerf-one-pod-a-claim")


def install(cp: ControlPlane, node: Node) -> Path:
    """The chart's classes, rights and policies for the driver; the kubeconfig of its pod on the node."""
    cp.api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for item in render("dra.enabled=true"):
        if item["kind"] == "DeviceClass" or (item["kind"] in _PATHS and item["metadata"]["name"] in _NAMES):
            cp.api.post(_PATHS[item["kind"]], item)
    space = f"/api/v1/namespaces/{NAMESPACE}"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "kerf-deviceplugin"}}
    cp.api.post(f"{space}/serviceaccounts", account)
    pod = a_sleeper("plugin", nodeName=node.name, serviceAccountName="kerf-deviceplugin")
    cp.api.post(f"{space}/pods", {**pod, "metadata": {"name": "plugin", "namespace": NAMESPACE}})
    return cp.service_account(NAMESPACE, "kerf-deviceplugin", "plugin")


def write_fleet(path: Path, **more: Any) -> None:
    """Four cards of 80 GiB; `more` is merged into their description."""
    cards = {"model": "NVIDIA H100 80GB HBM3", "memory_mib": 81_920, "ids": list(CARDS), "count": 4}
    cards |= {"driver": "570.86.15", **more}
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump({"cards": [cards]}))
    fresh.replace(path)


def write_policy(path: Path, allocator: str, **blocks: Any) -> None:
    """A policy in which every node belongs to one pool."""
    spec = {"pools": [{"name": "all", "allocator": allocator}], **blocks}
    document = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": spec}
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(document))
    fresh.replace(path)


def start_driver(cp: ControlPlane, node: Node, allocator: str, kubeconfig: Path) -> Driver:
    """Start the device plugin as a driver and wait until its cards are in those hands."""
    directory = cp.run_dir / "deviceplugin"
    directory.mkdir()
    made = Driver(cp, node, directory, f"127.0.0.1:{free_ports(1)[0]}")
    write_fleet(made.fleet)
    write_policy(made.policy, allocator)
    library = directory / "libkerf.so"
    library.write_bytes(b"the sleeper is static: it only shows what was mounted")
    argv = (
        *plugin_on(node, kubeconfig, made.fleet, directory / "state"),
        "--cdi-specs-from", str(node.cdi_dirs[0]),
        "--limiter", str(library),
        "--config", str(made.policy),
        "--metrics-bind", made.http,
        "--dra",
        "--plugins-registry-dir", str(node.plugins_registry_dir),
        "--plugins-dir", str(node.plugins_dir),
        "--hand-over-seconds", "1",
    )  # fmt: skip
    cp.supervisor.start(Command("deviceplugin", argv, ready=(directory / "state").exists))
    await_until(lambda: made.hands() == [allocator] * 4, f"four cards in the hands of {allocator}")
    return made


def claim_spec(kind: str = "slice", count: int = 1, **amounts: str) -> dict[str, Any]:
    """The spec of a claim with one request, `gpu`."""
    exactly: dict[str, Any] = {"deviceClassName": f"{kind}.gpu.kerf.dev", "count": count}
    if amounts:
        exactly["capacity"] = {"requests": amounts}
    return {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}


def submit(driver: Driver, name: str, spec: dict[str, Any], *args: str, **pod: Any) -> str:
    """Create a claim and a pod whose only container uses it, both of this name."""
    meta = {"name": name, "namespace": "default"}
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "spec": spec}
    driver.cp.api.post(CLAIMS, body)
    driver.cp.api.post(PODS, a_claiming_pod(name, {"own": name}, *args, **pod))
    return name


def a_claiming_pod(name: str, claims: dict[str, str], *args: str, **spec: Any) -> dict[str, Any]:
    """A pod with one container that uses all of `claims` (by its own name for each)."""
    main = {
        "name": "main",
        "image": SLEEPER,
        "imagePullPolicy": "Never",
        "args": ["--cat", LEDGER, *args],
        "resources": {"claims": [{"name": own} for own in claims]},
    }
    refs = [{"name": own, "resourceClaimName": claim} for own, claim in claims.items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [main], "resourceClaims": refs, **spec},
    }


def got(driver: Driver, pod: str, container: str = "main") -> Slices:
    """What the container's own process saw. Its environment and its ledger must agree."""

    def complete() -> bool:
        return parse_report(driver.node.output("default", pod, container)).complete

    try:
        await_until(complete, f"the report of {pod}/{container}")
    except Exception as error:
        raise AssertionError([*events(driver, pod), *driver.last_words()]) from error
    report = parse_report(driver.node.output("default", pod, container))
    ledger = parse_ledger(report.files[LEDGER]).spec
    assert report.environment["NVIDIA_VISIBLE_DEVICES"].split(",") == [card.uuid for card in ledger.cards]
    return [(CARDS.index(c.uuid), (c.memory_bytes or 0) >> 20, c.cores or 0) for c in ledger.cards]


def allocated(driver: Driver, claim: str) -> Slices:
    """What the claim holds, as the API server has it."""
    results = driver.cp.api.get(f"{CLAIMS}/{claim}")["status"]["allocation"]["devices"]["results"]
    return [
        (int(r["device"][-1]), _mib(r["consumedCapacity"]["memory"]), int(r["consumedCapacity"]["cores"]))
        if "consumedCapacity" in r
        else (int(r["device"][-1]), 81_920, 100)
        for r in results
    ]


def events(driver: Driver, about: str) -> list[str]:
    found = driver.cp.api.get("/api/v1/namespaces/default/events")["items"]
    return [each["message"] for each in found if each["involvedObject"]["name"] == about]


def await_event(driver: Driver, about: str, text: str) -> None:
    try:
        await_until(lambda: any(text in each for each in events(driver, about)), f"an event of {about}: {text}")
    except Exception as error:
        raise AssertionError([*events(driver, about), *driver.last_words()]) from error


def remove_all(driver: Driver) -> None:
    """Delete every pod and claim, and wait until they are gone."""
    api = driver.cp.api
    for pod in api.get(PODS)["items"]:
        api.remove(f"{PODS}/{pod['metadata']['name']}", grace_seconds=0)
    for claim in api.get(CLAIMS)["items"]:
        api.remove(f"{CLAIMS}/{claim['metadata']['name']}")
    await_until(lambda: not api.get(CLAIMS)["items"] and not api.get(PODS)["items"], "claims and pods to be gone")


def _mib(text: str) -> int:
    return int(text[:-2]) * (1024 if text.endswith("Gi") else 1)
