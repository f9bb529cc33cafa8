"""`kind: Cluster` and `kind: FleetWorkload` (kerf.dev/v1alpha1): what people write, and what the manager answers."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from kerf.values.accepts import Accept
from kerf.values.fleet import Assigned, ClusterRecord, ClusterSpec, FleetWorkload, HandOver, Phase
from kerf.values.supply import Supply
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION, check_kind, flag, known, list_at, object_at, one_of, text, whole
from kerf.wire.json import Json, at, items_at

CLUSTER, WORKLOAD = "Cluster", "FleetWorkload"
CLUSTERS = f"/apis/{API_VERSION}/clusters"
WORKLOADS = f"/apis/{API_VERSION}/fleetworkloads"
LABEL_WORKLOAD = "fleet.kerf.dev/workload"
LABEL_EPOCH = "fleet.kerf.dev/epoch"
LABEL_MODEL = "fleet.kerf.dev/model"
LABEL_MANAGER = "fleet.kerf.dev/manager"
"""On everything that a manager hands to a cluster: whose it is, under which epoch, on which cards, by which fleet."""
LABEL_CLUSTER = "fleet.kerf.dev/cluster"
"""On what goes through MultiKueue: the cluster that it is for. Its pods also tolerate a taint of this key and value,
because Kueue shows a pod's tolerations and not its labels. No node has such a taint."""
SPLIT = "fleet.kerf.dev/split"
"""Label of a TenantQuota whose guarantee holds over all clusters."""
MOST_REPLICAS, MOST_GROUP, MOST_LISTED = 10_000, 64, 64
MOST_LOSSES = 32
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")
_QUEUE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


def slug(text: str) -> str:
    """A short mark for a name that labels cannot hold."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def parse_cluster(document: object) -> ClusterSpec:
    """Read one Cluster; its status is not read. Raises WireError that names the field, the value and the fix."""
    _, meta, spec = _top(document, CLUSTER)
    known(spec, "spec", ("region", "supply", "kubeconfigSecret", "cordoned", "draining"))
    name = _name(meta.get("name"))
    return ClusterSpec(
        name=name,
        supply=Supply(one_of(spec, "supply", "spec", Supply.OWNED.value, Supply)),
        region=text(spec, "region", "spec", None) if "region" in spec else "",
        secret=text(spec, "kubeconfigSecret", "spec", f"kerf-cluster-{name}"),
        cordoned=flag(spec, "cordoned", "spec", False),
        draining=flag(spec, "draining", "spec", False) or bool(meta.get("deletionTimestamp")),
    )


def render_cluster(spec: ClusterSpec) -> dict[str, Any]:
    """The Cluster to apply."""
    written: dict[str, Any] = {"supply": spec.supply.value, "kubeconfigSecret": spec.secret}
    written |= {"region": spec.region} if spec.region else {}
    written |= {"cordoned": True} if spec.cordoned else {}
    written |= {"draining": True} if spec.draining else {}
    return {"apiVersion": API_VERSION, "kind": CLUSTER, "metadata": {"name": spec.name}, "spec": written}


def parse_record(document: Json) -> ClusterRecord:
    """What the manager remembered of a Cluster; a status that cannot be read counts as none, under the first epoch."""
    status = at(document, "status")
    epoch, phase = status.get("epoch"), status.get("phase")
    return ClusterRecord(
        epoch=epoch if isinstance(epoch, int) and not isinstance(epoch, bool) and epoch > 0 else 1,
        phase=Phase(phase) if phase in [each.value for each in Phase] else Phase.JOINING,
        contact=_seconds(status.get("lastContact")),
        until=_seconds(status.get("restingUntil")),
        losses=tuple(_seconds(each) for each in status.get("losses") or () if _seconds(each))[-MOST_LOSSES:]
        if isinstance(status.get("losses"), list)
        else (),
    )


def render_record(record: ClusterRecord) -> dict[str, Any]:
    """The part of a Cluster's status that the manager reads again."""
    return {
        "epoch": record.epoch,
        "phase": record.phase.value,
        "lastContact": round(record.contact),
        "restingUntil": round(record.until),
        "losses": [round(each) for each in record.losses[-MOST_LOSSES:]],
    }


_SOME = (1, MOST_REPLICAS)
_WORKLOAD_KEYS = (
    "replicas", "groupSize", "handOver", "queue", "template", "accepts", "clusters", "regions", "preferRegions",
    "supply", "mostPerCluster", "survive", "minAvailable", "maxMoves", "priority",
)  # fmt: skip


