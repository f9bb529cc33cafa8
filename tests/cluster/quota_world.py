"""Tenants, queued pods and their usage according to Kueue and Kerf, on the real API server."""

from dataclasses import replace
from typing import Any

import pytest

from kerf.testing.builders import cards_of
from kerf.values.health import HEALTHY, SUSPECT
from kerf.values.quota import Amount
from kerf.values.units import parse_quantity
from kerf.vendors.registry import NAMES
from kerf.wire.accounts import parse_account
from kerf.wire.inventory import render_inventory
from kerf.wire.kueue import ROOT, parse_flavor_usage
from kerf.wire.quota import PATH
from sandbox import ApiError, ControlPlane, SandboxError, await_until

SLUG = "nvidia-h100-80gb-hbm3-shared"
MIB, CORES, CARDS = NAMES[0].quota
WHOLE = 81_559
Json = dict[str, Any]


def a_tenant(name: str, guaranteed: Any, **more: Any) -> Json:
    """A tenant with the namespace of its name. `more` has fields of the class (burst, lendable) or of the spec."""
    entry = {"model": "H100", "guaranteed": guaranteed, **{k: more.pop(k) for k in ("burst", "lendable") if k in more}}
    spec = {"namespaces": [name], "classes": [entry], **more}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": spec}


def put_tenants(cp: ControlPlane, *tenants: Json) -> None:
    """Exactly these tenants, with usable queues."""
    wanted = {tenant["metadata"]["name"]: tenant for tenant in tenants}
    for item in cp.api.get(PATH)["items"]:
        if item["metadata"]["name"] not in wanted:
            cp.api.delete(f"{PATH}/{item['metadata']['name']}")
    for name, tenant in wanted.items():
        if name not in names_of(cp, "/api/v1/namespaces"):
            cp.api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        cp.api.apply(f"{PATH}/{name}", tenant)
    await_until(lambda: names_of(cp, f"{ROOT}/clusterqueues") == set(wanted), "the queues of the tenants alone")
    await_until(lambda: all(is_active(cp, name) for name in wanted), "the queues to be active")


def names_of(cp: ControlPlane, path: str) -> set[str]:
    return {item["metadata"]["name"] for item in cp.api.get(path)["items"]}


def is_active(cp: ControlPlane, queue: str) -> bool:
    found = cp.api.get(f"{ROOT}/clusterqueues/{queue}").get("status", {}).get("conditions", ())
    return any((each["type"], each["status"]) == ("Active", "True") for each in found)


def pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def add(cp: ControlPlane, namespace: str, *pods: Json) -> None:
    """Create pods in a tenant's namespace."""
    for pod in pods:
        pod["metadata"]["namespace"] = namespace
        cp.api.post(pods_path(namespace), pod)


def runs(cp: ControlPlane, namespace: str, name: str) -> bool:
    """Whether a pod is bound."""
    try:
        return bool(cp.api.get(f"{pods_path(namespace)}/{name}")["spec"].get("nodeName"))
    except ApiError as error:
        if error.status == 404:
            return False
        raise


def await_runs(cp: ControlPlane, namespace: str, *names: str) -> None:
    """Wait until pods are bound. The error lists the conditions of the pods and of their workloads."""
    try:
        await_until(lambda: all(runs(cp, namespace, name) for name in names), f"{', '.join(names)} to run")
    except Exception as error:
        told = [
            (item["kind"], item["metadata"]["name"], said["type"], said["status"], said.get("message", ""))
            for path in (f"{ROOT}/namespaces/{namespace}/workloads", pods_path(namespace))
            for item in ({"kind": path.rpartition("/")[2], **each} for each in cp.api.get(path)["items"])
            for said in item.get("status", {}).get("conditions", ())
        ]
        raise AssertionError(told) from error


def remove(cp: ControlPlane, namespace: str, *names: str) -> None:
    """Delete pods, or all pods of a namespace, and wait until Kueue has dropped them."""
    gone = names or tuple(names_of(cp, pods_path(namespace)))
    for name in gone:
        cp.api.remove(f"{pods_path(namespace)}/{name}", 0)
    await_until(lambda: not set(gone) & names_of(cp, pods_path(namespace)), "the pods to be gone")
    left = f"{ROOT}/namespaces/{namespace}/workloads"
    await_until(lambda: not any(_owned(w, gone) for w in cp.api.get(left)["items"]), "their workloads to be gone")


def _owned(workload: Json, names: tuple[str, ...]) -> bool:
    return any(ref["name"] in names for ref in workload["metadata"].get("ownerReferences", ()))


def workload_of_pod(cp: ControlPlane, namespace: str, name: str) -> Json:
    """The pod's workload; empty while there is none."""
    found = cp.api.get(f"{ROOT}/namespaces/{namespace}/workloads")["items"]
    return next((w for w in found if _owned(w, (name,))), {})


def kueue_says(cp: ControlPlane, queue: str) -> Amount:
    """What Kueue's ClusterQueue has reserved of the class."""
    status = cp.api.get(f"{ROOT}/clusterqueues/{queue}").get("status", {})
    return parse_flavor_usage(status, "flavorsReservation", NAMES).get(SLUG, (Amount(), Amount()))[0]


def kerf_says(cp: ControlPlane, tenant: str) -> Amount:
    """What the tenant's pods hold by Kerf's ledger, from the TenantQuota's status."""
    book = parse_account(cp.api.get(f"{PATH}/{tenant}"))
    return next((entry.used for entry in book.classes if entry.slug == SLUG), Amount())


def await_books(cp: ControlPlane, tenant: str, truth: Amount) -> None:
    """Wait until Kueue and Kerf both report the expected usage; both write it with a delay."""
    said: list[tuple[Amount, Amount]] = []

    def agree() -> bool:
        said.append((kueue_says(cp, tenant), kerf_says(cp, tenant)))
        return said[-1] == (truth, truth)

    try:
        await_until(agree, "both books")
    except SandboxError:
        pytest.fail(f"the truth is {truth}; Kueue and Kerf say {said[-1]}")


def nominal(cp: ControlPlane, kind: str, name: str) -> tuple[int, ...]:
    """MiB, cores and cards of the class that a ClusterQueue or the Cohort has."""
    spec = cp.api.get(f"{ROOT}/{kind}/{name}")["spec"]
    (group,) = spec["resourceGroups"]
    (flavor,) = (flavor for flavor in group["flavors"] if flavor["name"] == SLUG)
    return tuple(int(parse_quantity(resource["nominalQuota"])) for resource in flavor["resources"])


def set_health(cp: ControlPlane, node: str, *healthy: bool) -> None:
    """The inventory that the device plugin publishes when cards become unhealthy or recover."""
    cards = cards_of(node, len(healthy))
    published = tuple(
        replace(card, health=HEALTHY if well else SUSPECT) for card, well in zip(cards, healthy, strict=True)
    )
    notes = {"kerf.dev/inventory": render_inventory(published)}
    cp.api.patch(f"/api/v1/nodes/{node}", {"metadata": {"annotations": notes}})
