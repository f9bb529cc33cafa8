"""RBAC: every rule of the chart is used and none is missing; the API server refuses what RBAC cannot distinguish."""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from kerf.testing.builders import a_grant
from kerf.wire.annotations import GRANT, HAMI_STATE, render_grant
from sandbox import Api, ApiError, Call, ControlPlane, Extender, FakeNode, await_until, free_ports, run_directory
from sandbox.commands import answers
from tests.chart.helm import NAMESPACE
from tests.cluster.chart_release import NAMESPACES, Release, a_control_plane, await_all
from tests.cluster.gpu_pods import PODS, a_gpu_pod, await_bound, create, node_of, pods, remove_pods
from tests.deviceplugin.fake_kubelet import FakeKubelet

pytestmark = pytest.mark.cluster
NODE, OTHER = "gpu-1", "gpu-2"
NODES = "/api/v1/nodes"
FORGED = render_grant(a_grant(memory_mib=1))
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TENANTS = "/apis/kerf.dev/v1alpha1/tenantquotas"
POD_GROUPS = "/apis/scheduling.x-k8s.io/v1alpha1/namespaces/default/podgroups"

OTHERS = (
    ("scheduling.x-k8s.io", "v1alpha1", "PodGroup"),
    ("scheduling.volcano.sh", "v1beta1", "PodGroup"),
    ("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet"),
)
"""Kinds of other projects that the scheduler follows."""

UNUSED_HERE = {
    "scheduler": {
        ("create", "", "events"): "only when a pod has waited a minute for one of several kinds of cards",
        ("get", "", "nodes"): "only of a pod with cards of a vendor whose plugin locks nodes",
        ("list", "policy", "poddisruptionbudgets"): "only where several pods of a namespace have to leave for one",
        ("delete", "", "pods"): "only of a borrower that a budget holds for longer than the deadline",
        ("create", "coordination.k8s.io", "leases"): "only after a Lease was deleted",
        ("create", "kerf.dev", "tenantusages"): "a server-side apply that creates asks for it beside patch",
        ("delete", "kerf.dev", "tenantusages"): "only records older than the retention",
    },
    "webhook": {
        ("create", "", "secrets"): "only after the Secret was deleted",
    },
}
"""Rules that this test does not exercise, with the reason."""

USED_AT_TIMES = {
    "deviceplugin": {
        ("get", "", "nodes"): "when a pod starts before the first list of the node has come",
    },
}


@dataclass
class World:
    """A release whose daemons run as processes with their service accounts, on a kwok node with a fake kubelet."""

    cp: ControlPlane
    release: Release
    kubelet: FakeKubelet
    closing: ExitStack

    def as_daemon(self, account: str, node: str = "") -> Api:
        """A client with the token of a daemon's pod."""
        return self.client(account, self.release.pod_of(account, node))

    def client(self, account: str, pod: str | None = None) -> Api:
        """A client with a token of a service account."""
        kubeconfig = self.cp.service_account(NAMESPACE, f"kerf-{account}", pod)
        token = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"]
        api = Api(self.cp.url, token, self.cp.api.tls)
        self.closing.callback(api.close)
        return api


