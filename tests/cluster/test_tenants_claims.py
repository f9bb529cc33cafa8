"""A tenant's namespace gets no device of gpu.kerf.dev past its quota, on the real API server and kube-scheduler."""

from typing import Any

import pytest

from sandbox import ApiError, ControlPlane, FakeNode, await_until, render_scheduler_configuration
from sandbox.crds import install_crds
from tests.chart.helm import render
from tests.cluster.dra_world import RESOURCE, claim_spec
from tests.cluster.tenants import (
    POLICIES,
    TENANTS,
    add_namespaces,
    add_tenant,
    apply_policies,
    by_claim,
    by_resource,
    pod,
    spec_of,
)

pytestmark = pytest.mark.cluster
CLASS, RESOURCE_OF_CLASS = "h100.example.com", "example.com/h100"
WHY = "belongs to tenant {}, whose TenantQuota does not say claims: allow"


@pytest.fixture(scope="module")
def cp(control_plane: ControlPlane) -> ControlPlane:
    """Tenants `held` and `free`, a node with a card for claims, and a class of another name that selects everything."""
    api = control_plane.api
    install_crds(control_plane)
    add_namespaces(api, "held", "free", "tenantless")
    add_tenant(api, "held", classes=[{"guaranteed": "1 card of H100"}])
    add_tenant(api, "free", classes=[{"guaranteed": "1 card of H100"}], claims="allow")
    api.post(f"{RESOURCE}/deviceclasses", a_class())
    add_card(control_plane)
    claim(control_plane, "held", "made-before", spec_of(CLASS))
    apply_policies(api, render("dra.enabled=true", "quota.enabled=true"), lambda name: name.startswith("kerf-tenants-"))
    # The API server takes a moment to enforce new policies.
    kinds = ("resourceclaims", "resourceclaimtemplates", "pods")
    await_until(lambda: all(refusal(control_plane, "held", kind) for kind in kinds), "the policies")
    kubeconfig = str(control_plane.kubeconfig_for("system:kube-scheduler"))
    control_plane.start_scheduler(
        configuration=render_scheduler_configuration(kubeconfig, None, profile="default-scheduler")
    )
    return control_plane


def a_class() -> dict[str, Any]:
    spec = {"selectors": [{"cel": {"expression": "true"}}], "extendedResourceName": RESOURCE_OF_CLASS}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": CLASS}, "spec": spec}


def add_card(cp: ControlPlane) -> None:
    cp.add_fake_nodes([FakeNode("cards")])
    pool = {"name": "cards", "generation": 1, "resourceSliceCount": 1}
    devices = [{"name": f"card-{i}"} for i in range(8)]
    spec = {"driver": "gpu.kerf.dev", "nodeName": "cards", "pool": pool, "devices": devices}
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "cards"}, "spec": spec}
    cp.api.post(f"{RESOURCE}/resourceslices", body)


def claim(cp: ControlPlane, namespace: str, name: str, spec: dict[str, Any]) -> None:
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}, "spec": spec}
    cp.api.post(f"{RESOURCE}/namespaces/{namespace}/resourceclaims", body)


