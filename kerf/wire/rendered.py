"""Nodes and pods from values, as the Kubernetes JSON from which they could have been read: for `kerf simulate`."""

from collections.abc import Iterable
from typing import Any

from kerf.values.ask import Stage, Stages
from kerf.values.grant import Holding
from kerf.values.node import Node
from kerf.values.vendor import Vendor
from kerf.wire import annotations as ours
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.inventory import render_inventory


def render_node(node: Node, vendors: Iterable[Vendor]) -> dict[str, Any]:
    """What placement reads of a node."""
    notes = {}
    for vendor in vendors:
        cards = tuple(card for card in node.cards if card.vendor == vendor.name)
        if cards:
            notes[vendor.inventory_key] = render_inventory(cards)
    if node.cordoned:
        notes[ours.CORDON[0]] = ",".join(node.cordoned)
    taints = [{"key": taint.key, "value": taint.value, "effect": taint.effect} for taint in node.taints]
    return {
        "kind": "Node",
        "metadata": {"name": node.name, "labels": dict(node.labels), "annotations": notes},
        "spec": {"unschedulable": not node.schedulable, "taints": taints},
        "status": {
            "allocatable": {"cpu": f"{node.cpu_milli}m", "memory": f"{node.memory_mib}Mi"},
            "conditions": [{"type": "Ready", "status": "True" if node.ready else "False"}],
        },
    }


def render_holder(holding: Holding, cpu_milli: int, memory_mib: int, priority: int) -> dict[str, Any]:
    """A running pod with its grant. Its first container asks for all of its CPU and memory."""
    namespace, _, name = holding.pod.partition("/")
    containers, inits = _containers(holding.stages or tuple((c.name, Stage.APP) for c in holding.grant.containers))
    if containers:
        containers[0]["resources"] = {"requests": {"cpu": f"{cpu_milli}m", "memory": f"{memory_mib}Mi"}}
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": holding.uid,
            "annotations": {GRANT: render_grant(holding.grant)},
        },
        "spec": {
            "nodeName": holding.node,
            "priority": priority,
            "containers": containers,
            **({"initContainers": inits} if inits else {}),
        },
        "status": {"phase": "Running"},
    }


def _containers(stages: Stages) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    apps = [{"name": name} for name, stage in stages if stage is Stage.APP]
    inits: list[dict[str, Any]] = [
        {"name": name, **({"restartPolicy": "Always"} if stage is Stage.SIDECAR else {})}
        for name, stage in stages
        if stage is not Stage.APP
    ]
    return apps, inits
