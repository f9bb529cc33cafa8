"""From the version before to this one and back on a real kubelet, part by part, with sliced pods running throughout.

Every pair of parts of different versions runs for a while: a new scheduler and webhook with an old device plugin, and
the reverse. At each stage a pod starts and gets its slice, and no earlier pod notices.
"""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_container
from kerf.wire.limiter import ARBITER_ABI, parse_ledger
from kerf.wire.quota import PATH as TENANTS
from kerfctl.diagnosis.crds import definitions
from kerfctl.diagnosis.dump import Dump
from sandbox import SLEEPER, ApiError, Command, ControlPlane, Extender, Node, await_until, free_ports, parse_report
from sandbox.commands import answers
from sandbox.crds import CRDS, read_crds
from sandbox.documents import MAKERS, Webhook
from sandbox.documents import TENANTS as TENANT_RULES
from tests.cluster.gpu_pods import PODS, overcommitted, remove_pods
from tests.upgrade import released

pytestmark = pytest.mark.cluster
LEDGER = "/usr/local/kerf/ledger"
SCHEDULER, WEBHOOK, PLUGIN = "kerf-scheduler", "kerf-webhook", "kerf-deviceplugin"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/kerf-scheduler"
TENANT = "tenantquotas.kerf.dev"
QUOTA = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "TenantQuota",
    "metadata": {"name": "team"},
    "spec": {"namespaces": ["team"], "classes": [{"model": "H100", "guaranteed": "1 card", "burst": "0 cards"}]},
}


@dataclass
class Installation:
    """Kerf's parts as processes, each of either version, on fixed addresses and one state directory."""

    cp: ControlPlane
    node: Node
    ports: tuple[int, int] = field(default_factory=lambda: free_ports(2))  # type: ignore[assignment]
    running: set[str] = field(default_factory=set)
    starts: int = 0

    def run(self, name: str, version: str, module: str, *arguments: str, ready: Any) -> None:
        """Replace a part by one of this version."""
        if name in self.running:
            self.cp.supervisor.stop(name)
        here = (sys.executable, "-m", module, *arguments)
        argv = here if version == "new" else released.command(module, *arguments)
        self.running.add(name)
        self.cp.supervisor.start(Command(name, argv, ready=ready))

    def scheduler(self, version: str) -> None:
        """The new leader takes the Lease that the one before held, or released."""
        self.starts += 1
        address = f"127.0.0.1:{self.ports[0]}"
        arguments = ("--kubeconfig", str(self.cp.kubeconfig_for(SCHEDULER)), "--bind", address)
        identity = f"{version}-{self.starts}"
        leads = ("--lease-namespace", "default", "--identity", identity)

        def ready() -> bool:
            return answers(f"http://{address}/readyz") and self.holder().startswith(identity)

        self.run(SCHEDULER, version, "scheduler", *arguments, *leads, ready=ready)

    def holder(self) -> str:
        """The identity in the Lease; empty while there is no Lease."""
        try:
            return str(self.cp.api.get(LEASE)["spec"].get("holderIdentity") or "")
        except ApiError:
            return ""

    def webhook(self, version: str) -> None:
        cert, key = self.cp.authority.issue(WEBHOOK, hosts=("127.0.0.1",)).write(self.cp.layout.pki, WEBHOOK)
        url = f"https://127.0.0.1:{self.ports[1]}"
        trust = ssl.create_default_context(cafile=self.cp.ca)
        arguments = ("--bind", f"127.0.0.1:{self.ports[1]}", "--tls-cert", str(cert), "--tls-key", str(key))
        more = ("--kubeconfig", str(self.cp.kubeconfig_for(WEBHOOK)), "--trusted-user", SCHEDULER)
        self.run(WEBHOOK, version, "webhook", *arguments, *more, ready=lambda: answers(f"{url}/readyz", trust))

    def plugin(self, version: str, limiter: Path) -> None:
        """Installs its own library first, as the chart's init container does: by a move, which keeps the old file."""
        self.starts += 1
        state = self.cp.run_dir / "kerf-state"
        state.mkdir(exist_ok=True)
        library, fresh = state / "libkerf.so", state / "libkerf.so.new"
        fresh.write_bytes(limiter.read_bytes())
        fresh.replace(library)
        fleet = self.cp.run_dir / "fleet.yaml"
        fleet.write_text(yaml.safe_dump({"cards": [{"model": "H100", "memory_mib": 81_559, "count": 2}]}))
        seen = self.registrations()
        self.run(
            PLUGIN, version, "deviceplugin",
            *("--node-name", self.node.name, "--kubeconfig", str(self.cp.kubeconfig_for(PLUGIN))),
            *("--probe", f"simulated:{fleet}", "--pod-resources-socket", str(self.node.pod_resources_socket)),
            *("--device-plugin-dir", str(self.node.device_plugin_dir), "--cdi-dir", str(self.node.cdi_dirs[0])),
            *("--state-dir", str(state), "--limiter", str(library)),
            ready=lambda: self.registrations() > seen,
        )  # fmt: skip
        await_until(self.offers, "the kubelet to count the slots")

    def registrations(self) -> int:
        log = self.cp.supervisor.log(PLUGIN)
        return log.read_text().count("20 slots, 20 of them healthy") if log.exists() else 0

    def offers(self) -> bool:
        found = self.cp.api.get(f"/api/v1/nodes/{self.node.name}")
        counted = int(found["status"].get("allocatable", {}).get("nvidia.com/gpu", 0))
        return counted == 20 and "kerf.dev/inventory" in found["metadata"].get("annotations", {})


