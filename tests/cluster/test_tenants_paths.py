"""Ways past a quota that only the API server can close, tried on a real one with the chart's policies."""

from typing import Any

import pytest

from sandbox import ApiError, ControlPlane, FakeNode, await_until
from sandbox.api import Api
from sandbox.crds import install_crds
from sandbox.kueuedocs import USER
from tests.chart.helm import render
from tests.cluster.tenants import add_namespaces, add_tenant, apply_policies

pytestmark = pytest.mark.cluster
GATE, OWN_GATE = "kueue.x-k8s.io/admission", "example.com/mine"
PODS = "/api/v1/namespaces/{}/pods"
CARDS = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "1000"}


def a_pod(name: str, *gates: str, **spec: Any) -> dict[str, Any]:
    main = {"name": "main", "image": "app", "resources": {"limits": CARDS}}
    held = {"schedulingGates": [{"name": gate} for gate in gates]} if gates else {}
    full = {"automountServiceAccountToken": False, "containers": [main], **held, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": full}


def words(api: Api, path: str, body: dict[str, Any]) -> str:
    """The API server's words for a patch; empty where it accepts it."""
    try:
        api.patch(path, body)
    except ApiError as error:
        return str(error)
    return ""


def without(*gates: str) -> dict[str, Any]:
    return {"spec": {"schedulingGates": [{"name": gate} for gate in gates]}}


@pytest.fixture(scope="module")
def cp(control_plane: ControlPlane) -> ControlPlane:
    """A tenant `held`, a namespace without one, and the policies about gates and grants."""
    api = control_plane.api
    install_crds(control_plane)
    add_namespaces(api, "held", "free")
    add_tenant(api, "held", classes=[{"guaranteed": "1 card of H100"}])
    rendered = render("quota.enabled=true", "quota.kueue.enabled=true")
    apply_policies(api, rendered, {"kerf-tenants-gates", "kerf-grant"}.__contains__)
    api.post(PODS.format("held"), a_pod("probe", GATE))
    probe = f"{PODS.format('held')}/probe"
    await_until(lambda: "belongs to tenant" in words(api, f"{probe}?dryRun=All", without()), "the policy")
    return control_plane


def test_only_kueue_opens_its_gates_in_a_tenants_namespace(cp: ControlPlane) -> None:
    path = f"{PODS.format('held')}/gated"
    cp.api.post(PODS.format("held"), a_pod("gated", GATE, OWN_GATE))

    assert "namespace held belongs to tenant held: Kueue alone removes" in words(cp.api, path, without(OWN_GATE))
    assert "Kueue alone removes" in words(cp.api, path, without())
    assert words(cp.api, path, without(GATE)) == ""  # a gate of one's own
    assert words(cp.api, path, {"metadata": {"labels": {"any": "other"}}}) == ""
    assert words(cp.api_as(USER), path, without()) == ""


def test_elsewhere_gates_are_left_alone(cp: ControlPlane) -> None:
    cp.api.post(PODS.format("free"), a_pod("gated", GATE))

    assert words(cp.api, f"{PODS.format('free')}/gated", without()) == ""


def test_neither_ephemeral_containers_nor_a_resize_ask_for_cards(cp: ControlPlane) -> None:
    cp.add_fake_nodes([FakeNode("node")])
    cp.api.post(PODS.format("held"), a_pod("runs", nodeName="node"))
    path = f"{PODS.format('held')}/runs"
    await_until(lambda: cp.api.get(path).get("status", {}).get("phase") == "Running", "the pod to run")
    debug = {"name": "debug", "image": "app", "resources": {"limits": CARDS}}
    more = {"name": "main", "resources": {"limits": {**CARDS, "nvidia.com/gpumem": "80000"}}}
    more["resources"]["requests"] = more["resources"]["limits"]

    assert "resources: Forbidden" in words(
        cp.api, f"{path}/ephemeralcontainers", {"spec": {"ephemeralContainers": [debug]}}
    )
    found = words(cp.api, f"{path}/resize", {"spec": {"containers": [{**more, "image": "app"}]}})
    assert "only cpu and memory" in found.lower() or "forbidden" in found.lower(), found


def test_a_binding_by_hand_brings_no_grant(cp: ControlPlane) -> None:
    cp.api.post(PODS.format("held"), a_pod("bound", schedulerName="kerf-scheduler"))
    grant = {"kerf.dev/grant": '{"v":1,"containers":[]}'}
    target = {"apiVersion": "v1", "kind": "Node", "name": "node"}
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "bound", "annotations": grant},
        "target": target,
    }

    with pytest.raises(ApiError, match="written by the scheduler alone, when it binds"):
        cp.api.post(f"{PODS.format('held')}/bound/binding", body)
    cp.api.post(f"{PODS.format('held')}/bound/binding", {**body, "metadata": {"name": "bound"}})
    assert "kerf.dev/grant" not in cp.api.get(f"{PODS.format('held')}/bound")["metadata"].get("annotations", {})
