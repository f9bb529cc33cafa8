"""Kueue's objects (kueue.x-k8s.io/v1beta2) as Kerf writes and reads them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kerf.values.quota import DIMENSIONS, NOTHING, Amount, Bound
from kerf.values.units import parse_quantity
from kerf.values.vendor import ResourceNames
from kerf.wire.classes import PRESENT, class_label
from kerf.wire.json import Json, at
from kerf.wire.quota import PRIORITIES

VERSION = "kueue.x-k8s.io/v1beta2"
ROOT = f"/apis/{VERSION}"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
SUSPENDING_PARENT = "kueue.x-k8s.io/pod-suspending-parent"
"""Annotation on pods whose Deployment, StatefulSet or LeaderWorkerSet Kueue queues; Kueue gates them whatever else."""
MANAGED = {"app.kubernetes.io/managed-by": "kerf"}
MANAGED_SELECTOR = "app.kubernetes.io/managed-by=kerf"
FIELD_MANAGER = "kerf-quota"
FIT_CHECK = "kerf-gpu-fit"
FIT_CONTROLLER = "kerf.dev/gpu-fit"
TENANT_LABEL = "kerf.dev/tenant"
UNLIMITED = 2**31 - 1
"""Nominal quota of a dimension that a tenant's file does not limit."""

PLURALS: Mapping[str, str] = {
    "ResourceFlavor": "resourceflavors",
    "WorkloadPriorityClass": "workloadpriorityclasses",
    "AdmissionCheck": "admissionchecks",
    "Cohort": "cohorts",
    "ClusterQueue": "clusterqueues",
    "LocalQueue": "localqueues",
}
"""What Kerf writes, in the order in which one needs the other."""


@dataclass(frozen=True, slots=True)
class FlavorQuota:
    """What a ClusterQueue or a Cohort has of one flavor; None in `borrowing` and `lending` is no limit."""

    slug: str
    vendor: str
    nominal: Bound
    borrowing: Bound = field(default_factory=Bound)
    lending: Bound = field(default_factory=Bound)


def path_of(kind: str, name: str = "", namespace: str = "") -> str:
    """Path of an object, or with an empty name of all of its kind."""
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{ROOT}{within}/{PLURALS[kind]}" + (f"/{name}" if name else "")


def render_flavor(slug: str) -> dict[str, Any]:
    """The ResourceFlavor of a class: what it admits runs on nodes with such cards, and gets these cards alone."""
    return _object("ResourceFlavor", slug, {"nodeLabels": {class_label(slug): PRESENT}})


def render_priority(band: str) -> dict[str, Any]:
    """The WorkloadPriorityClass of a band."""
    text = f"Workloads of tenants whose TenantQuota says priority: {band}"
    made = _object("WorkloadPriorityClass", priority_class(band), None)
    return {**made, "value": PRIORITIES[band], "description": text}


def priority_class(band: str) -> str:
    """The name of a band's WorkloadPriorityClass."""
    return f"kerf-{band}"


def render_fit_check() -> dict[str, Any]:
    """The AdmissionCheck that asks Kerf whether the cards hold a workload."""
    return _object("AdmissionCheck", FIT_CHECK, {"controllerName": FIT_CONTROLLER})


def render_cohort(name: str, quotas: Iterable[FlavorQuota], vendors: Iterable[ResourceNames]) -> dict[str, Any]:
    """The Cohort of all tenants, with the capacity that no tenant is guaranteed."""
    groups = _groups(quotas, vendors, limits=False)
    return _object("Cohort", name, {"resourceGroups": groups} if groups else {})


def render_cluster_queue(
    tenant: str,
    spec: Json,
    quotas: Iterable[FlavorQuota],
    vendors: Iterable[ResourceNames],
) -> dict[str, Any]:
    """A tenant's ClusterQueue. `spec` gives what is not quota: cohort, namespaces, weight and checks.

    Without quotas it covers no resource, so what asks for cards waits in it.
    """
    groups = _groups(quotas, vendors, limits=True)
    made = _object("ClusterQueue", tenant, {**spec, **({"resourceGroups": groups} if groups else {})})
    made["metadata"]["labels"][TENANT_LABEL] = tenant
    return made