@pytest.fixture(scope="module")
def world(parts: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with run_directory() as run_dir, a_control_plane(run_dir, parts) as cp:
        cp.add_fake_nodes([FakeNode(name, labels={"gpu": "on"}) for name in (NODE, OTHER)])
        for group, version, kind in OTHERS:
            cp.api.post(CRDS, a_crd(group, version, kind, "Namespaced"))
        extender, webhook = free_ports(2)
        release = Release(cp)
        release.install(values(extender, webhook))
        kubelet = FakeKubelet(run_dir).start()
        start_daemons(release, kubelet, extender, webhook)
        with ExitStack() as closing:
            closing.callback(kubelet.stop)
            yield World(cp, release, kubelet, closing)


def values(extender: int, webhook: int) -> dict[str, Any]:
    return {
        "quota": {"enabled": True},
        "metering": {"enabled": True, "more": {"writeSeconds": 5}},
        "policy": {"learning": {"mode": "observe"}},
        "vendors": {name: {"pluginUsers": [VENDORS_PLUGIN]} for name in ("metax", "metaxsgpu")},
        # Without a kube-scheduler in the pod its account has Kerf's own rules alone, so that a missing one shows.
        "scheduler": {"replicas": 1, "extender": {"port": extender}, "kubeScheduler": {"enabled": False}},
        "webhook": {"replicas": 1, "customURL": {"enabled": True, "port": webhook}},
    }


def start_daemons(release: Release, kubelet: FakeKubelet, extender: int, webhook: int) -> None:
    """The arguments of the chart's containers, with addresses of this machine."""
    cp = release.cp
    certificates = ("--manage-certs", "--namespace", NAMESPACE, "--webhook-configuration", "kerf-webhook")
    where = ("--bind", f"127.0.0.1:{webhook}", "--cert-host", "127.0.0.1")
    policy = cp.layout.config / "policy.yaml"
    policy.write_text(cp.api.get(f"{NAMESPACES}/configmaps/kerf-policy")["data"]["policy.yaml"])
    models = ("--models", NAMESPACE)
    release.start("webhook", "webhook", *where, *certificates, *models, "--config", str(policy))
    election = ("--config", str(policy), "--lease-namespace", NAMESPACE, "--identity", "process")
    release.start("scheduler", "scheduler", "--bind", f"127.0.0.1:{extender}", *election, *models)
    fleet = kubelet.plugin_dir.parent / "fleet.yaml"
    fleet.write_text(yaml.safe_dump({"cards": [{"model": "H100", "memory_mib": 80_000, "count": 2}]}))
    root = kubelet.plugin_dir.parent
    places = ("--pod-resources-socket", kubelet.socket, "--device-plugin-dir", kubelet.plugin_dir)
    places += ("--cdi-dir", root / "cdi", "--state-dir", root / "state", "--probe", f"simulated:{fleet}")
    arguments = ("--node-name", NODE, "--leave-seconds", "0", *map(str, places))
    release.start("deviceplugin", "deviceplugin", *arguments, node=NODE)
    await_until(lambda: answers(f"http://127.0.0.1:{extender}/readyz"), "the extender")
    await_until(lambda: not needs_the_webhook(cp.api, a_gpu_pod("probe")), "the webhook to be trusted")
    kubelet.wait_devices(20)
    status = {"nvidia.com/gpu": "20"}  # as a kubelet reports the plugin's slots
    cp.api.patch(f"{NODES}/{NODE}/status", {"status": {"capacity": status, "allocatable": status}})
    await_until(lambda: "kerf.dev/inventory" in notes(cp.api.get(f"{NODES}/{NODE}")), "the inventory")
    cp.supervisor.stop("kube-scheduler")
    cp.start_scheduler(Extender(f"http://127.0.0.1:{extender}"))


def a_crd(group: str, version: str, kind: str, scope: str) -> dict[str, Any]:
    """A resource of any shape with a status."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": f"{kind.lower()}s", "singular": kind.lower(), "kind": kind}
    spec = {"group": group, "scope": scope, "names": names, "versions": [served | {"subresources": {"status": {}}}]}
    note = {"api-approved.kubernetes.io": "unapproved, a test"}
    return {"metadata": {"name": f"{names['plural']}.{group}", "annotations": note}, "spec": spec}


def notes(item: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = item["metadata"].get("annotations", {})
    return found


def granted(world: World, account: str) -> set[tuple[str, str, str]]:
    """(verb, group, resource) of the roles that carry the daemon's name."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    roles = [*world.cp.api.get(f"{rbac}/clusterroles")["items"], *world.cp.api.get(f"{rbac}/roles")["items"]]
    own = (f"kerf-{account}", f"kerf-{account}-models")
    rules = [rule for role in roles if role["metadata"]["name"] in own for rule in role["rules"]]
    return {(v, g, r) for rule in rules for v in rule["verbs"] for g in rule["apiGroups"] for r in rule["resources"]}


def calls(world: World, account: str) -> frozenset[Call]:
    return world.cp.calls_by(f"system:serviceaccount:{NAMESPACE}:kerf-{account}")


def test_every_loop_works_with_the_charts_rights_and_uses_all_of_them(world: World) -> None:
    cp = world.cp
    exercise(world)

    for account in ("scheduler", "webhook", "deviceplugin"):
        listed, perhaps = UNUSED_HERE.get(account, {}).keys(), USED_AT_TIMES.get(account, {}).keys()
        rules = granted(world, account) - perhaps
        await_all(lambda account=account: used(world, account), rules - listed, f"uses of {account}'s rules")
        assert rules - used(world, account) == listed, f"{account} has used rules that are listed as unused"
        assert [call for call in calls(world, account) if not call.allowed] == [], f"{account} lacks rules"
    remove_pods(cp)


def exercise(world: World) -> None:
    """Bind, plan, preempt, start, refuse: whatever makes a daemon call the API server."""
    cp = world.cp
    priority = {"metadata": {"name": "high"}, "value": 1000}
    cp.api.post("/apis/scheduling.k8s.io/v1/priorityclasses", priority)
    # A gang: its places are reserved by a plan, which wakes kube-scheduler by an annotation.
    cp.api.post(
        POD_GROUPS, {"apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup", "metadata": {"name": "g"}}
    )
    gang = {"annotations": {"kerf.dev/gang-size": "2"}, "labels": {"kerf.dev/gang": "two"}}
    create(cp, a_gpu_pod("gang-0", mem=1000, **gang), a_gpu_pod("gang-1", mem=1000, **gang))
    await_bound(cp, "gang-0", "gang-1")
    # A tenant, whose usage is in its status.
    share = {"namespaces": ["team"], "classes": [{"model": "H100", "guaranteed": "1 card"}]}
    tenant = {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "team"}, "spec": share}
    cp.api.post(TENANTS, tenant)
    await_until(lambda: "status" in cp.api.get(f"{TENANTS}/team"), "the tenant's status")
    # What was learned of models: nothing yet.
    learned = f"{NAMESPACES}/configmaps/kerf-learned"
    await_until(lambda: "learned.json" in cp.api.get(learned).get("data", {}), "what was learned")
    # Two pods that fill the node, and one for which they make room.
    create(cp, *(a_gpu_pod(f"low-{i}", mem=70_000, cores=50) for i in range(2)))
    await_bound(cp, "low-0", "low-1")
    create(cp, a_gpu_pod("high", mem=75_000, cores=60, priorityClassName="high"))
    await_until(lambda: bool(node_of(cp, "high")), "the higher priority to get its place")
    # A bind of a pod that the watch has not delivered yet: the scheduler gets it.
    query = {"PodNamespace": "default", "PodName": "fresh", "PodUID": "1", "Node": NODE}
    port = world.release.values["scheduler"]["extender"]["port"]
    url = f"http://127.0.0.1:{port}/bind"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(query).encode()), timeout=10) as answer:
        assert b"not found" in answer.read()
    # A start, and one that is refused with an event.
    world.kubelet.start_container(world.kubelet.admit(cp.api.get(f"{PODS}/high")), "main")
    stranger = a_gpu_pod("stranger", mem=1000) | {
        "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "a"}]}
    }
    cp.api.post(PODS, stranger)
    odd = cp.api.get(f"{PODS}/stranger")
    odd["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    with pytest.raises(grpc.RpcError, match="no grant"):
        world.kubelet.start_container(world.kubelet.admit(odd), "main")
    await_until(lambda: ("create", "", "events") in used(world, "deviceplugin"), "the refusal's event")


def used(world: World, account: str) -> set[tuple[str, str, str]]:
    return {(call.verb, call.group, call.resource) for call in calls(world, account)}


def refused(api: Api, path: str, body: dict[str, Any]) -> str:
    """The API server's message for a patch that it must refuse."""
    with pytest.raises(ApiError) as caught:
        api.patch(path, body)
    assert caught.value.status in {403, 422}, str(caught.value)
    return str(caught.value)


def annotate(key: str, value: str | None) -> dict[str, Any]:
    return {"metadata": {"annotations": {key: value}}}


def test_a_device_plugin_writes_to_its_own_node_and_there_only_what_is_its(world: World) -> None:
    plugin = world.as_daemon("deviceplugin", NODE)
    inventory = notes(world.cp.api.get(f"{NODES}/{NODE}"))["kerf.dev/inventory"]
    plenty = {"nvidia.com/gpumem": "2147483647"}

    plugin.patch(f"{NODES}/{NODE}", annotate("kerf.dev/inventory", inventory))
    plugin.patch(f"{NODES}/{NODE}", annotate("kerf.dev/inventory-acme", '{"v":1,"cards":[]}'))
    plugin.patch(f"{NODES}/{NODE}/status", {"status": {"capacity": plenty, "allocatable": plenty}})

    own = "may write to the node it runs on, and to no other"
    assert own in refused(plugin, f"{NODES}/{OTHER}", annotate("kerf.dev/inventory", inventory))
    assert own in refused(plugin, f"{NODES}/{OTHER}/status", {"status": {"capacity": plenty}})
    for body, words in (
        (annotate("kerf.dev/cordon", "x"), "may write inventories (kerf.dev/inventory) alone"),
        ({"metadata": {"labels": {"a": "b"}}}, "may not change a node's labels"),
        ({"metadata": {"labels": {"gpu": None}}}, "may not change a node's labels"),
        ({"spec": {"unschedulable": True}}, "may not change a node's spec"),
        ({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}, "may not change a node's spec"),
    ):
        assert words in refused(plugin, f"{NODES}/{NODE}", body)
    for status, words in (
        ({"allocatable": {"nvidia.com/gpu": "999"}}, "of what a node can allocate"),
        ({"capacity": {"cpu": "1"}}, "of a node's capacity"),
        ({"addresses": []}, "may not change a node's spec, addresses, images or owners"),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, "may write KerfCardsHealthy alone"),
    ):
        assert words in refused(plugin, f"{NODES}/{NODE}/status", {"status": status})


