"""Pods that serve models, and what a gateway is given of them."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from kerf.catalogue import shipped
from kerf.config.prices import read_prices
from kerf.gateways.render import Rendered, Seen, render
from kerf.gateways.replicas import Fleet
from kerf.testing.builders import a_grant, a_node_value, a_pod
from kerf.values.gateways import Gateway, GatewaySettings
from kerf.values.node import Node
from kerf.values.usage import TokenPrice
from kerf.vendors.registry import VENDORS

READY = {"type": "Ready", "status": "True"}
PRICE = TokenPrice("qwen3-8b", Decimal("0.25"), Decimal("0.05"), Decimal("1.2"))


def a_replica(name: str, card: int = 0, **changes: Any) -> dict[str, Any]:
    """A ready pod of team-a whose vLLM serves qwen3-8b with half of a card's memory."""
    args = changes.pop("args", ["--model", "Qwen/Qwen3-8B", "--served-model-name", "qwen3-8b"])
    image = changes.pop("image", "vllm/vllm-openai:v0.20.2")
    container = {"name": "main", "image": image, "args": args, "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    container |= changes.pop("container", {})
    grant = a_grant(f"GPU-node-1-{card}", changes.pop("memory_mib", 40_780), changes.pop("cores", 0))
    fields: dict[str, Any] = {"namespace": "team-a", "labels": {"app": "chat"}, "node": "node-1", "phase": "Running"}
    ready, address = changes.pop("ready", True), changes.pop("address", f"10.0.0.{card + 1}")
    pod = a_pod(name, containers=[container], **{**fields, "grant": grant, **changes})
    pod["status"] |= {"podIP": address, "conditions": [{**READY, "status": str(ready)}]}
    return pod


def settings_for(*gateways: Gateway, **changes: Any) -> GatewaySettings:
    """All that each gateway needs."""
    fields: dict[str, Any] = {
        "namespace": "serving",
        "namespaces": ("team-a",),
        "gateway": "models",
        "picker": "epp:9002",
    }
    return GatewaySettings(to=gateways, **{**fields, **changes})


def rendered(
    settings: GatewaySettings,
    *pods: dict[str, Any],
    nodes: Sequence[Node] = (),
    services: Sequence[dict[str, Any]] = (),
    labelled: bool = False,
) -> Rendered:
    """What these pods make, on one node with four H100 unless others are given."""
    fleet = Fleet(nodes or (a_node_value(),), VENDORS, read_prices(None), shipped())
    return render(Seen(pods, services, fleet, (PRICE,)), settings, labelled=labelled)