def render_queue_spec(cohort: str, namespaces: tuple[str, ...], weight: int, *, fit_check: bool) -> dict[str, Any]:
    """What a tenant's ClusterQueue says beside its quota."""
    where = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(namespaces)}
    checks = {"admissionChecksStrategy": {"admissionChecks": [{"name": FIT_CHECK}]}} if fit_check else {}
    return {
        "cohortName": cohort,
        "namespaceSelector": {"matchExpressions": [where]},
        "queueingStrategy": "BestEffortFIFO",
        "preemption": {"withinClusterQueue": "LowerPriority", "reclaimWithinCohort": "Any"},
        "fairSharing": {"weight": str(weight)},
        **checks,
    }


def render_local_queue(name: str, namespace: str, tenant: str) -> dict[str, Any]:
    """The queue of one of a tenant's namespaces."""
    made = _object("LocalQueue", name, {"clusterQueue": tenant})
    made["metadata"] |= {"namespace": namespace}
    return made


def parse_amounts(values: Json, names: ResourceNames) -> Amount:
    """One vendor's part of a resource list such as a podset's `resourceUsage`; what cannot be read counts nothing."""
    found = []
    for name in names.quota:
        try:
            found.append(int(parse_quantity(values.get(name, 0))))
        except ValueError:
            found.append(0)
    return Amount(*found)


def parse_flavor_usage(status: Json, key: str, vendors: Iterable[ResourceNames]) -> dict[str, tuple[Amount, Amount]]:
    """By flavor, what a ClusterQueue's `flavorsReservation` or `flavorsUsage` says is used in all, and borrowed."""
    found = {}
    known = tuple(vendors)
    for entry in status.get(key) or ():
        resources = entry.get("resources") or ()
        totals = {str(resource.get("name")): resource.get("total", 0) for resource in resources}
        borrowed = {str(resource.get("name")): resource.get("borrowed", 0) for resource in resources}
        used = NOTHING, NOTHING
        for names in known:
            used = used[0] + parse_amounts(totals, names), used[1] + parse_amounts(borrowed, names)
        found[str(entry.get("name"))] = used
    return found


def parse_reserved(workload: Json, vendors: Iterable[ResourceNames]) -> dict[str, Amount]:
    """By flavor, what an admitted workload has reserved (`status.admission`), empty for one that waits."""
    found: dict[str, Amount] = {}
    admission = at(workload, "status", "admission")
    for assignment in admission.get("podSetAssignments") or ():
        flavors, usage = at(assignment, "flavors"), at(assignment, "resourceUsage")
        for names in vendors:
            flavor = flavors.get(names.quota[0])
            if flavor:
                found[flavor] = found.get(flavor, NOTHING) + parse_amounts(usage, names)
    return found


def needs_answer(workload: Json) -> bool:
    """Whether the workload has its quota and waits for the fit check's answer."""
    return is_true(workload, "QuotaReserved") and not is_over(workload) and _fit_state(workload) == "Pending"


def is_over(workload: Json) -> bool:
    """Whether the workload is finished, or Kueue is taking it back."""
    return is_true(workload, "Finished") or is_true(workload, "Evicted")


def retries(workload: Json) -> int:
    """How often the fit check has sent the workload back already."""
    return int(_fit_check(workload).get("retryCount") or 0)


def podsets_of(workload: Json, vendors: Iterable[ResourceNames]) -> list[tuple[str, int, Json, tuple[str, ...]]]:
    """Of each podset: its name, how many pods were admitted, the pod template, and the classes of cards assigned."""
    admission = at(workload, "status", "admission")
    assigned = {a.get("name"): a for a in admission.get("podSetAssignments") or ()}
    names = tuple(vendors)
    found = []
    for podset in at(workload, "spec").get("podSets") or ():
        assignment = assigned.get(podset.get("name"), {})
        flavors = at(assignment, "flavors")
        classes = {flavors[each.quota[0]] for each in names if each.quota[0] in flavors}
        count = int(assignment.get("count") or podset.get("count") or 1)
        found.append((str(podset.get("name")), count, at(podset, "template"), tuple(sorted(classes))))
    return found


