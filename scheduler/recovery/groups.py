"""Pods that have to move together: a collective that loses one member hangs until all of them start again.

A group is what its controller calls one. Independent pods of a Job, and workers of a RayCluster, move alone: Ray and
the Job replace them. `kcover.io/cascading-recovery` on a pod overrides that, both ways.
"""

from collections.abc import Callable
from dataclasses import dataclass

from kerf.wire.gangs import gang_of
from kerf.wire.json import Json, at
from kerf.wire.resources import owner_of

CASCADING = "kcover.io/cascading-recovery"
_LWS, _LWS_GROUP = "leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/group-index"
_JOBSET = "jobset.sigs.k8s.io/jobset-name"
_TRAINING = "training.kubeflow.org/job-name"
_RAY, _RAY_TYPE = "ray.io/cluster", "ray.io/node-type"
_JOB, _OLD_JOB = "batch.kubernetes.io/job-name", "job-name"
_INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True, slots=True)
class PodGroup:
    """A group: its name for people, a label selector for the API server ("" for none), and who belongs to it."""

    name: str
    selector: str
    holds: Callable[[Json], bool]


def group_of(pod: Json) -> PodGroup | None:
    """The group that moves as one with this pod; None where the pod moves alone."""
    labels = at(pod, "metadata", "labels")
    cascading = str(labels.get(CASCADING) or "").lower()
    if cascading == "false":
        return None
    return _by_labels(labels) or _gang(pod) or _job(pod, cascading == "true")


def _by_labels(labels: Json) -> PodGroup | None:
    for keys in ((_LWS, _LWS_GROUP), (_JOBSET,), (_TRAINING,)):
        if all(labels.get(key) for key in keys):
            return _labelled(labels, *keys)
    if labels.get(_RAY) and labels.get(_RAY_TYPE) == "head":  # without its head the cluster is gone
        return _labelled(labels, _RAY)
    return None


def _gang(pod: Json) -> PodGroup | None:
    gang = _gang_name(pod)
    return PodGroup(gang, "", lambda other: _gang_name(other) == gang) if gang else None


def _job(pod: Json, cascading: bool) -> PodGroup | None:
    labels, owner = at(pod, "metadata", "labels"), owner_of(at(pod, "metadata"))
    key = next((key for key in (_JOB, _OLD_JOB) if labels.get(key)), "")
    talks = bool(at(pod, "spec").get("subdomain")) and (
        _INDEX in labels or _INDEX in at(pod, "metadata", "annotations")
    )
    if key and (talks or cascading):
        return _labelled(labels, key)
    if cascading and labels.get(_RAY):
        return _labelled(labels, _RAY)
    if cascading and owner:
        return PodGroup(owner, "", lambda other: owner_of(at(other, "metadata")) == owner)
    return None


def _labelled(labels: Json, *keys: str) -> PodGroup:
    wanted = {key: str(labels[key]) for key in keys}
    selector = ",".join(f"{key}={value}" for key, value in wanted.items())

    def holds(other: Json) -> bool:
        found = at(other, "metadata", "labels")
        return all(found.get(key) == value for key, value in wanted.items())

    return PodGroup("/".join(wanted.values()), selector, holds)


def _gang_name(pod: Json) -> str:
    try:
        return gang_of(at(pod, "metadata"), at(pod, "spec"))[0] or ""
    except ValueError:
        return ""
