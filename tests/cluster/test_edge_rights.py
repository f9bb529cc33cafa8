"""RBAC of claims, gateways, the page and the reports of use: the chart's rights are enough, and each is used."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from deviceplugin._pb import kubelet_dra_v1_pb2 as dra
from deviceplugin._pb import kubelet_pluginregistration_v1_pb2 as reg
from deviceplugin.kubelet import rpc
from kerf.gateways.objects import KINDS, OWNER
from kerf.values.gateways import Gateway
from sandbox import ControlPlane, FakeNode, await_until, free_ports, run_directory
from sandbox.commands import answers
from scheduler.placing.allocations import SETTLED
from scheduler.usage._pb import gateway_usage_pb2 as usage
from tests.chart.helm import NAMESPACE
from tests.cluster import gateway_crds
from tests.cluster.chart_release import NAMESPACES, Release, a_control_plane, await_all
from tests.deviceplugin.fake_kubelet import FakeKubelet
from tests.scheduler.page.page_world import Browser, at_port
from tests.scheduler.usage.test_server import METHOD, a_report, make_certificates

pytestmark = pytest.mark.cluster
NODE = "gpu-1"
PODS = "/api/v1/namespaces/default/pods"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
Rule = tuple[str, str, str]
"""(verb, group, resource)."""

UNUSED_HERE: dict[str, set[Rule]] = {
    "scheduler": set(),
    "claims": {("get", "resource.k8s.io", "resourceclaims")},  # only where an allocation came to nothing
    "deviceplugin": set(),
    "usage": {("delete", "kerf.dev", "gatewayusages")},  # only records older than the retention
}
"""Rules that this test does not exercise."""


@dataclass
class World:
    """A release whose daemons run as processes with their service accounts, on a kwok node with a fake kubelet."""

    cp: ControlPlane
    release: Release
    directory: Path
    ports: dict[str, int]

    def used(self, account: str) -> set[Rule]:
        asked = self.cp.calls_by(f"system:serviceaccount:{NAMESPACE}:kerf-{account}")
        assert [call for call in asked if not call.allowed] == [], f"{account} lacks rules"
        return {(call.verb, call.group, call.resource) for call in asked}

    def await_used(self, account: str, rules: set[Rule], unused: set[Rule], *, applies: bool = False) -> None:
        """Wait until these rules were used but for some. A server-side apply that creates asks for `create`, too."""

        def used() -> set[Rule]:
            found = self.used(account)
            return found | {("create", group, kind) for verb, group, kind in found if applies and verb == "patch"}

        await_all(used, rules - unused, f"uses of {account}'s rules")
        assert rules - used() == unused

    def granted(self, roles: tuple[str, ...], groups: tuple[str, ...] = ()) -> set[Rule]:
        """Rules of these roles, of all groups unless some are named."""
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        found = [*self.cp.api.get(f"{rbac}/clusterroles")["items"], *self.cp.api.get(f"{rbac}/roles")["items"]]
        rules = [rule for role in found if role["metadata"]["name"] in roles for rule in role["rules"]]
        return {
            (verb, group, resource)
            for rule in rules for verb in rule["verbs"] for group in rule["apiGroups"] for resource in rule["resources"]
            if not groups or group in groups
        }  # fmt: skip

    def owned(self, gateway: Gateway) -> dict[str, int]:
        return {
            kind.kind: len(self.cp.api.get(f"{kind.everywhere}?labelSelector={OWNER}%3D{gateway}")["items"])
            for kind in KINDS[gateway]
        }

    def write_policy(self, **gateways: Any) -> None:
        """The chart's policy, with other words about gateways."""
        policy = yaml.safe_load(self.cp.api.get(f"{NAMESPACES}/configmaps/kerf-policy")["data"]["policy.yaml"])
        policy["spec"]["gateways"] |= gateways
        fresh = self.directory / "policy.new"
        fresh.write_text(yaml.safe_dump(policy))
        fresh.replace(self.directory / "policy.yaml")


