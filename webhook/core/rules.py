"""Rules: what a pod that asks for cards may not say, each refusal with the field, the value and the fix."""

from collections.abc import Mapping
from typing import Any

from kerf.values.accounts import TenantAccount
from kerf.values.ask import PodAsk
from kerf.values.vendor import ResourceNames
from kerf.wire.errors import WireError
from kerf.wire.policy import parse_card_policies, parse_node_policy
from kerf.wire.resources import CARD_POLICY, NODE_POLICY, containers_of, parse_pod
from webhook.core.edits import child
from webhook.core.settings import Settings

Json = Mapping[str, Any]


OPT_OUT = ("kerf.dev/webhook", "hami.io/webhook")
"""Labels whose value "ignore" keeps defaults, rules and the scheduler's name off a pod; forgeries still go.

In a tenant's namespace they do so only for pods that name another scheduler, or opting out would lead past the quota.
"""
DEFAULT_SCHEDULERS = frozenset({"", "default-scheduler"})


def mentioned_card(spec: Json, vendors: tuple[ResourceNames, ...]) -> str:
    """A vendor's resource that any part of the spec names, however malformed its amount; "" if none is."""
    words = {name for names in vendors for name in names.all}
    holders = [spec, *(container for container, _ in containers_of(spec))]
    return next((name for holder in holders for name in sorted(words & _amounts(holder).keys())), "")


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
    _no_preset_node(spec)
    return ask


def refuse_foreign_scheduler(spec: Json, settings: Settings) -> None:
    """Only Kerf's scheduler divides cards: elsewhere the pod is bound without a grant and never starts."""
    scheduler = str(spec.get("schedulerName") or "")
    if scheduler not in {*DEFAULT_SCHEDULERS, settings.scheduler_name, *settings.allowed_schedulers}:
        raise WireError(
            "spec.schedulerName", scheduler[:63], f"it cannot divide cards: drop it, or write {settings.scheduler_name}"
        )


def opted_out(pod: Json, settings: Settings, tenant: TenantAccount | None) -> bool:
    """Whether a pod, or the template of pods, is left as it is."""
    labels = child(child(pod, "metadata"), "labels")
    if tenant is not None and child(pod, "spec").get("schedulerName") == settings.scheduler_name:
        return False
    return any(labels.get(label) == "ignore" for label in OPT_OUT)


def refuse_opted_out_cards(spec: Json, settings: Settings) -> None:
    """Another scheduler gives no grant: the pod could never start, and would hold slots that others were granted."""
    name = mentioned_card(spec, settings.vendors)
    if settings.opted_out_cards or not name:
        return
    if spec.get("schedulerName") == settings.scheduler_name:
        _no_preset_node(spec)
        return
    fix = f"drop the label, or {name}, or write spec.schedulerName: {settings.scheduler_name}; no other gives a card"
    raise WireError(f"metadata.labels[{' or '.join(OPT_OUT)}]", "ignore", fix)


def _no_preset_node(spec: Json) -> None:
    if node := spec.get("nodeName"):
        fix = "drop it, it bypasses the scheduler that divides the cards; select the node by kubernetes.io/hostname"
        raise WireError("spec.nodeName", node, fix)


def _no_pod_level_cards(spec: Json, vendors: tuple[ResourceNames, ...]) -> None:
    amounts = _amounts(spec)
    for name in (name for names in vendors for name in names.all):
        if name in amounts:
            raise WireError(f"spec.resources.limits[{name}]", amounts[name], "write it on the container that uses it")


def _amounts(holder: Json) -> Json:
    resources = child(holder, "resources")
    return {**child(resources, "requests"), **child(resources, "limits")}
