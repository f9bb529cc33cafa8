"""A tenant's claims are counted before they are allocated, on the real API server and kube-scheduler."""

import base64
from typing import Any

import pytest

from deviceplugin.core.offered import NodeView, offered
from kerf.testing.builders import a_card
from kerf.values.allocator import Allocator
from kerf.values.policy import SchedulingPolicy
from kerf.wire.accounts import parse_account
from kerf.wire.inventory import KEY, render_inventory
from kerf.wire.resourceslices import numbered, render_pool
from sandbox import ControlPlane, FakeNode, await_until
from sandbox.crds import install_crds
from sandbox.stack import EXTENDER, start_stack
from tests.chart.helm import render
from tests.cluster.dra_world import RESOURCE, claim_spec
from tests.cluster.tenants import (
    TENANTS,
    add_namespaces,
    add_tenant,
    apply_policies,
    by_claim,
    by_resource,
    spec_of,
)

pytestmark = pytest.mark.cluster
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
NODE = "cards"
FOREIGN = "other.example.com"


@pytest.fixture(scope="module")
def cp(control_plane: ControlPlane) -> ControlPlane:
    """Tenant `team` with 10,000 MiB and claims, `small` with less than a card, Kerf's daemons, and cards for claims."""
    api = control_plane.api
    install_crds(control_plane)
    nothing = {"memory": 0, "cores": 0, "cards": 0}
    add_namespaces(api, "team", "small", "tenantless")
    for name in ("team", "small"):
        classes = [{"model": "H100", "guaranteed": {"memory": "10000Mi"}, "burst": nothing}]
        add_tenant(api, name, claims="allow", classes=classes)
    add_cards(control_plane)
    stack = start_stack(control_plane, scheduler_arguments=("--dra",))
    bundle = base64.b64encode(control_plane.ca.read_bytes()).decode()
    rendered = render("dra.enabled=true", "quota.enabled=true")
    apply_policies(api, rendered, lambda name: name.startswith("kerf-tenants-"))
    for item in rendered:
        if item["kind"] == "DeviceClass":
            api.post(f"{RESOURCE}/deviceclasses", item)
        if item["kind"] == "ValidatingWebhookConfiguration":
            (hook,) = item["webhooks"]
            hook["clientConfig"] = {"url": f"{stack.webhook_url}/mutate", "caBundle": bundle}
            api.post(WEBHOOKS, item)
    await_until(lambda: counted(control_plane), "the webhook to be asked")
    return control_plane


def counted(cp: ControlPlane) -> bool:
    """Whether the API server asks the webhook already: a dry run of more than the tenant may hold is refused."""
    meta = {"name": "probe", "namespace": "team"}
    claims = f"{RESOURCE}/namespaces/team/resourceclaims"
    if not [c for c in cp.api.get(claims)["items"] if c["metadata"]["name"] == "probe"]:
        body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta}
        cp.api.post(claims, {**body, "spec": claim_spec(memory="20000Mi", cores="0")})
    result = {"request": "gpu", "driver": "gpu.kerf.dev", "pool": NODE, "device": "card-0"}
    allocation = {"devices": {"results": [result]}}
    try:
        cp.api.patch(f"{claims}/probe/status?dryRun=All", {"status": {"allocation": allocation}})
    except Exception as error:  # noqa: BLE001
        return "quota: tenant team holds" in str(error)
    return False


def add_cards(cp: ControlPlane) -> None:
    """A node whose device plugin has published two cards for claims, and a card of another driver."""
    cards = tuple(a_card(i, allocator=Allocator.DRA) for i in range(2))
    cp.add_fake_nodes([FakeNode(NODE, annotations={KEY: render_inventory(cards)})])
    uid = cp.api.get(f"/api/v1/nodes/{NODE}")["metadata"]["uid"]
    listed = offered(cards, {}, NodeView(), SchedulingPolicy())
    for item in numbered(render_pool(NODE, uid, listed, shares=True), 1):
        cp.api.post(f"{RESOURCE}/resourceslices", item)
    pool = {"name": NODE, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": FOREIGN, "nodeName": NODE, "pool": pool, "devices": [{"name": "one"}, {"name": "two"}]}
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "foreign"}, "spec": spec}
    cp.api.post(f"{RESOURCE}/resourceslices", body)
    selector = {"cel": {"expression": f"device.driver == '{FOREIGN}'"}}
    meta = {"name": FOREIGN}
    spec = {"selectors": [selector]}
    cp.api.post(
        f"{RESOURCE}/deviceclasses",
        {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": meta, "spec": spec},
    )


def submit(cp: ControlPlane, namespace: str, name: str, spec: dict[str, Any]) -> None:
    meta = {"name": name, "namespace": namespace}
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "spec": spec}
    cp.api.post(f"{RESOURCE}/namespaces/{namespace}/resourceclaims", body)
    run(cp, namespace, by_claim(name, name))


