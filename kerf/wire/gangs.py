"""Which gang a pod belongs to: pods that run all or nothing, as Kerf and the tools around it write them.

A group object (PodGroup, Kueue's pod group) names one gang. The label `kerf.dev/gang` in a template names one gang for
each owner that is made of it, not one for all.
"""

from collections.abc import Iterator

from kerf.values.units import parse_whole
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at

GANG = "kerf.dev/gang"
GANG_SIZE = "kerf.dev/gang-size"
GANG_SCOPE = "kerf.dev/gang-scope"
"""With the value "namespace", a gang's pods may have several owners."""
GANG_PART = "kerf.dev/gang-part"
"""Annotation of the webhook: the part of a JobSet that starts by itself, where its parts start in order."""
_GROUP_LABELS = (
    "scheduling.x-k8s.io/pod-group",
    "pod-group.scheduling.sigs.k8s.io",
    "pod-group.scheduling.sigs.k8s.io/name",
    "kueue.x-k8s.io/pod-group-name",
)
"""The Coscheduling plugin's label today and before, and Kueue's."""
_GROUP_NOTES = ("scheduling.k8s.io/group-name", "scheduling.volcano.sh/group-name")
"""Volcano's annotations."""
_SIZES = (
    GANG_SIZE,
    "kueue.x-k8s.io/pod-group-total-count",
    "pod-group.scheduling.sigs.k8s.io/min-available",
    "scheduling.volcano.sh/group-min-member",
)
_LWS, _JOB_SET = "leaderworkerset.sigs.k8s.io", "jobset.sigs.k8s.io"
_OWNERS = (f"{_LWS}/name", f"{_JOB_SET}/jobset-name", "ray.io/cluster", "training.kubeflow.org/job-name")
"""Labels that name what owns a pod in the end; its direct owner is one of several."""
_HASH = "pod-template-hash"


def gang_of(meta: Json, spec: Json) -> tuple[str | None, int]:
    """The pod's gang as `namespace/name` or None, and its size, 0 where the pod does not say. Raises WireError."""
    labels, notes = at(meta, "labels"), at(meta, "annotations")
    size = _size(labels, notes)
    name = _named(meta, spec) or _of_set(labels, notes, size)
    if not name:
        return None, 0
    if not size and name.startswith(f"{_LWS}/"):
        size = _number(notes, f"{_LWS}/size", labels)
    return f"{meta.get('namespace') or 'default'}/{name}", size


def starts_leader_first(item: Json) -> bool:
    """Whether a LeaderWorkerSet makes the workers of a group once its leader is ready."""
    return at(item, "spec").get("startupPolicy") == "LeaderReady"


def groups_of_set(item: Json) -> str:
    """The names of the gangs of a LeaderWorkerSet's groups, up to their last slash."""
    meta = at(item, "metadata")
    return f"{meta.get('namespace') or 'default'}/{_LWS}/{meta.get('name')}"


def _named(meta: Json, spec: Json) -> str:
    """The gang that a pod names."""
    labels, notes = at(meta, "labels"), at(meta, "annotations")
    if group := at(spec, "schedulingGroup").get("podGroupName"):
        return str(group)
    if name := labels.get(GANG):
        whole = labels.get(GANG_SCOPE, notes.get(GANG_SCOPE)) == "namespace"
        owner = "" if whole else _owner(meta)
        return f"{name}@{owner}" if owner else str(name)
    groups = (*(labels.get(key) for key in _GROUP_LABELS), *(notes.get(key) for key in _GROUP_NOTES))
    return str(next((group for group in groups if group), ""))


def _of_set(labels: Json, notes: Json, size: int) -> str:
    """The gang of a LeaderWorkerSet's group, or of a JobSet whose size the webhook has written; empty for none."""
    if name := labels.get(f"{_LWS}/name"):
        group = labels.get(f"{_LWS}/group-index")
        return f"{_LWS}/{name}/{group}" if group is not None else ""
    name = labels.get(f"{_JOB_SET}/jobset-name")
    if not name or not size:
        return ""
    part = f"/{labels.get(f'{_JOB_SET}/replicatedjob-name')}" if GANG_PART in notes else ""
    return f"{_JOB_SET}/{name}{part}"


def _owner(meta: Json) -> str:
    """What was made of the template in which the label is written; empty for a pod that nothing controls."""
    labels = at(meta, "labels")
    for key in _OWNERS:
        if labels.get(key):
            group = labels.get(f"{_LWS}/group-index") if key == f"{_LWS}/name" else None
            return f"{labels[key]}" if group is None else f"{labels[key]}/{group}"
    return next(_controllers(meta), "")


def _controllers(meta: Json) -> Iterator[str]:
    labels = at(meta, "labels")
    for owner in items_at(meta, "ownerReferences"):
        if owner.get("controller") is True:
            name, kind = str(owner.get("name", "")), str(owner.get("kind", ""))
            # The ReplicaSets of a Deployment follow one another in a rolling update: the gang is the Deployment's.
            yield name.removesuffix(f"-{labels[_HASH]}") if kind == "ReplicaSet" and labels.get(_HASH) else name


def _size(labels: Json, notes: Json) -> int:
    for key in _SIZES:
        if size := _number(notes, key, labels):
            return size
    return 0


def _number(notes: Json, key: str, labels: Json) -> int:
    try:
        return parse_whole(notes.get(key, labels.get(key, 0)))
    except ValueError as error:
        text = notes.get(key, labels.get(key))
        raise WireError(f"metadata.annotations[{key}]", text, "write the number of pods in the gang") from error