@pytest.fixture(scope="module")
def world(parts: Mapping[str, Path]) -> Iterator[World]:
    with run_directory() as run_dir, a_control_plane(run_dir, parts) as cp:
        cp.add_fake_nodes([FakeNode(NODE, labels={"gpu": "on"})])
        gateway_crds.install(cp)
        ports = dict(zip(("extender", "page", "tokens", "pages"), free_ports(4), strict=True))
        release = Release(cp)
        release.install({
            "dra": {"enabled": True},
            "page": {"enabled": True},
            "policy": {"pools": [{"name": "all", "allocator": "dra"}]},
            "gateways": {
                "to": [str(each) for each in Gateway], "namespace": "default", "namespaces": ["default"],
                "gateway": "models", "picker": "epp:9002",
                "more": {"tokensPerMinute": 1000},
                "reports": {"enabled": True, "tokens": {"allow": ["default/default"]}},
            },
            "scheduler": {"replicas": 1, "kubeScheduler": {"enabled": False}},
            "webhook": {"enabled": False},
        })  # fmt: skip
        kubelet = FakeKubelet(run_dir).start()
        found = World(cp, release, run_dir, ports)
        found.write_policy()
        start(found, kubelet)
        yield found
        kubelet.stop()


def start(world: World, kubelet: FakeKubelet) -> None:
    """The arguments of the chart's containers, with addresses and directories of this machine."""
    release, root, ports = world.release, world.directory, world.ports
    policy = ("--config", str(root / "policy.yaml"))
    binds = ("--bind", f"127.0.0.1:{ports['extender']}", "--page", f"127.0.0.1:{ports['page']}")
    election = ("--lease-namespace", NAMESPACE, "--identity", "process")
    add_waiting_claim(world.cp)
    release.start("scheduler", "scheduler", *binds, *policy, *election, "--dra")
    a_fleet = {"model": "H100", "memory_mib": 80_000, "count": 2, "ids": ["GPU-sim-0", "GPU-sim-1"]}
    (root / "fleet.yaml").write_text(yaml.safe_dump({"cards": [a_fleet]}))
    places: tuple[object, ...] = ("--pod-resources-socket", kubelet.socket, "--device-plugin-dir", kubelet.plugin_dir)
    places += ("--cdi-dir", root / "cdi", "--state-dir", root / "state", "--probe", f"simulated:{root / 'fleet.yaml'}")
    places += ("--plugins-dir", root / "plugins", "--plugins-registry-dir", root / "registry")
    own = ("--node-name", NODE, "--leave-seconds", "0", "--dra", "--hand-over-seconds", "1", *policy)
    release.start("deviceplugin", "deviceplugin", *own, *map(str, places), node=NODE)
    make_certificates(root)
    files = ("--tls-cert", str(root / "server.crt"), "--tls-key", str(root / "server.key"))
    tokens = ("--bind-tokens", f"127.0.0.1:{ports['tokens']}", "--allow-account", "default/default")
    pages = ("--pages", f"127.0.0.1:{ports['pages']}", "--write-seconds", "1")
    release.start("scheduler.usage", "usage", *files, *tokens, *pages)
    await_until(lambda: answers(f"http://127.0.0.1:{ports['extender']}/readyz"), "the extender")


