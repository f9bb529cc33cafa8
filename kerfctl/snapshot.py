"""`kerf snapshot`: the live state as Kubernetes JSON for the other verbs: names, asks and grants, no secrets."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerf.values.vendor import ResourceNames
from kerf.wire.claims import without_claims
from kerf.wire.json import Json, at, items_at
from kerfctl.arguments import add_cluster_arguments

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

Names = tuple[ResourceNames, ...]
_POD_SPEC = (
    "nodeName",
    "nodeSelector",
    "affinity",
    "tolerations",
    "priority",
    "preemptionPolicy",
    "schedulerName",
    "schedulingGates",
    "schedulingGroup",
    "resources",
    "overhead",
    "resourceClaims",
)
_POD_STATUS = ("phase", "resourceClaimStatuses", "extendedResourceClaimStatus")
_NODE_SPEC = ("unschedulable", "taints")
_NODE_STATUS = ("allocatable", "capacity")
_OWNER = ("kind", "controller")
_CONTAINER = ("name", "resources", "restartPolicy")


def add_parser(verbs: "Verbs") -> None:
    """`snapshot`."""
    parser = verbs.add_parser("snapshot", help="dump the live state for simulate, explain and repack")
    add_cluster_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, reduce and write."""
    from kerfctl.world import Also, read_world

    world = read_world(args, Also.BUDGETS)
    items = [reduce_node(node, world.names) for node in world.nodes]
    items += [reduce_pod(without_claims(pod), world.names) for pod in world.pods]
    items += [reduce_quota(item, "kerf.dev/v1alpha1", "TenantQuota") for item in world.tenants or ()]
    items += [reduce_quota(item, "v1", "ResourceQuota") for item in world.hard]
    items += [reduce_budget(item) for item in world.budgets]
    items += [reduce_claim(item) for item in world.claims]
    items += [reduce_class(item) for item in world.device_classes]
    document = {"apiVersion": "v1", "kind": "List", "items": items}
    if args.output:
        Path(args.output).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    else:
        print(json.dumps(document, indent=1))
    return 0


def reduce_node(node: Json, names: Names) -> dict[str, Any]:
    """What placement reads of a node."""
    meta, spec, status = node["metadata"], at(node, "spec"), at(node, "status")
    ready = [{"type": c["type"], "status": c["status"]} for c in items_at(status, "conditions") if c["type"] == "Ready"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": meta["name"],
            "labels": at(meta, "labels"),
            "annotations": _ours(at(meta, "annotations"), names),
        },
        "spec": _of(spec, _NODE_SPEC),
        "status": {**_of(status, _NODE_STATUS), **({"conditions": ready} if ready else {})},
    }


def reduce_pod(pod: Json, names: Names) -> dict[str, Any]:
    """What placement and repacking read of a pod: no environment, no commands, no volumes."""
    meta, spec = pod["metadata"], at(pod, "spec")
    kept = _of(spec, _POD_SPEC)
    owners = [_of(owner, _OWNER) for owner in items_at(meta, "ownerReferences")]
    for group in ("initContainers", "containers"):
        if spec.get(group):
            kept[group] = [_of(container, _CONTAINER) for container in spec[group]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": meta["name"],
            "namespace": meta.get("namespace", "default"),
            "uid": meta.get("uid", ""),
            "creationTimestamp": meta.get("creationTimestamp", ""),
            **_of(meta, ("deletionTimestamp",)),
            **({"ownerReferences": owners} if owners else {}),
            "labels": at(meta, "labels"),
            "annotations": _ours(at(meta, "annotations"), names),
        },
        "spec": kept,
        "status": {"phase": "Pending", **_of(at(pod, "status"), _POD_STATUS)},
    }


def reduce_quota(item: Json, version: str, kind: str) -> dict[str, Any]:
    """What a quota says. Use is not kept: readers count it from the pods."""
    meta = _of(item["metadata"], ("name", "namespace"))
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": at(item, "spec")}


def reduce_budget(item: Json) -> dict[str, Any]:
    """What a PodDisruptionBudget covers, and how many evictions it allows now."""
    status = _of(at(item, "status"), ("disruptionsAllowed",))
    return {**reduce_quota(item, "policy/v1", "PodDisruptionBudget"), "status": status}


def reduce_claim(item: Json) -> dict[str, Any]:
    """What a claim asks for and holds; opaque parameters of drivers are left out."""
    meta = _of(item["metadata"], ("name", "namespace", "uid", "creationTimestamp"))
    spec = {"devices": _of(at(item, "spec", "devices"), ("requests", "constraints"))}
    found, allocation = _of(at(item, "status"), ("reservedFor",)), at(item, "status", "allocation")
    status = {**found, **({"allocation": _claimed(allocation)} if allocation else {})}
    version = "resource.k8s.io/v1"
    return {"apiVersion": version, "kind": "ResourceClaim", "metadata": meta, "spec": spec, "status": status}


def reduce_class(item: Json) -> dict[str, Any]:
    """What a class of devices selects, and the extended resource that stands for it."""
    spec = _of(at(item, "spec"), ("selectors", "extendedResourceName"))
    meta = _of(item["metadata"], ("name", "creationTimestamp"))
    return {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": meta, "spec": spec}


def _claimed(allocation: Json) -> dict[str, Any]:
    return {"devices": _of(at(allocation, "devices"), ("results",))}


def _of(part: Json, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: part[key] for key in keys if key in part}


def _ours(annotations: Json, names: Names) -> dict[str, Any]:
    prefixes = ("kerf.dev/", "hami.io/", *(f"{words.domain}/" for words in names))
    return {key: value for key, value in sorted(annotations.items()) if key.startswith(prefixes)}
