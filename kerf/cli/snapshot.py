"""`kerf snapshot`: the live state as Kubernetes JSON for `kerf simulate`: names, asks and grants, no secrets."""

import argparse
import json
from pathlib import Path
from typing import Any

_POD_SPEC = ("nodeName", "nodeSelector", "priority", "schedulerName", "schedulingGates", "overhead", "schedulingGroup")
_NODE_STATUS = ("allocatable", "capacity")
_CONTAINER = ("name", "resources", "restartPolicy")


def add_parser(verbs: Any) -> None:
    """`snapshot`."""
    from kerf.cli.arguments import add_cluster_arguments

    parser = verbs.add_parser("snapshot", help="dump the live state for `kerf simulate`")
    add_cluster_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, reduce and write."""
    from kerf.cli.cluster import connect_to, read_cluster, read_quotas

    kube = connect_to(args)
    nodes, pods = read_cluster(kube)
    tenants, hard = read_quotas(kube)
    items = [reduce_node(node) for node in nodes] + [reduce_pod(pod) for pod in pods]
    items += [reduce_quota(item, "kerf.dev/v1alpha1", "TenantQuota") for item in tenants]
    items += [reduce_quota(item, "v1", "ResourceQuota") for item in hard]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)
    if args.output:
        Path(args.output).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 0


def reduce_node(node: dict[str, Any]) -> dict[str, Any]:
    """What placement reads of a node."""
    meta, status = node["metadata"], node.get("status") or {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": meta["name"],
            "labels": meta.get("labels") or {},
            "annotations": _ours(meta.get("annotations") or {}),
        },
        "spec": {"unschedulable": True} if (node.get("spec") or {}).get("unschedulable") else {},
        "status": {key: status[key] for key in _NODE_STATUS if key in status},
    }


def reduce_pod(pod: dict[str, Any]) -> dict[str, Any]:
    """What placement reads of a pod: no environment, no commands, no volumes."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    kept = {key: spec[key] for key in _POD_SPEC if key in spec}
    for group in ("initContainers", "containers"):
        if spec.get(group):
            kept[group] = [{key: c[key] for key in _CONTAINER if key in c} for c in spec[group]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": meta["name"],
            "namespace": meta.get("namespace", "default"),
            "uid": meta.get("uid", ""),
            "creationTimestamp": meta.get("creationTimestamp", ""),
            "labels": meta.get("labels") or {},
            "annotations": _ours(meta.get("annotations") or {}),
        },
        "spec": kept,
        "status": {"phase": (pod.get("status") or {}).get("phase", "Pending")},
    }


def reduce_quota(item: dict[str, Any], version: str, kind: str) -> dict[str, Any]:
    """What a quota says; what it counts is counted anew."""
    meta = {key: item["metadata"][key] for key in ("name", "namespace") if key in item["metadata"]}
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": item.get("spec") or {}}


def _ours(annotations: dict[str, str]) -> dict[str, str]:
    prefixes = ("kerf.dev/", "hami.io/", "nvidia.com/")
    return {key: value for key, value in sorted(annotations.items()) if key.startswith(prefixes)}
