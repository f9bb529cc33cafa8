"""What a dispatcher reads of MultiKueue's objects (kueue.x-k8s.io/v1beta2) and what it writes. Pure."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kerf.wire.classes import selected_classes
from kerf.wire.errors import WireError
from kerf.wire.fleet import LABEL_CLUSTER
from kerf.wire.json import Json, at, items_at

CONTROLLER = "kueue.x-k8s.io/multikueue"
ALLOWED_FLAVORS = "kueue.x-k8s.io/workload-allowed-resource-flavors"
"""Annotation of a Workload. MultiKueue copies it to the worker, whose Kueue assigns no other flavor when its feature
gate ConcurrentAdmission is on."""
MOST_PODS = 10_000


@dataclass(frozen=True, slots=True)
class PodGroup:
    """One pod set: its template as a pod, with the node labels of its flavors selected, and how many of it run."""

    name: str
    pod: Json
    count: int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dispatchable:
    """A workload that has its quota on the manager and waits for a worker cluster. `nominated` is the current value."""

    namespace: str
    name: str
    uid: str
    version: str
    queue: str
    created: str
    check: str
    groups: tuple[PodGroup, ...]
    nominated: tuple[str, ...] = ()
    allowed: str = ""
    only: str = ""
    """The one cluster that it may go to: a fleet's plan has chosen it."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of cards that its quota was reserved of."""
        return tuple(sorted({slug for group in self.groups for slug in group.classes}))


def parse_dispatchable(workload: Json, checks: Iterable[str], flavors: Mapping[str, Json]) -> Dispatchable | None:
    """The workload if it is for a dispatcher to place now, else None.

    `checks` are the AdmissionChecks that MultiKueue answers, `flavors` the node labels of each ResourceFlavor. A
    workload is not to be placed without a reservation, once it is finished, evicted or placed, or while another check
    of it is not ready: Kueue ignores nominations then. Raises WireError.
    """
    meta, spec, status = workload["metadata"], at(workload, "spec"), at(workload, "status")
    states = {str(check["name"]): str(check["state"]) for check in status.get("admissionChecks") or ()}
    ours = [name for name in states if name in set(checks)]
    if not ours or states.pop(ours[0]) != "Pending" or any(state != "Ready" for state in states.values()):
        return None
    holds = {str(each["type"]) for each in status.get("conditions") or () if each.get("status") == "True"}
    gone = meta.get("deletionTimestamp") or status.get("clusterName") or holds & {"Finished", "Evicted"}
    if gone or "QuotaReserved" not in holds:
        return None
    return Dispatchable(
        namespace=str(meta["namespace"]),
        name=str(meta["name"]),
        uid=str(meta.get("uid", "")),
        version=str(meta.get("resourceVersion", "")),
        queue=str(spec.get("queueName", "")),
        created=str(meta.get("creationTimestamp", "")),
        check=ours[0],
        groups=tuple(_groups(workload, flavors)),
        nominated=tuple(status.get("nominatedClusterNames") or ()),
        allowed=str(at(meta, "annotations").get(ALLOWED_FLAVORS, "")),
        only=_only(spec),
    )


def render_nomination(clusters: Iterable[str], version: str) -> dict[str, Any]:
    """A merge patch of a Workload's status; it is refused when the workload has changed since `version`."""
    return {"metadata": {"resourceVersion": version}, "status": {"nominatedClusterNames": list(clusters)}}


def render_pin(flavors: Iterable[str]) -> dict[str, Any]:
    """A merge patch of a Workload: which flavors the worker's Kueue may assign."""
    return {"metadata": {"annotations": {ALLOWED_FLAVORS: ",".join(sorted(flavors))}}}


_LISTS = ("users", "clusters", "contexts")


def secret_of(cluster: Json) -> str:
    """The name of the Secret with a MultiKueueCluster's kubeconfig. Raises WireError."""
    source = at(cluster, "spec", "clusterSource")
    config = at(source, "kubeConfig")
    if not config or config.get("locationType", "Secret") != "Secret":
        fix = "name a kubeConfig of locationType Secret: Kerf reads no files and no ClusterProfiles"
        raise WireError("spec.clusterSource", dict(source), fix)
    location = config.get("location")
    if not isinstance(location, str) or not location:
        raise WireError("spec.clusterSource.kubeConfig.location", location, "write the name of the Secret")
    return location


def parse_kubeconfig(secret: Json) -> dict[str, Any]:
    """The kubeconfig in a MultiKueueCluster's Secret. It must hold all it needs: no programs, no files.

    Raises WireError.
    """
    try:
        text = base64.b64decode(at(secret, "data")["kubeconfig"], validate=True)
        config = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, yaml.YAMLError):
        config = None
    if not isinstance(config, dict) or not all(isinstance(config.get(key) or [], list) for key in _LISTS):
        raise WireError("data.kubeconfig", "…", "write a kubeconfig there, base64")
    for entry in config.get("users") or ():
        for key in ("exec", "auth-provider", "tokenFile", "client-certificate", "client-key"):
            if key in at(entry, "user"):
                raise WireError(f"data.kubeconfig.users.user.{key}", "…", "use a token or inline certificate data")
    for entry in config.get("clusters") or ():
        cluster = at(entry, "cluster")
        if cluster.get("insecure-skip-tls-verify") or "certificate-authority" in cluster:
            raise WireError("data.kubeconfig.clusters.cluster", "…", "use certificate-authority-data")
    return config


def _only(spec: Json) -> str:
    """The cluster that the pods tolerate the fleet's mark of. Kueue shows no labels of a pod, but its tolerations."""
    marks = (
        toleration.get("value")
        for pod_set in items_at(spec, "podSets")
        for toleration in items_at(pod_set, "template", "spec", "tolerations")
        if toleration.get("key") == LABEL_CLUSTER
    )
    return str(next(marks, "") or "")


def _groups(workload: Json, flavors: Mapping[str, Json]) -> Iterable[PodGroup]:
    admission = at(workload, "status", "admission")
    assigned = {each["name"]: each for each in admission.get("podSetAssignments") or ()}
    meta = workload["metadata"]
    for pod_set in at(workload, "spec").get("podSets") or ():
        name = str(pod_set.get("name", "main"))
        assignment = assigned.get(name) or {}
        labels: dict[str, str] = {}
        for flavor in sorted(set(at(assignment, "flavors").values())):
            labels |= {str(key): str(value) for key, value in flavors.get(flavor, {}).items()}
        template = at(pod_set, "template")
        spec = at(template, "spec")
        pod = {
            "metadata": {**at(template, "metadata"), "namespace": meta["namespace"], "name": f"{name} of it"},
            "spec": {**spec, "nodeSelector": {**at(spec, "nodeSelector"), **labels}},
        }
        count = int(assignment.get("count") or pod_set.get("count") or 1)
        if count > MOST_PODS:
            raise WireError(f"spec.podSets[{name}].count", count, f"ask for at most {MOST_PODS} pods")
        yield PodGroup(name, pod, count, selected_classes(labels))
