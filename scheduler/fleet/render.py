"""What a cluster gets of a workload: a Deployment or a LeaderWorkerSet with the marks of its fleet and epoch. Pure."""

import hashlib
from collections.abc import Sequence
from typing import Any

from kerf.values.fleet import Assigned, FleetWorkload, HandOver
from kerf.values.vendor import ResourceNames
from kerf.wire.fleet import LABEL_EPOCH, LABEL_MANAGER, LABEL_MODEL, LABEL_WORKLOAD
from kerf.wire.json import Json, at
from scheduler.fleet.shapes import accepted, sized

DEPLOYMENTS = "/apis/apps/v1"
LEADER_WORKER_SETS = "/apis/leaderworkerset.x-k8s.io/v1"
NOT_OURS = frozenset(
    {"resourceVersion", "uid", "creationTimestamp", "managedFields", "generation", "name", "namespace"}
)


def slug(text: str) -> str:
    """A short mark for a name that labels cannot hold."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def labels_of(fleet: str, workload: str, part: Assigned) -> dict[str, str]:
    """The marks of everything that was handed over for a part."""
    return {
        LABEL_MANAGER: slug(fleet),
        LABEL_WORKLOAD: slug(workload),
        LABEL_EPOCH: str(part.epoch),
        LABEL_MODEL: slug(part.model),
    }


def object_name(one: FleetWorkload, part: Assigned) -> str:
    """Another epoch or model is another object: nothing of an older epoch is ever taken over."""
    return f"{one.name}-{slug(part.model)[:6]}-e{part.epoch}"


def render(
    one: FleetWorkload, part: Assigned, fleet: str, names: Sequence[ResourceNames]
) -> tuple[str, dict[str, Any]]:
    """The path to apply to, and the object."""
    labels = labels_of(fleet, one.key, part)
    meta = {"name": object_name(one, part), "namespace": one.namespace, "labels": labels}
    template = _template(one, part, labels, names)
    if one.hand_over is HandOver.LEADER_WORKER_SET:
        body: dict[str, Any] = {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": meta,
            "spec": {
                "replicas": part.replicas,
                "leaderWorkerTemplate": {"size": one.group_size, "workerTemplate": template},
            },
        }
        return f"{LEADER_WORKER_SETS}/namespaces/{one.namespace}/leaderworkersets/{meta['name']}", body
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {"replicas": part.replicas, "selector": {"matchLabels": labels}, "template": template},
    }
    return f"{DEPLOYMENTS}/namespaces/{one.namespace}/deployments/{meta['name']}", body


def _template(
    one: FleetWorkload, part: Assigned, labels: dict[str, str], names: Sequence[ResourceNames]
) -> dict[str, Any]:
    """The template with the slices for this model of card, and with the model written into the pod."""
    pod = sized(one, accepted(one, part.model), names)
    meta = {key: value for key, value in at(one.template, "metadata").items() if key not in NOT_OURS}
    words = _words(pod, names)
    notes = {**at(meta, "annotations"), LABEL_WORKLOAD: one.key, LABEL_MODEL: part.model}
    if words is not None:
        notes[words.use_types] = part.model
    return {
        "metadata": {**meta, "labels": {**at(meta, "labels"), **labels}, "annotations": notes},
        "spec": pod["spec"],
    }


def _words(pod: Json, names: Sequence[ResourceNames]) -> ResourceNames | None:
    """The vendor's words whose cards the pod asks for."""
    for each in names:
        for container in at(pod, "spec").get("containers") or ():
            limits = {**at(container, "resources", "requests"), **at(container, "resources", "limits")}
            if set(limits) & {each.count, each.memory, each.memory_percent, each.cores}:
                return each
    return None