@pytest.fixture(scope="module")
def kerf(control_plane: ControlPlane, node: Node) -> Iterator[Installation]:
    made = Installation(control_plane, node)
    old_crd = yaml.safe_load((released.tree() / "charts" / "kerf" / "crds" / "tenantquotas.yaml").read_text())
    control_plane.api.post(CRDS, old_crd)
    await_until(lambda: served(control_plane), "TenantQuotas to be served")
    control_plane.api.post(TENANTS, QUOTA)
    made.scheduler("old")
    made.webhook("old")
    made.plugin("old", released.limiter())
    url = f"https://127.0.0.1:{made.ports[1]}/mutate"
    control_plane.register_webhook(Webhook("kerf", url, control_plane.ca.read_bytes(), more=(*MAKERS, *TENANT_RULES)))
    control_plane.start_scheduler(Extender(f"http://127.0.0.1:{made.ports[0]}"))
    yield made
    remove_pods(control_plane)
    for name in ("kube-scheduler", *sorted(made.running)):
        control_plane.supervisor.stop(name)


def served(cp: ControlPlane) -> bool:
    found = {each["metadata"]["name"]: each for each in cp.api.get(CRDS)["items"]}
    conditions = found.get(TENANT, {}).get("status", {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def start_pod(kerf: Installation, name: str, mem: int) -> dict[str, Any]:
    """A pod with a slice, once it runs, and what its container found of the slice. Returns its container's status."""
    main = a_container(gpu=1, mem=mem, cores=10) | {"image": SLEEPER, "imagePullPolicy": "Never"}
    main["args"] = ["--cat", LEDGER, "--list", "/usr/local/kerf"]
    spec = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "containers": [main]}
    kerf.cp.api.post(PODS, {"metadata": {"name": name}, "spec": spec})
    try:
        await_until(lambda: kerf.cp.api.get(f"{PODS}/{name}")["status"].get("phase") == "Running", f"{name} to run")
    except Exception as error:
        events = kerf.cp.api.get("/api/v1/namespaces/default/events")["items"]
        raise AssertionError([each["message"] for each in events if each["involvedObject"]["name"] == name]) from error
    await_until(lambda: parse_report(kerf.node.output("default", name, "main")).complete, f"the report of {name}")
    report = parse_report(kerf.node.output("default", name, "main"))
    (card,) = parse_ledger(report.files[LEDGER]).spec.cards
    assert ((card.memory_bytes or 0) >> 20, card.cores) == (mem, 10), name
    return statuses(kerf, name)


def statuses(kerf: Installation, name: str) -> dict[str, Any]:
    (status,) = kerf.cp.api.get(f"{PODS}/{name}")["status"]["containerStatuses"]
    return {key: status[key] for key in ("containerID", "restartCount", "state")}


def test_part_by_part_to_this_version_and_back(kerf: Installation) -> None:
    limiter = Path(__file__).parents[2] / "limiter"
    subprocess.run(["make", "-s", "-C", str(limiter), "all"], check=True)
    seen = {"old": start_pod(kerf, "old", 10_000)}

    kerf.cp.kill(SCHEDULER)  # it cannot release its Lease: the new version waits for it to expire
    stages = {
        "newer-scheduler": lambda: (kerf.scheduler("new"), kerf.webhook("new")),
        "all-new": lambda: kerf.plugin("new", limiter / "build" / "libkerf.so"),
        "older-scheduler": lambda: (kerf.scheduler("old"), kerf.webhook("old")),
        "all-old-again": lambda: kerf.plugin("old", released.limiter()),
    }
    for number, (name, change) in enumerate(stages.items()):
        kerf.cp.api.patch(f"{TENANTS}/team/status", {"status": None})
        change()
        if name == "newer-scheduler":
            upgrade_definitions(kerf)
        seen[name] = start_pod(kerf, name, 11_000 + number)
        assert {each: statuses(kerf, each) for each in seen} == seen, f"{name}: an earlier pod noticed"
        assert overcommitted(kerf.cp) == []
        if "scheduler" in name:
            await_until(lambda: counts(kerf), f"{name}: the new leader to write the tenant's status")

    arbiters = sorted(path.name for path in (kerf.cp.run_dir / "kerf-state" / "arbiters").iterdir())
    assert {name.endswith(f".{ARBITER_ABI}") for name in arbiters} == {True, False}, "each version has files of its own"


def upgrade_definitions(kerf: Installation) -> None:
    """What docs/upgrade.md says: Helm does not upgrade them. The objects stay."""
    for crd in read_crds():
        kerf.cp.api.apply(f"{CRDS}/{crd['metadata']['name']}", crd, "kubectl")
    found = tuple(kerf.cp.api.get(CRDS)["items"])
    assert list(definitions(Dump((), definitions=found, shipped=read_crds()))) == []
    assert kerf.cp.api.get(f"{TENANTS}/team")["spec"]["namespaces"] == ["team"]


def counts(kerf: Installation) -> bool:
    """Whether a leader has written the tenant's status again, for the object as it is."""
    item = kerf.cp.api.get(f"{TENANTS}/team")
    status = item.get("status") or {}
    return bool(status.get("classes")) and status.get("observedGeneration") == item["metadata"]["generation"]