def add_waiting_claim(cp: ControlPlane) -> None:
    """A claim that is not allocated, in a namespace that a quota limits: a new leader settles it."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "cards"}}
    hard = {"limits.nvidia.com/gpumem": "100000"}
    cp.api.post("/api/v1/namespaces/default/resourcequotas", {**quota, "spec": {"hard": hard}})
    exactly = {"name": "gpu", "exactly": {"deviceClassName": "slice.gpu.kerf.dev"}}
    claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "waits"}}
    cp.api.post(CLAIMS, {**claim, "spec": {"devices": {"requests": [exactly]}}})


def call(socket: Path, method: str, request: Any, answer: Any) -> Any:
    with rpc.connect(str(socket)) as channel:
        grpc.channel_ready_future(channel).result(30)
        return channel.unary_unary(method, type(request).SerializeToString, answer.FromString)(request, timeout=30)


def token(cp: ControlPlane, audience: str = "") -> str:
    spec = {"expirationSeconds": 3600} | ({"audiences": [audience]} if audience else {})
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return str(cp.api.post("/api/v1/namespaces/default/serviceaccounts/default/token", body)["status"]["token"])


def devices(world: World) -> int:
    items = world.cp.api.get(SLICES)["items"]
    return sum(len(item["spec"].get("devices") or ()) for item in items)


def test_the_driver_of_claims_uses_all_of_its_rights_and_lacks_none(world: World) -> None:
    registry = world.directory / "registry" / "gpu.kerf.dev-reg.sock"
    await_until(registry.exists, "the driver's socket")
    status = reg.RegistrationStatus(plugin_registered=True)
    method = "/pluginregistration.Registration/NotifyRegistrationStatus"
    call(registry, method, status, reg.RegistrationStatusResponse)
    await_until(lambda: devices(world) == 4, "two cards, each twice")
    claims = dra.NodePrepareResourcesRequest(claims=[dra.Claim(namespace="default", name="none", uid="1")])
    service = "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources"
    driver = world.directory / "plugins" / "gpu.kerf.dev" / "dra.sock"
    answer = call(driver, service, claims, dra.NodePrepareResourcesResponse)
    assert "does not exist" in answer.claims["1"].error
    world.cp.api.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {"kerf.dev/cordon": "GPU-sim-0"}}})
    await_until(lambda: "cordon" in json.dumps(world.cp.api.get(SLICES)), "the taint")
    policy = yaml.safe_load((world.directory / "policy.yaml").read_text())
    policy["spec"]["pools"] = [{"name": "all", "allocator": "extender"}]
    (world.directory / "policy.yaml").write_text(yaml.safe_dump(policy))
    await_until(lambda: devices(world) == 0, "the cards to leave DRA's hands")
    await_until(lambda: len(world.cp.api.get(SLICES)["items"]) == 1, "the counters to go")

    own = world.granted(("kerf-deviceplugin",), ("resource.k8s.io",))
    assert len(own) == 7
    world.await_used("deviceplugin", own, UNUSED_HERE["deviceplugin"])
    world.await_used("scheduler", world.granted(("kerf-scheduler",), ("resource.k8s.io",)), UNUSED_HERE["claims"])
    assert SETTLED in world.cp.api.get(f"{CLAIMS}/waits")["metadata"]["annotations"]


def test_gateways_use_all_of_their_rights_and_lack_none(world: World) -> None:
    container = {"name": "main", "image": "vllm/vllm-openai", "args": ["--model", "chat"]}
    for name in ("one", "two"):
        meta = {"name": name, "labels": {"app": "chat"}}
        world.cp.api.post(PODS, {"metadata": meta, "spec": {"nodeName": NODE, "containers": [container]}})
    await_until(lambda: all(all(world.owned(each).values()) for each in Gateway), "objects of every kind")
    world.write_policy(to=[])
    await_until(lambda: not any(any(world.owned(each).values()) for each in Gateway), "the objects to be gone")

    rights = world.granted(("kerf-scheduler-gateways",))
    rights |= world.granted(("kerf-scheduler",), ("inference.networking.k8s.io",)) | {("patch", "", "pods")}
    world.await_used("scheduler", rights, UNUSED_HERE["scheduler"], applies=True)


def test_the_page_uses_all_of_its_rights_and_lacks_none(world: World) -> None:
    browser = Browser(at_port(world.ports["page"]))
    await_until(lambda: browser.sign_in(token(world.cp)) == 200, "somebody to get in")
    with browser.events():
        world.await_used("scheduler", world.granted(("kerf-page",)), set())


def test_the_server_of_reports_uses_all_of_its_rights_and_lacks_none(world: World) -> None:
    how = grpc.ssl_channel_credentials((world.directory / "ca.crt").read_bytes())
    where = f"127.0.0.1:{world.ports['tokens']}"
    with grpc.secure_channel(where, how, [("grpc.ssl_target_name_override", "localhost")]) as channel:
        grpc.channel_ready_future(channel).result(60)
        report = channel.unary_unary(
            METHOD, usage.UsageReportRequest.SerializeToString, usage.UsageReportResponse.FromString
        )
        said = (("authorization", f"Bearer {token(world.cp, 'kerf-usage')}"),)
        assert report(a_report(), timeout=20, metadata=said).accepted
    stored = "/apis/kerf.dev/v1alpha1/gatewayusages"
    await_until(lambda: bool(world.cp.api.get(stored)["items"]), "the report to be stored")

    world.await_used("usage", world.granted(("kerf-usage",)), UNUSED_HERE["usage"], applies=True)
