"""What a cluster gets of a workload: a Deployment or LeaderWorkerSets with the marks of its fleet and epoch. Pure.

What goes through MultiKueue is written on the manager cluster: Kueue copies it to the cluster that the plan chose.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kerf.values.fleet import Assigned, FleetWorkload, HandOver
from kerf.values.vendor import ResourceNames
from kerf.wire.fields import API_VERSION
from kerf.wire.fleet import LABEL_CLUSTER, LABEL_EPOCH, LABEL_MANAGER, LABEL_MODEL, LABEL_WORKLOAD, WORKLOAD, slug
from kerf.wire.json import Json, at
from kerf.wire.kueue import QUEUE_LABEL
from scheduler.fleet.claims import handed_over
from scheduler.fleet.shapes import accepted, sized

DEPLOYMENTS = "/apis/apps/v1"
LEADER_WORKER_SETS = "/apis/leaderworkerset.x-k8s.io/v1"
REFUSED = "fleet.kerf.dev/refused-classes"
"""On what goes through MultiKueue: which classes of cards its pods refuse, as long as it lives."""
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
NOT_OURS = frozenset(
    {"resourceVersion", "uid", "creationTimestamp", "managedFields", "generation", "name", "namespace"}
)


def labels_of(fleet: str, workload: str, part: Assigned) -> dict[str, str]:
    """The marks of everything that was handed over for a part."""
    return {
        LABEL_MANAGER: slug(fleet),
        LABEL_WORKLOAD: slug(workload),
        LABEL_EPOCH: str(part.epoch),
        LABEL_MODEL: slug(part.model),
    }


def object_name(one: FleetWorkload, part: Assigned) -> str:
    """Another epoch or model is another object: nothing of an older epoch is ever taken over.

    On the manager cluster, where MultiKueue finds the parts for all clusters, another cluster is another object, too.
    """
    what = slug(f"{part.cluster} {part.model}")[:8] if one.queue else slug(part.model)[:6]
    return f"{one.name}-{what}-e{part.epoch}"


def render(
    one: FleetWorkload, part: Assigned, fleet: str, names: Sequence[ResourceNames], refused: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """The objects of a part, by the path to apply each to. `refused` are labels of other classes of cards."""
    labels = labels_of(fleet, one.key, part)
    if one.queue:
        labels[LABEL_CLUSTER] = part.cluster
    template = _template(one, part, labels, names)
    claims, refs = handed_over(one, part.model, labels)
    if refs:
        template["spec"] = {**template["spec"], "resourceClaims": refs}
    meta: dict[str, Any] = {"name": object_name(one, part), "namespace": one.namespace, "labels": labels}
    # MultiKueue never changes a LeaderWorkerSet that it has copied, so each group is one, named after its content.
    digest = slug(json.dumps([part.model, part.epoch, part.cluster, template], sort_keys=True, default=str))[:8]
    if one.queue:
        template["spec"] = _for_cluster(template["spec"], part.cluster, refused)
        owner = {"apiVersion": API_VERSION, "kind": WORKLOAD, "name": one.name, "uid": one.uid}
        meta |= {
            "labels": {**labels, QUEUE_LABEL: one.queue},
            "ownerReferences": [owner],
            "annotations": {REFUSED: ",".join(refused)},
        }
    if one.hand_over is HandOver.DEPLOYMENT:
        spec = {"replicas": part.replicas, "selector": {"matchLabels": labels}, "template": template}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
        return {**claims, f"{DEPLOYMENTS}/namespaces/{one.namespace}/deployments/{meta['name']}": body}
    if not one.queue:
        return {**claims, **dict([_groups(one, meta, part.replicas, template)])}
    singles = [{**meta, "name": f"{one.name}-{digest}-{i}"} for i in range(part.replicas)]
    return dict(_groups(one, each, 1, template) for each in singles)


def _groups(
    one: FleetWorkload, meta: Mapping[str, Any], replicas: int, template: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    spec: dict[str, Any] = {
        "replicas": replicas,
        "leaderWorkerTemplate": {"size": one.group_size, "workerTemplate": template},
    }
    if one.queue:  # Kueue's webhook writes every field of it, this one empty, which the API server refuses
        spec["rolloutStrategy"] = {"type": "RollingUpdate"}
    kind = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}
    body = {**kind, "metadata": dict(meta), "spec": spec}
    return f"{LEADER_WORKER_SETS}/namespaces/{one.namespace}/leaderworkersets/{meta['name']}", body


def _for_cluster(spec: Mapping[str, Any], cluster: str, refused: Sequence[str]) -> dict[str, Any]:
    """A pod that says to Kerf's dispatcher which cluster it is for, and to Kueue of which classes it takes no quota.

    Kueue weighs for each flavor the labels of that flavor alone, so a selector of a class excludes no other.
    """
    mark = {"key": LABEL_CLUSTER, "operator": "Equal", "value": cluster, "effect": "NoSchedule"}
    found = {**spec, "tolerations": [*(spec.get("tolerations") or ()), mark]}
    if not refused:
        return found
    affinity, node = at(spec, "affinity"), at(spec, "affinity", "nodeAffinity")
    required = at(node, _REQUIRED)
    given: Sequence[Json] = required.get("nodeSelectorTerms") or ({},)
    without = [{"key": label, "operator": "DoesNotExist"} for label in refused]
    terms = [{**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *without]} for term in given]
    rules = {**node, _REQUIRED: {**required, "nodeSelectorTerms": terms}}
    return found | {"affinity": {**affinity, "nodeAffinity": rules}}


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
