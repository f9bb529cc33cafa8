"""Kubernetes' own controllers."""

from collections.abc import Iterable, Iterator

from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at
from kerfctl.workloads.replica import ENDED, SUSPENDED, Idle, Replica, copies, count_at, has_ended, named, template_at

_DAEMONS_TOLERATE = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
"""What the DaemonSet controller lets each of its pods tolerate."""


def replicated(item: Json) -> Iterable[Replica]:
    """Deployment, ReplicaSet, StatefulSet, ReplicationController."""
    spec = at(item, "spec")
    return copies(named(item), template_at(spec, "template", "spec"), count_at(spec, "replicas", "spec"))


def job(item: Json) -> Iterable[Replica] | Idle:
    """Pods that run at once: no more than `parallelism`, nor than completions are missing."""
    spec = at(item, "spec")
    if spec.get("suspend") is True:
        return SUSPENDED
    if has_ended(item):
        return ENDED
    return copies(named(item), template_at(spec, "template", "spec"), at_once(spec, at(item, "status"), "spec"))


def at_once(spec: Json, status: Json, where: str) -> int:
    """How many pods of a Job run at once."""
    parallelism = count_at(spec, "parallelism", where)
    succeeded = count_at(status, "succeeded", "status", 0)
    if spec.get("completions") is None:  # a work queue: once a pod has succeeded, no other starts
        return 0 if succeeded else parallelism
    return min(parallelism, max(count_at(spec, "completions", where) - succeeded, 0))


def cron_job(item: Json) -> Iterable[Replica] | Idle:
    """The pods of one run."""
    if at(item, "spec").get("suspend") is True:
        return SUSPENDED
    template = at(item, "spec", "jobTemplate")
    if not template:
        raise WireError("spec.jobTemplate", at(item, "spec").get("jobTemplate"), "write a template of a Job")
    run = {"metadata": {"name": named(item)}, "spec": at(template, "spec")}
    try:
        return job(run)
    except WireError as error:
        raise WireError(f"spec.jobTemplate.{error.field}", error.value, error.fix) from error


def daemon_set(item: Json, nodes: Iterable[str]) -> Iterator[Replica]:
    """A pod for each of these nodes, which the template's selector, affinity and tolerations allow."""
    template = template_at(at(item, "spec"), "template", "spec")
    return (Replica(f"{named(item)}-{node}", _pinned(template, node), node=node) for node in nodes)


def tolerant(spec: Json) -> Json:
    """A DaemonSet's pod spec with the tolerations that its controller adds."""
    added = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in _DAEMONS_TOLERATE]
    if spec.get("hostNetwork") is True:
        added.append({"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"})
    return {**spec, "tolerations": [*items_at(spec, "tolerations"), *added]}


def _pinned(template: Json, node: str) -> Json:
    """The template for one node: required affinity to it replaces the template's own, as in the controller."""
    spec = tolerant(at(template, "spec"))
    field = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [field]}}
    affinity = {**at(spec, "affinity"), "nodeAffinity": {**at(spec, "affinity", "nodeAffinity"), **required}}
    return {**template, "spec": {**spec, "affinity": affinity}}