def parse_workload(document: object) -> FleetWorkload:
    """Read one FleetWorkload; its status is not read. Raises WireError that names the field, the value and the fix."""
    _, meta, spec = _top(document, WORKLOAD)
    known(spec, "spec", _WORKLOAD_KEYS)
    replicas = whole(spec, "replicas", "spec", None, (0, MOST_REPLICAS))
    size = whole(spec, "groupSize", "spec", 1, (1, MOST_GROUP))
    usual = HandOver.DEPLOYMENT if size == 1 else HandOver.LEADER_WORKER_SET
    hand_over = HandOver(one_of(spec, "handOver", "spec", usual.value, [each.value for each in HandOver]))
    if hand_over is HandOver.DEPLOYMENT and size > 1:
        raise WireError(
            "spec.handOver", hand_over.value, "use LeaderWorkerSet for groups: it keeps their pods together"
        )
    preferred = object_at(spec.get("preferRegions") or {}, "spec.preferRegions")
    known(preferred, "spec.preferRegions", ("regions", "elsewherePercent"))
    survive, least = (_of_replicas(spec, key, replicas) for key in ("survive", "minAvailable"))
    return FleetWorkload(
        namespace=str(meta.get("namespace") or "default"),
        name=_name(meta.get("name")),
        uid=str(meta.get("uid") or ""),
        replicas=replicas,
        template=_template(spec),
        group_size=size,
        hand_over=hand_over,
        queue=_queue(spec),
        accepts=_accepts(spec),
        clusters=_words(spec.get("clusters"), "spec.clusters"),
        regions=_words(spec.get("regions"), "spec.regions"),
        prefer_regions=_words(preferred.get("regions"), "spec.preferRegions.regions"),
        elsewhere_percent=whole(preferred, "elsewherePercent", "spec.preferRegions", 20, (0, 1000)),
        supply=Supply(one_of(spec, "supply", "spec", None, Supply)) if "supply" in spec else None,
        most_per_cluster=whole(spec, "mostPerCluster", "spec", None, _SOME) if "mostPerCluster" in spec else None,
        survive=survive,
        min_available=least,
        max_moves=whole(spec, "maxMoves", "spec", 1, (0, MOST_REPLICAS)),
        priority=whole(spec, "priority", "spec", 0, (-(10**9), 10**9)),
        generation=int(meta.get("generation") or 0) if isinstance(meta.get("generation"), int) else 0,
    )


def _of_replicas(spec: Json, key: str, replicas: int) -> int:
    value = whole(spec, key, "spec", 0, (0, MOST_REPLICAS))
    if value > replicas:
        raise WireError(f"spec.{key}", value, f"write at most spec.replicas, {replicas}")
    return value


def _template(spec: Json) -> Json:
    template = object_at(spec.get("template") or {}, "spec.template")
    if not items_at(template, "spec", "containers"):
        raise WireError("spec.template.spec.containers", None, "write a pod template with at least one container")
    return template


def parse_assigned(document: Json) -> tuple[Assigned, ...]:
    """The parts of a FleetWorkload that its status names; what cannot be read is left out."""
    found = []
    for item in items_at(document, "status", "assignments"):
        cluster, model = item.get("cluster"), item.get("model")
        epoch, count, leaving = item.get("epoch"), item.get("replicas"), item.get("leaving", 0)
        if isinstance(cluster, str) and isinstance(model, str) and all(type(n) is int for n in (epoch, count, leaving)):
            found.append(Assigned(cluster, model, int(epoch or 0), int(count or 0), int(leaving)))
    return tuple(sorted(found))


def render_assigned(assigned: Sequence[Assigned]) -> list[dict[str, Any]]:
    """The parts as the status has them."""
    return [
        {"cluster": each.cluster, "model": each.model, "epoch": each.epoch, "replicas": each.replicas}
        | ({"leaving": each.leaving} if each.leaving else {})
        for each in sorted(assigned)
        if each.replicas
    ]


def condition(kind: str, holds: bool, reason: str, message: str) -> dict[str, Any]:
    """A condition without its time."""
    return {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message[:1000]}


def _top(document: object, kind: str) -> tuple[Json, Json, Json]:
    top = object_at(document, kind)
    known(top, "", ("apiVersion", "kind", "metadata", "spec", "status"))
    check_kind(top, kind)
    return top, object_at(top.get("metadata") or {}, "metadata"), object_at(top.get("spec") or {}, "spec")


def _accepts(spec: Json) -> tuple[Accept, ...]:
    found = []
    for i, item in enumerate(list_at(spec.get("accepts"), "spec.accepts")[:MOST_LISTED]):
        where = f"spec.accepts[{i}]"
        part = object_at(item, where)
        known(part, where, ("model", "memoryMiB", "cores"))
        memory = whole(part, "memoryMiB", where, None, (1, 2**24)) if "memoryMiB" in part else None
        cores = whole(part, "cores", where, None, (0, 100)) if "cores" in part else None
        found.append(Accept((text(part, "model", where, None),), memory, cores))
    return tuple(found)


def _queue(spec: Json) -> str:
    if "queue" not in spec:
        return ""
    name = text(spec, "queue", "spec", None)
    if not _QUEUE.fullmatch(name):
        raise WireError("spec.queue", name, "write the name of a LocalQueue, of a-z, 0-9, - and .")
    return name


def _words(value: object, where: str) -> tuple[str, ...]:
    found = list_at(value, where)
    if any(not isinstance(word, str) or not word for word in found) or len(set(found)) != len(found):
        raise WireError(where, found, "list names, each once")
    return tuple(found[:MOST_LISTED])


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise WireError("metadata.name", value, "write a name of a-z, 0-9 and - with at most 42 characters")
    return value


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40 else 0.0
