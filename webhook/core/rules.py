"""Rules: what a pod that asks for cards may not say, each refusal with the field, the value and the fix."""

from collections.abc import Mapping
from typing import Any

from kerf.model.ask import PodAsk
from kerf.model.vendor import ResourceNames
from kerf.wire.errors import WireError
from kerf.wire.policy import parse_card_policies, parse_node_policy
from kerf.wire.resources import CARD_POLICY, NODE_POLICY, containers_of, parse_pod
from webhook.core.edits import child
from webhook.core.settings import Settings

Json = Mapping[str, Any]


def mentions_cards(spec: Json, vendors: tuple[ResourceNames, ...]) -> bool:
    """Whether any part of the spec names a vendor's resource, however malformed its amount. Raises WireError."""
    words = {name for names in vendors for name in names.all}
    holders = [spec, *(container for container, _ in containers_of(spec))]
    return any(not words.isdisjoint(_amounts(holder)) for holder in holders)


def read_ask(pod: Json, settings: Settings) -> PodAsk:
    """The pod's ask, as the scheduler will read it, with every rule applied. Raises WireError."""
    spec = child(pod, "spec")
    _no_pod_level_cards(spec, settings.vendors)
    ask = parse_pod(pod, settings.vendors, settings.defaults)
    if not ask.containers:
        return ask
    if ask.wishes.node_policy is not None:
        parse_node_policy(ask.wishes.node_policy, f"metadata.annotations[{NODE_POLICY}]")
    if ask.wishes.card_policies:
        parse_card_policies(",".join(ask.wishes.card_policies), f"metadata.annotations[{CARD_POLICY}]")
    node = spec.get("nodeName")
    if node:
        fix = "drop it, it bypasses the scheduler that divides the cards; select the node by kubernetes.io/hostname"
        raise WireError("spec.nodeName", node, fix)
    return ask


def _no_pod_level_cards(spec: Json, vendors: tuple[ResourceNames, ...]) -> None:
    amounts = _amounts(spec)
    for name in (name for names in vendors for name in names.all):
        if name in amounts:
            raise WireError(f"spec.resources.limits[{name}]", amounts[name], "write it on the container that uses it")


def _amounts(holder: Json) -> Json:
    resources = child(holder, "resources")
    return {**child(resources, "requests"), **child(resources, "limits")}
