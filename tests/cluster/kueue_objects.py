"""Short builders of Kueue's objects, and waiting for a workload's conditions."""

from typing import Any

from sandbox import SLEEPER, Api, await_until

KUEUE = "/apis/kueue.x-k8s.io/v1beta2"
VERSION = "kueue.x-k8s.io/v1beta2"
MIB = "quota.kerf.dev/nvidia-mib"
Json = dict[str, Any]


def create(api: Api, *objects: Json) -> None:
    """Create each object in its namespace."""
    for each in objects:
        group, space = each["apiVersion"], each["metadata"].get("namespace")
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        plural = {"LeaderWorkerSet": "leaderworkersets"}.get(each["kind"], f"{each['kind'].lower()}s")
        api.post(f"{root}{f'/namespaces/{space}' if space else ''}/{plural}", each)


def a_flavor(name: str, **labels: str) -> Json:
    return {
        "apiVersion": VERSION,
        "kind": "ResourceFlavor",
        "metadata": {"name": name},
        "spec": {"nodeLabels": labels} if labels else {},
    }


def a_cluster_queue(name: str, quota: dict[str, Json], **spec: Any) -> Json:
    """`quota` is by flavor and resource, ``{"h100": {"quota.kerf.dev/nvidia-mib": 4}}``."""
    (covered,) = {tuple(resources) for resources in quota.values()}
    flavors = [
        {"name": flavor, "resources": [{"name": each, "nominalQuota": amount} for each, amount in resources.items()]}
        for flavor, resources in quota.items()
    ]
    groups = [{"coveredResources": list(covered), "flavors": flavors}]
    return {
        "apiVersion": VERSION,
        "kind": "ClusterQueue",
        "metadata": {"name": name},
        "spec": {"namespaceSelector": {}, "resourceGroups": groups, **spec},
    }


def a_local_queue(name: str, cluster_queue: str, namespace: str = "default") -> Json:
    return {
        "apiVersion": VERSION,
        "kind": "LocalQueue",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterQueue": cluster_queue},
    }


def a_template(requests: dict[str, str]) -> Json:
    """A pod template with one container; extended resources are limits too, as the API server demands."""
    limits = {name: amount for name, amount in requests.items() if "/" in name}
    main = {"name": "main", "image": SLEEPER, "resources": {"requests": requests, "limits": limits}}
    return {"spec": {"restartPolicy": "Never", "containers": [main]}}


def a_job(name: str, queue: str, requests: dict[str, str], *, pods: int = 1, **spec: Any) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", "labels": {"kueue.x-k8s.io/queue-name": queue}},
        "spec": {"parallelism": pods, "completions": pods, "template": a_template(requests), **spec},
    }


def delete_job(api: Api, name: str) -> None:
    api.delete(f"/apis/batch/v1/namespaces/default/jobs/{name}")


def workloads_of(api: Api, owner: str) -> list[Json]:
    """The workloads that an object of this name owns."""
    return [
        each
        for each in api.get(f"{KUEUE}/namespaces/default/workloads")["items"]
        if any(ref["name"] == owner for ref in each["metadata"].get("ownerReferences", ()))
    ]


def workload_of(api: Api, owner: str) -> Json:
    await_until(lambda: bool(workloads_of(api, owner)), f"a workload of {owner}")
    return workloads_of(api, owner)[0]


def condition(workload: Json, kind: str) -> Json:
    """One condition, or an empty one."""
    found = [each for each in workload.get("status", {}).get("conditions", ()) if each["type"] == kind]
    return found[0] if found else {}


def is_true(api: Api, owner: str, kind: str) -> bool:
    """Whether a condition of the owner's workload holds."""
    return any(condition(each, kind).get("status") == "True" for each in workloads_of(api, owner))


def await_admitted(api: Api, owner: str) -> Json:
    """The workload, once it is admitted. The error lists its conditions."""
    try:
        await_until(lambda: is_true(api, owner, "Admitted"), f"{owner} to be admitted")
    except Exception as error:
        raise AssertionError([each.get("status") for each in workloads_of(api, owner)]) from error
    return workload_of(api, owner)


def await_waiting(api: Api, owner: str) -> Json:
    """The condition QuotaReserved of a workload that Kueue tried and left pending."""

    def reason() -> Json:
        return condition(workload_of(api, owner), "QuotaReserved")

    await_until(lambda: reason().get("status") == "False", f"{owner} to be refused quota")
    return reason()


def used(api: Api, queue: str, counter: str = "flavorsReservation") -> dict[tuple[str, str], str]:
    """A ClusterQueue's own usage, by flavor and resource."""
    status = api.get(f"{KUEUE}/clusterqueues/{queue}").get("status", {})
    return {
        (flavor["name"], each["name"]): str(each["total"])
        for flavor in status.get(counter, ())
        for each in flavor.get("resources", ())
    }
