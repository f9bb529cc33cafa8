"""TenantQuotas, and the policies of the chart that guard them, on a real API server."""

from collections.abc import Callable, Iterable
from typing import Any

from kerf.wire.quota import PATH as TENANTS
from sandbox.api import Api

POLICIES = {
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}


def add_tenant(api: Api, name: str, **spec: Any) -> None:
    """A TenantQuota; its namespace has the same name unless `namespaces` says otherwise."""
    spec = {"namespaces": [name], **spec}
    api.post(
        TENANTS, {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": spec}
    )


def add_namespaces(api: Api, *names: str) -> None:
    for name in names:
        api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def apply_policies(api: Api, rendered: Iterable[dict[str, Any]], wanted: Callable[[str], bool]) -> None:
    """The chart's admission policies, and their bindings, whose names are wanted."""
    for item in rendered:
        if item["kind"] in POLICIES and wanted(item["metadata"]["name"]):
            api.post(POLICIES[item["kind"]], item)


def pod(name: str, **spec: Any) -> dict[str, Any]:
    main = {"name": "main", "image": "app", **spec.pop("main", {})}
    full = {"automountServiceAccountToken": False, "containers": [main], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": full}


def by_resource(name: str, resource: str) -> dict[str, Any]:
    return pod(name, main={"resources": {"limits": {resource: "1"}}})


def by_claim(name: str, claim: str) -> dict[str, Any]:
    main = {"resources": {"claims": [{"name": "gpu"}]}}
    return pod(name, main=main, resourceClaims=[{"name": "gpu", "resourceClaimName": claim}])


def spec_of(device_class: str) -> dict[str, Any]:
    """Of a claim for one device of a class."""
    return {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": device_class}}]}}