def body_of(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    if kind == "pods":
        return by_resource("p", "gpu.kerf.dev/card")
    name, group = {"name": "dry"}, {"apiVersion": "resource.k8s.io/v1"}
    if kind == "resourceclaims":
        return {**group, "kind": "ResourceClaim", "metadata": name, "spec": spec}
    return {**group, "kind": "ResourceClaimTemplate", "metadata": name, "spec": {"spec": spec}}


def refusal(cp: ControlPlane, namespace: str, kind: str, body: dict[str, Any] | None = None) -> str:
    """The API server's words; empty where it accepts the object."""
    root = "/api/v1" if kind == "pods" else RESOURCE
    try:
        cp.api.post(f"{root}/namespaces/{namespace}/{kind}?dryRun=All", body or body_of(kind, claim_spec()))
    except ApiError as error:
        return str(error)
    return ""


def first_available(*classes: str) -> dict[str, Any]:
    wanted = [{"name": f"choice-{i}", "deviceClassName": name} for i, name in enumerate(classes)]
    return {"devices": {"requests": [{"name": "gpu", "firstAvailable": wanted}]}}


SPECS = {
    "a slice": claim_spec(memory="1Gi"),
    "a card": claim_spec("card"),
    "an instance": claim_spec("mig"),
    "all cards": {
        "devices": {
            "requests": [{"name": "gpu", "exactly": {"deviceClassName": "card.gpu.kerf.dev", "allocationMode": "All"}}]
        }
    },
    "the first available": first_available("other.example.com", "slice.gpu.kerf.dev"),
}


@pytest.mark.parametrize("kind", ["resourceclaims", "resourceclaimtemplates"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_whatever_names_kerfs_classes_is_refused_when_it_is_made(
    cp: ControlPlane, kind: str, spec: dict[str, Any]
) -> None:
    said = {name: refusal(cp, name, kind, body_of(kind, spec)) for name in ("held", "free", "tenantless")}

    assert WHY.format("held") in said.pop("held")
    assert said == {"free": "", "tenantless": ""}


@pytest.mark.parametrize("kind", ["resourceclaims", "resourceclaimtemplates"])
@pytest.mark.parametrize("spec", [{}, spec_of("gpu.nvidia.com"), first_available("a.example.com", "b.example.com")])
def test_other_drivers_classes_are_not_kerfs_concern(cp: ControlPlane, kind: str, spec: dict[str, Any]) -> None:
    assert refusal(cp, "held", kind, body_of(kind, spec)) == ""


@pytest.mark.parametrize(
    "resource",
    ["gpu.kerf.dev/card", *(f"deviceclass.resource.kubernetes.io/{k}.gpu.kerf.dev" for k in ("card", "mig"))],
)
def test_extended_resources_that_become_claims_are_refused_on_the_pod(cp: ControlPlane, resource: str) -> None:
    init = pod("p", initContainers=[{"name": "first", "image": "app", "resources": {"limits": {resource: "1"}}}])
    said = [refusal(cp, "held", "pods", each) for each in (by_resource("p", resource), init)]

    assert [WHY.format("held") in each for each in said] == [True, True]
    assert [refusal(cp, name, "pods", by_resource("p", resource)) for name in ("free", "tenantless")] == ["", ""]


def waits_or_runs(cp: ControlPlane, namespace: str, name: str) -> str:
    """The node of a pod, or why kube-scheduler could not give it what it claims."""

    def found() -> str:
        path = f"/api/v1/namespaces/{namespace}"
        node = str(cp.api.get(f"{path}/pods/{name}")["spec"].get("nodeName", ""))
        said = [e["message"] for e in cp.api.get(f"{path}/events")["items"] if e["involvedObject"]["name"] == name]
        return node or next((each for each in said if "does not say claims: allow" in each), "")

    await_until(lambda: bool(found()), f"a node or a refusal of {namespace}/{name}")
    return found()


@pytest.mark.parametrize("namespace", ["held", "free", "tenantless"])
def test_a_class_of_another_name_leads_to_no_card_of_a_tenant(cp: ControlPlane, namespace: str) -> None:
    claim(cp, namespace, "by-class", spec_of(CLASS))
    claim(cp, namespace, "empty", {})
    pods = {"claiming": by_claim("claiming", "by-class"), "resource": by_resource("resource", RESOURCE_OF_CLASS)}
    if namespace == "held":
        pods["before"] = by_claim("before", "made-before")
    pods["nothing"] = by_claim("nothing", "empty")
    for each in pods.values():
        cp.api.post(f"/api/v1/namespaces/{namespace}/pods", each)

    said = {name: waits_or_runs(cp, namespace, name) for name in pods}

    if namespace != "held":
        assert said == dict.fromkeys(pods, "cards")
        return
    assert said.pop("nothing") == "cards"
    assert [name for name, text in said.items() if WHY.format("held") not in text] == []
    claims = cp.api.get(f"{RESOURCE}/namespaces/held/resourceclaims")["items"]
    assert [each["metadata"]["name"] for each in claims if each.get("status", {}).get("allocation")] == ["empty"]


def test_a_tenant_that_is_allowed_claims_loses_them_with_the_word(cp: ControlPlane) -> None:
    def said(word: str) -> str:
        cp.api.patch(f"{TENANTS}/free", {"spec": {"claims": word}})
        await_until(lambda: bool(refusal(cp, "free", "resourceclaims")) is (word == "refuse"), f"claims: {word}")
        return refusal(cp, "free", "resourceclaims")

    assert (WHY.format("free") in said("refuse"), said("allow")) == (True, "")


def test_the_api_servers_own_type_check_finds_nothing_in_the_policies(cp: ControlPlane) -> None:
    def statuses() -> list[dict[str, Any]]:
        return [each.get("status", {}) for each in cp.api.get(POLICIES["ValidatingAdmissionPolicy"])["items"]]

    await_until(lambda: all("typeChecking" in each for each in statuses()), "the type check")
    assert [each["typeChecking"] for each in statuses()] == [{}] * 4