def test_a_token_of_no_pod_writes_to_no_node(world: World) -> None:
    """A token requested by hand names no node."""
    said = refused(world.client("deviceplugin"), f"{NODES}/{NODE}", annotate("kerf.dev/inventory", "x"))

    assert "may write to the node it runs on" in said


def test_nobody_else_writes_an_inventory_or_a_plan(world: World) -> None:
    for user in (world.cp.api, world.as_daemon("scheduler")):
        inventory, another = "kerf.dev/inventory", "kerf.dev/inventory-acme"
        for body in (annotate(inventory, "{}"), annotate(inventory, None), annotate(another, "{}")):
            said = refused(user, f"{NODES}/{NODE}", body)
            assert "denied request" in said  # by one or both of two policies
    assert "written by Kerf's scheduler alone" in refused(
        world.cp.api, f"{NODES}/{NODE}", annotate("kerf.dev/plan", "x")
    )
    for key in ("kerf.dev/inventory", "kerf.dev/inventory-acme"):
        with pytest.raises(ApiError, match="written by Kerf's device plugin alone"):
            world.cp.api.post(NODES, {"metadata": {"name": "fake", "annotations": {key: "{}"}}})

    cordoned = world.cp.api.patch(f"{NODES}/{NODE}", annotate("kerf.dev/cordon", "GPU-9"))
    assert notes(cordoned)["kerf.dev/cordon"] == "GPU-9"


