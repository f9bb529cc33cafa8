"""`kerf snapshot`: the live state as Kubernetes JSON for the other verbs: names, asks and grants, no secrets."""

import argparse
import json
from pathlib import Path
from typing import Any

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
)
_NODE_SPEC = ("unschedulable", "taints")
_NODE_STATUS = ("allocatable", "capacity")
_OWNER = ("kind", "controller")
_CONTAINER = ("name", "resources", "restartPolicy")


def add_parser(verbs: Any) -> None:
    """`snapshot`."""
    from kerfctl.arguments import add_cluster_arguments

    parser = verbs.add_parser("snapshot", help="dump the live state for simulate, explain and repack")
    add_cluster_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, reduce and write."""
    from kerfctl.cluster import connect_to, read_budgets, read_cluster, read_quotas

    kube = connect_to(args)
    nodes, pods = read_cluster(kube)
    tenants, hard = read_quotas(kube)
    items = [reduce_node(node) for node in nodes] + [reduce_pod(pod) for pod in pods]
    items += [reduce_quota(item, "kerf.dev/v1alpha1", "TenantQuota") for item in tenants]
    items += [reduce_quota(item, "v1", "ResourceQuota") for item in hard]
    items += [reduce_budget(item) for item in read_budgets(kube)]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)
    if args.output:
        Path(args.output).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 0


def reduce_node(node: dict[str, Any]) -> dict[str, Any]:
    """What placement reads of a node."""
    meta, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    ready = [{"type": c["type"], "status": c["status"]} for c in status.get("conditions") or [] if c["type"] == "Ready"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": meta["name"],
            "labels": meta.get("labels") or {},
            "annotations": _ours(meta.get("annotations") or {}),
        },
        "spec": _of(spec, _NODE_SPEC),
        "status": {**_of(status, _NODE_STATUS), **({"conditions": ready} if ready else {})},
    }


def reduce_pod(pod: dict[str, Any]) -> dict[str, Any]:
    """What placement and repacking read of a pod: no environment, no commands, no volumes."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    kept = _of(spec, _POD_SPEC)
    owners = [_of(owner, _OWNER) for owner in meta.get("ownerReferences") or []]
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
            "labels": meta.get("labels") or {},
            "annotations": _ours(meta.get("annotations") or {}),
        },
        "spec": kept,
        "status": {"phase": (pod.get("status") or {}).get("phase", "Pending")},
    }


def reduce_quota(item: dict[str, Any], version: str, kind: str) -> dict[str, Any]:
    """What a quota says; what it counts is counted anew."""
    meta = _of(item["metadata"], ("name", "namespace"))
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": item.get("spec") or {}}


def reduce_budget(item: dict[str, Any]) -> dict[str, Any]:
    """What a PodDisruptionBudget covers, and how many evictions it allows now."""
    status = _of(item.get("status") or {}, ("disruptionsAllowed",))
    return {**reduce_quota(item, "policy/v1", "PodDisruptionBudget"), "status": status}


def _of(part: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: part[key] for key in keys if key in part}


def _ours(annotations: dict[str, str]) -> dict[str, str]:
    prefixes = ("kerf.dev/", "hami.io/", "nvidia.com/")
    return {key: value for key, value in sorted(annotations.items()) if key.startswith(prefixes)}
