"""Nodes that kwok keeps Ready, with pods that it keeps Running. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANAGED = {"kwok.x-k8s.io/node": "fake"}
ROOM = {"cpu": "64", "memory": "512Gi", "pods": "250"}
STAGES = (
    "kustomize/stage/node/fast/node-initialize.yaml",
    "kustomize/stage/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "kustomize/stage/pod/fast/pod-ready.yaml",
    "kustomize/stage/pod/fast/pod-complete.yaml",
    "kustomize/stage/pod/fast/pod-delete.yaml",
)
"""Files in kwok's own module."""


@dataclass(frozen=True, slots=True)
class FakeNode:
    """A node without a kubelet.

    `allocatable` adds to its 64 cores, 512 GiB and 250 pods, ``{"nvidia.com/gpu": "80"}``.
    """

    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, str] = field(default_factory=dict)


def render_fake_node(node: FakeNode) -> dict[str, Any]:
    """The Node object to create; kwok fills in its status."""
    offer = {**ROOM, **node.allocatable}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "annotations": {**node.annotations, **MANAGED},
            "labels": {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", **node.labels},
        },
        "status": {"capacity": offer, "allocatable": offer},
    }


def render_stages(documents: Iterable[str]) -> str:
    """The configuration of kwok: its Stage documents, one after another."""
    return "\n---\n".join(documents)


def read_stages(module: Path) -> str:
    """The configuration from the source of kwok's module."""
    return render_stages((module / stage).read_text() for stage in STAGES)