def render_fit_answer(workload: Json, state: str, message: str, when: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """What the fit check owns of a workload's status, for server-side apply; `more` joins the check's state."""
    meta = workload["metadata"]
    answer = {"name": FIT_CHECK, "state": state, "message": message[:32_000], "lastTransitionTime": when, **more}
    return {
        "apiVersion": VERSION,
        "kind": "Workload",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "status": {"admissionChecks": [answer]},
    }


def _fit_check(workload: Json) -> Json:
    checks = at(workload, "status").get("admissionChecks") or ()
    return next((check for check in checks if check.get("name") == FIT_CHECK), {})


def _fit_state(workload: Json) -> str:
    return str(_fit_check(workload).get("state", ""))


def conditions_of(workload: Json) -> dict[str, Json]:
    """The conditions of an object by type."""
    return {str(c.get("type")): c for c in at(workload, "status").get("conditions") or ()}


def is_true(workload: Json, condition: str) -> bool:
    """Whether a condition holds."""
    conditions = at(workload, "status").get("conditions") or ()
    return any(c.get("type") == condition and c.get("status") == "True" for c in conditions)


def is_active(workload: Json) -> bool:
    """Whether the workload may run: `spec.active` is not false."""
    return at(workload, "spec").get("active", True) is not False


def is_taken_back(workload: Json) -> bool:
    """Whether Kueue has evicted the workload and freed what it had reserved."""
    return is_true(workload, "Evicted") and not is_true(workload, "QuotaReserved")


def admitted_at(workload: Json) -> str:
    """When quota was reserved, for sorting by age; empty where it was not."""
    return str(conditions_of(workload).get("QuotaReserved", {}).get("lastTransitionTime", ""))


def priority_of(workload: Json) -> int:
    """The workload's priority in Kueue's eyes."""
    priority = at(workload, "spec").get("priority")
    return priority if isinstance(priority, int) and not isinstance(priority, bool) else 0


def waiting_reason(workload: Json) -> str:
    """Why a workload waits, in Kueue's or a check's own words; empty for one that runs or is over."""
    if is_true(workload, "Finished") or is_true(workload, "Admitted"):
        return ""
    for check in at(workload, "status").get("admissionChecks") or ():
        if check.get("state") != "Ready" and check.get("message"):
            return str(check["message"])
    found = conditions_of(workload)
    return next((str(found[kind].get("message", "")) for kind in ("QuotaReserved", "Evicted") if kind in found), "")


def _groups(quotas: Iterable[FlavorQuota], vendors: Iterable[ResourceNames], *, limits: bool) -> list[dict[str, Any]]:
    """One group a vendor: a flavor may stand in one group only, and repeats its resources in the group's order."""
    listed = sorted(quotas, key=lambda quota: quota.slug)
    groups = []
    for names in vendors:
        flavors = [_flavor(quota, names, limits=limits) for quota in listed if quota.vendor == names.vendor]
        if flavors:
            groups.append({"coveredResources": list(names.quota), "flavors": flavors})
    return groups


def _flavor(quota: FlavorQuota, names: ResourceNames, *, limits: bool) -> dict[str, Any]:
    resources = []
    for name, dimension in zip(names.quota, DIMENSIONS, strict=True):
        nominal = quota.nominal.of(dimension)
        entry: dict[str, Any] = {"name": name, "nominalQuota": str(UNLIMITED if nominal is None else nominal)}
        if limits and nominal is None:
            entry |= {"borrowingLimit": "0", "lendingLimit": "0"}
        elif limits:
            for key, bound in (("borrowingLimit", quota.borrowing), ("lendingLimit", quota.lending)):
                if (value := bound.of(dimension)) is not None:
                    entry[key] = str(min(value, nominal or 0) if key == "lendingLimit" else value)
        resources.append(entry)
    return {"name": quota.slug, "resources": resources}


def _object(kind: str, name: str, spec: Json | None) -> dict[str, Any]:
    made: dict[str, Any] = {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name, "labels": dict(MANAGED)}}
    return made if spec is None else {**made, "spec": dict(spec)}