def test_the_scheduler_changes_nothing_of_a_node_but_its_plan(world: World) -> None:
    scheduler = world.as_daemon("scheduler")

    assert notes(scheduler.patch(f"{NODES}/{NODE}", annotate("kerf.dev/plan", "p")))["kerf.dev/plan"] == "p"
    assert "may write kerf.dev/plan, kerf.dev/fault-cordon" in refused(scheduler, f"{NODES}/{NODE}", annotate("a", "b"))
    assert "of a node's labels" in refused(scheduler, f"{NODES}/{NODE}", {"metadata": {"labels": {"a": "b"}}})
    assert "a node's spec" in refused(scheduler, f"{NODES}/{NODE}", {"spec": {"unschedulable": True}})


VENDORS_PLUGIN = "system:serviceaccount:metax-operator:metax-gpu-device"
OWNED = sorted({GRANT, *HAMI_STATE, "hami.io/amd-devices-allocated", "kerf.dev/grant.old", "kerf.dev/reservation"})


@pytest.mark.parametrize("key", OWNED)
def test_a_grant_comes_in_a_binding_of_the_scheduler_and_in_nothing_else_of_anybody(world: World, key: str) -> None:
    """In kube-system, where the webhook does not look."""
    api, system = world.cp.api, "/api/v1/namespaces/kube-system/pods"
    name = f"plain-{OWNED.index(key)}"  # kwok deletes by name: a late delete would hit the next pod of the same one
    pod: dict[str, Any] = {"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    pod["spec"] |= {"automountServiceAccountToken": False, "schedulerName": "nobody"}
    forged = {"metadata": {"name": name, "annotations": {key: FORGED}}}
    target = {"target": {"kind": "Node", "name": NODE}}
    alone = "is written by the scheduler alone, when it binds"

    with pytest.raises(ApiError, match=alone):
        api.post(system, pod | forged)
    api.post(system, pod)
    try:
        assert alone in refused(api, f"{system}/{name}", forged)
        assert alone in refused(api, f"{system}/{name}/status", forged)
        for path in (f"{system}/{name}/binding", "/api/v1/namespaces/kube-system/bindings"):
            with pytest.raises(ApiError, match=alone):
                api.post(path, {"apiVersion": "v1", "kind": "Binding"} | forged | target)
        for path in ("ephemeralcontainers", "resize"):  # paths on which the API server itself drops metadata
            answered = changed(api, f"{system}/{name}/{path}", forged)
            assert key not in notes(answered), path
        scheduler = world.as_daemon("scheduler")
        scheduler.post(f"{system}/{name}/binding", {"apiVersion": "v1", "kind": "Binding"} | forged | target)
        assert notes(api.get(f"{system}/{name}"))[key] == FORGED
        assert alone in refused(api, f"{system}/{name}", annotate(key, None))
    finally:
        api.delete(f"{system}/{name}", 0)


def test_a_vendors_own_plugin_notes_what_it_served_on_pods_and_nobody_else_does(world: World) -> None:
    api, system = world.cp.api, "/api/v1/namespaces/kube-system/pods"
    served = annotate("hami.io/metax-gpu-devices-to-allocate", ";")
    pod = {"metadata": {"name": "served"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    pod["spec"] |= {"automountServiceAccountToken": False, "schedulerName": "nobody"}
    api.post(system, pod)
    try:
        assert "is written by the scheduler alone" in refused(api, f"{system}/served", served)
        assert (
            notes(world.cp.api_as(VENDORS_PLUGIN).patch(f"{system}/served", served))
            == served["metadata"]["annotations"]
        )
    finally:
        api.delete(f"{system}/served", 0)


def test_a_pod_that_has_a_node_keeps_what_says_how_its_cards_are_served(world: World) -> None:
    """In kube-system, where the webhook does not look."""
    api, system = world.cp.api, "/api/v1/namespaces/kube-system/pods"
    said = annotate("metax-tech.com/sgpu-qos-policy", "best-effort")
    pod = {"metadata": {"name": "steered"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    pod["spec"] |= {"automountServiceAccountToken": False, "schedulerName": "nobody"}
    api.post(system, pod)
    try:
        api.patch(f"{system}/steered", annotate("metax-tech.com/sgpu-qos-policy", "fixed-share"))
        target = {"metadata": {"name": "steered"}, "target": {"kind": "Node", "name": NODE}}
        world.as_daemon("scheduler").post(f"{system}/steered/binding", {"apiVersion": "v1", "kind": "Binding"} | target)
        keeps = "a pod that has a node keeps what says how its cards are served"
        assert keeps in refused(api, f"{system}/steered", said)
        assert keeps in refused(api, f"{system}/steered", annotate("metax-tech.com/sgpu-qos-policy", None))
        api.patch(f"{system}/steered", annotate("mine", "y"))
    finally:
        api.delete(f"{system}/steered", 0)


def changed(api: Api, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The pod after a patch, unchanged if the patch is refused."""
    with suppress(ApiError):
        return api.patch(path, body)
    return api.get(path.rpartition("/")[0])


@pytest.fixture
def webhook_down(world: World) -> Iterator[Api]:
    create(world.cp, a_gpu_pod("living", mem=1000))
    await_bound(world.cp, "living")
    world.cp.supervisor.stop("webhook")
    yield world.cp.api
    world.cp.supervisor.restart("webhook")
    await_until(lambda: not needs_the_webhook(world.cp.api, a_gpu_pod("probe")), "the webhook to be back")
    remove_pods(world.cp)


def a_cpu_pod(name: str, **meta: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "a", "image": "a", "resources": {"limits": {"cpu": "1"}}}]}
    return {"metadata": {"name": name, **meta}, "spec": {"automountServiceAccountToken": False, **spec}}


def needs_the_webhook(api: Api, pod: dict[str, Any]) -> bool:
    """Whether the API server calls the webhook, which is down, for a new pod."""
    try:
        api.post(f"{PODS}?dryRun=All", pod)
    except ApiError as error:
        return "failed calling webhook" in str(error)  # absent, or not trusted yet
    return False


def test_while_the_webhook_is_away_only_what_concerns_it_waits(webhook_down: Api) -> None:
    plain = a_cpu_pod("plain", annotations={"kerf.dev/note": "mine", "hami.io/note": "x", "a": "b"})
    asking = {"name": "a", "image": "a", "resources": {"limits": {"nvidia.com/gpumem": "1000"}}}
    by_init = a_cpu_pod("init")
    by_init["spec"]["initContainers"] = [asking | {"name": "i"}]

    assert not needs_the_webhook(webhook_down, plain)
    assert needs_the_webhook(webhook_down, a_gpu_pod("sliced"))
    assert needs_the_webhook(webhook_down, by_init)
    assert needs_the_webhook(webhook_down, a_cpu_pod("forger", labels={"hami.io/vgpu-node": "n"}))
    for key in OWNED:
        assert needs_the_webhook(webhook_down, a_cpu_pod("forger", annotations={key: FORGED})), key

    webhook_down.post(PODS, plain)
    webhook_down.patch(f"{PODS}/plain", {"metadata": {"labels": {"x": "y"}}})
    webhook_down.patch(f"{PODS}/living", {"metadata": {"labels": {"x": "y"}, "finalizers": ["kerf.dev/test"]}})
    webhook_down.patch(f"{PODS}/living", {"metadata": {"finalizers": None}})
    with pytest.raises(ApiError, match="failed calling webhook"):
        webhook_down.patch(f"{PODS}/living", annotate(GRANT, FORGED))
    webhook_down.delete(f"{PODS}/living", 0)
    webhook_down.delete(f"{PODS}/plain", 0)


def test_the_webhook_still_strips_silently_when_it_is_there(world: World) -> None:
    create(world.cp, a_gpu_pod("forger", mem=1000, annotations={GRANT: FORGED}))
    await_bound(world.cp, "forger")
    held = notes(world.cp.api.get(f"{PODS}/forger"))[GRANT]

    stored = world.cp.api.patch(f"{PODS}/forger", annotate(GRANT, FORGED))

    assert held != FORGED
    assert notes(stored)[GRANT] == held
    remove_pods(world.cp)
    assert pods(world.cp) == []