def run(cp: ControlPlane, namespace: str, pod: dict[str, Any]) -> None:
    pod["spec"]["schedulerName"] = "kerf-scheduler"
    cp.api.post(f"/api/v1/namespaces/{namespace}/pods", pod)


def node_of(cp: ControlPlane, namespace: str, name: str) -> str:
    return str(cp.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")["spec"].get("nodeName", ""))


def said_of(cp: ControlPlane, namespace: str, name: str) -> list[str]:
    events = cp.api.get(f"/api/v1/namespaces/{namespace}/events")["items"]
    return [each["message"] for each in events if each["involvedObject"]["name"] == name]


def await_node(cp: ControlPlane, namespace: str, *names: str) -> None:
    await_until(lambda: all(node_of(cp, namespace, name) for name in names), f"{names} to be bound")


def await_words(cp: ControlPlane, namespace: str, name: str, words: str) -> None:
    await_until(lambda: any(words in each for each in said_of(cp, namespace, name)), f"{name}: {words}")


def used_mib(cp: ControlPlane, tenant: str) -> int:
    account = parse_account(cp.api.get(f"{TENANTS}/{tenant}"))
    return sum(each.used.memory_mib for each in account.classes)


def slice_of(mib: int) -> dict[str, Any]:
    return claim_spec(memory=f"{mib}Mi", cores="0")


def test_what_exceeds_the_quota_waits_with_the_numbers_and_starts_once_there_is_room(cp: ControlPlane) -> None:
    for name in ("a", "b"):
        submit(cp, "team", name, slice_of(4000))
    await_node(cp, "team", "a", "b")
    submit(cp, "team", "c", slice_of(4000))
    submit(cp, "tenantless", "free", slice_of(30_000))

    await_words(cp, "team", "c", "quota: tenant team holds 8,000 MiB of at most 10,000 MiB of NVIDIA H100 80GB HBM3")
    await_node(cp, "tenantless", "free")
    await_until(lambda: used_mib(cp, "team") == 8000, "the tenant's books")
    assert node_of(cp, "team", "c") == ""
    cp.api.remove("/api/v1/namespaces/team/pods/a", grace_seconds=0)

    await_node(cp, "team", "c")


def test_a_card_by_an_extended_resource_is_counted_and_a_refused_one_leaves_no_claim(cp: ControlPlane) -> None:
    run(cp, "small", by_resource("card", "gpu.kerf.dev/card"))

    await_words(cp, "small", "card", "81,559 MiB asked")
    assert node_of(cp, "small", "card") == ""
    cp.api.remove("/api/v1/namespaces/small/pods/card", grace_seconds=0)
    await_until(lambda: not cp.api.get(f"{RESOURCE}/namespaces/small/resourceclaims")["items"], "no claim")


def test_while_no_leader_answers_nothing_of_kerfs_is_allocated_and_others_are_not_disturbed(cp: ControlPlane) -> None:
    cp.supervisor.stop(EXTENDER)
    submit(cp, "small", "waits", slice_of(1000))
    submit(cp, "small", "foreign", spec_of(FOREIGN))

    await_node(cp, "small", "foreign")
    await_words(cp, "small", "waits", "kube-scheduler tries again")
    assert node_of(cp, "small", "waits") == ""
    cp.supervisor.restart(EXTENDER)

    await_node(cp, "small", "waits")
    claim = cp.api.get(f"{RESOURCE}/namespaces/team/resourceclaims/probe")
    assert "kerf.dev/settled" in claim["metadata"]["annotations"]
    assert "allocation" not in claim.get("status", {})
