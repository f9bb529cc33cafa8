"""Builders with boring defaults: a test shows only what it is about."""

from dataclasses import replace
from typing import Any

from kerf.probes.mig_models import known_geometry
from kerf.values.ask import ContainerAsk, PodAsk, Stage
from kerf.values.device import Card
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.mig import Instance
from kerf.values.node import Node
from kerf.values.vendor import with_slicing
from kerf.vendors.registry import VENDORS
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.inventory import KEY as INVENTORY
from kerf.wire.inventory import render_inventory

H100_MIB = 81_559


def a_card(index: int = 0, **changes: Any) -> Card:
    """A healthy, empty 80 GB card, sliced as its vendor says."""
    fields: dict[str, Any] = {
        "id": f"GPU-{index}",
        "index": index,
        "vendor": "nvidia",
        "model": "NVIDIA H100 80GB HBM3",
        "memory_mib": H100_MIB,
    }
    card = Card(**{**fields, **changes})
    known = card.vendor in {vendor.name for vendor in VENDORS} and "slicing" not in changes
    return with_slicing((card,), VENDORS)[0] if known else card


def a_mig_card(index: int = 0, *taken: Instance, **changes: Any) -> Card:
    """A card in MIG mode with the instances of others."""
    card = a_card(index, **{"memory_mib": 81_079, "reserved_mib": 480, **changes})
    geometry = known_geometry(card.model)
    assert geometry is not None, card.model
    return with_slicing((card.in_mig(replace(geometry, taken=taken)),), VENDORS)[0]


def cards_of(node: str, count: int, **changes: Any) -> tuple[Card, ...]:
    """`count` cards whose ids carry the node's name, so that ids are unique in a fleet."""
    return tuple(a_card(i, id=f"GPU-{node}-{i}", **changes) for i in range(count))


def a_node_value(name: str = "node-1", cards: int = 4, **changes: Any) -> Node:
    """A node as the model's value, with CPU and memory to spare."""
    fields: dict[str, Any] = {
        "name": name,
        "cards": cards_of(name, cards),
        "cpu_milli": 96_000,
        "memory_mib": 786_432,
    }
    return Node(**{**fields, **changes})


def a_node(name: str = "node-1", cards: tuple[Card, ...] | int = 4, **annotations: str) -> dict[str, Any]:
    """A Kubernetes node with an inventory; keyword arguments are further annotations."""
    held = cards_of(name, cards) if isinstance(cards, int) else cards
    notes = {INVENTORY: render_inventory(held), **annotations}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"node-{name}", "labels": {}, "annotations": notes},
        "spec": {},
        "status": {"allocatable": {"cpu": "96", "memory": "768Gi", "nvidia.com/gpu": str(10 * len(held))}},
    }


def a_container(
    name: str = "main", gpu: int = 1, mem: int | str | None = 8000, cores: int | None = 30, **more: Any
) -> dict[str, Any]:
    """A container with limits in the pod contract; None leaves a resource out."""
    limits: dict[str, str] = {"nvidia.com/gpu": str(gpu)} if gpu else {}
    if mem is not None:
        limits["nvidia.com/gpumem"] = str(mem)
    if cores is not None:
        limits["nvidia.com/gpucores"] = str(cores)
    return {"name": name, "image": "app", "resources": {"limits": limits}, **more}


def a_pod(name: str = "pod-1", *, namespace: str = "default", **changes: Any) -> dict[str, Any]:
    """A Kubernetes pod with one sliced container.

    Changes: `containers`, `init`, `annotations`, `labels`, `node`,
    `grant`, `phase`, `uid`, `spec` (extra spec fields), or the arguments of `a_container`.
    """
    meta: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": changes.pop("uid", f"uid-{namespace}-{name}"),
        "annotations": dict(changes.pop("annotations", {})),
        "labels": dict(changes.pop("labels", {})),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    grant: Grant | None = changes.pop("grant", None)
    if grant is not None:
        meta["annotations"][GRANT] = render_grant(grant)
    spec: dict[str, Any] = dict(changes.pop("spec", {}))
    init, node, phase = changes.pop("init", []), changes.pop("node", None), changes.pop("phase", "Pending")
    containers = changes.pop("containers", None)
    spec["containers"] = containers if containers is not None else [a_container(**changes)]
    if init:
        spec["initContainers"] = init
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": {"phase": phase}}


def an_ask(**changes: Any) -> ContainerAsk:
    """One container that wants 8,000 MiB and 30 % of one card."""
    fields: dict[str, Any] = {"name": "main", "cards": 1, "cores": 30, "stage": Stage.APP, "vendor": "nvidia"}
    if "memory_percent" not in changes:
        fields["memory_mib"] = 8000
    return ContainerAsk(**{**fields, **changes})


def a_pod_ask(name: str = "pod-1", *asks: ContainerAsk, **changes: Any) -> PodAsk:
    """A pod's ask; without asks, one container of `an_ask()`."""
    fields: dict[str, Any] = {"namespace": "default", "name": name, "uid": f"uid-{name}"}
    return PodAsk(**{**fields, "containers": asks or (an_ask(),), **changes})


def a_grant(card: str = "GPU-0", memory_mib: int = 8000, cores: int = 30, container: str = "main") -> Grant:
    """One slice of one card."""
    return Grant((ContainerGrant(container, (Slice(card, "nvidia", memory_mib, cores),)),))


def a_claim(
    name: str, *shares: tuple[str, int | None, int], pod: str = "pod-1", node: str = "node-1", **changes: Any
) -> dict[str, Any]:
    """A ResourceClaim that holds (device, MiB, percent of cores) each by a request of its own, r0 first.

    Without MiB it is the whole card. `requests` names the requests otherwise, `pods` are further pods that use it.
    """
    requests = changes.get("requests") or [f"r{i}" for i in range(len(shares))]
    results = [
        {"request": request, "driver": "gpu.kerf.dev", "pool": node, "device": device}
        | ({"shareID": f"{name}-{i}", "consumedCapacity": _consumed(mib, cores)} if mib is not None else {})
        for i, (request, (device, mib, cores)) in enumerate(zip(requests, shares, strict=True))
    ]
    users = [
        {"resource": "pods", "name": user, "uid": f"uid-default-{user}"} for user in (pod, *changes.get("pods", ()))
    ]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"devices": {"requests": [{"name": request} for request in dict.fromkeys(requests)]}},
        "status": {"allocation": {"devices": {"results": results}}, "reservedFor": users} if shares else {},
    }


def _consumed(mib: int, cores: int) -> dict[str, str]:
    return {"memory": f"{mib}Mi", "cores": str(cores), "slots": "1"}


def a_claiming_pod(name: str = "pod-1", init: tuple[str, ...] = (), **containers: list[str]) -> dict[str, Any]:
    """A bound pod whose containers use claims, each named `claim` or `claim/request`; those in `init` come first."""
    used = dict.fromkeys(ref.partition("/")[0] for refs in containers.values() for ref in refs)
    made = {key: _claiming_container(key, refs) for key, refs in containers.items()}
    return a_pod(
        name,
        node="node-1",
        containers=[made[key] for key in made if key not in init],
        init=[made[key] for key in init],
        spec={"resourceClaims": [{"name": claim, "resourceClaimName": claim} for claim in used]},
    )


def _claiming_container(name: str, refs: list[str]) -> dict[str, Any]:
    pairs = [ref.partition("/") for ref in refs]
    claims = [{"name": claim} | ({"request": request} if request else {}) for claim, _, request in pairs]
    return {"name": name, "image": "app", "resources": {"claims": claims}}
