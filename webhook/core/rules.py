"""Rules: what a pod that asks for cards may not say, each refusal with the field, the value and the fix."""

from kerf.values.accounts import TenantAccount
from kerf.values.served import similar, unserved
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.policy import parse_card_policies, parse_node_policy
from kerf.wire.resources import CARD_POLICY, NODE_POLICY, is_privileged, parse_pod_by_container
from webhook.core.draft import Draft
from webhook.core.settings import Settings

OPT_OUT = ("kerf.dev/webhook", "hami.io/webhook")
"""Labels that with the value "ignore" exempt a pod from defaults, rules and the scheduler's name, not from `strip`.

In a tenant's namespace they exempt only pods that name another scheduler; otherwise opting out would evade the quota.
"""


def opted_out(draft: Draft, settings: Settings, tenant: TenantAccount | None) -> bool:
    """Whether a pod or a template is left as it is."""
    if tenant is not None and draft.scheduler_name == settings.scheduler_name:
        return False
    return any(draft.labels.get(label) == "ignore" for label in OPT_OUT)


def refuse_opted_out_cards(draft: Draft, settings: Settings) -> None:
    """Another scheduler gives no grant: the pod could never start, and would hold slots that others were granted."""
    name = draft.mentioned(settings.resources)
    if settings.opted_out_cards or not name:
        return
    if draft.scheduler_name == settings.scheduler_name:
        _refuse_preset_node(draft)
        return
    fix = f"drop the label, or {name}, or write spec.schedulerName: {settings.scheduler_name}; no other gives a card"
    raise WireError(f"metadata.labels[{' or '.join(OPT_OUT)}]", "ignore", fix)


def read(draft: Draft, settings: Settings) -> Draft:
    """Read what a pod and each of its containers ask, as the scheduler will, and apply every rule. Raises WireError."""
    _refuse_pod_level_cards(draft, settings)
    ask, by_container = parse_pod_by_container(draft.stored(), settings.words, settings.defaults)
    if not ask.containers:
        return draft
    if ask.wishes.node_policy is not None:
        parse_node_policy(ask.wishes.node_policy, f"metadata.annotations[{NODE_POLICY}]")
    if ask.wishes.card_policies:
        parse_card_policies(",".join(ask.wishes.card_policies), f"metadata.annotations[{CARD_POLICY}]")
    _refuse_preset_node(draft)
    asking = draft.with_asks(ask, by_container)
    if not settings.admission.privileged:
        _refuse_privileged(asking)
    return asking


def warn_unserved(draft: Draft, settings: Settings) -> Draft:
    """Name the resources that nobody serves: without a word, "gpumemory: 8000" beside a card is a whole card."""
    warnings = []
    for container in draft.containers:
        for name in container.amounts:
            if unserved(name, settings.words, settings.admission.other_resources):
                near = similar(name, settings.resources)
                hint = f"did you mean {near}?" if near else "name it in the policy, spec.admission.otherResources"
                warnings.append(f"{container.limits_field}[{name[:80]}]: Kerf does not serve this resource; {hint}")
    return draft.warn(warnings)


def _refuse_privileged(draft: Draft) -> None:
    for container in draft.containers:
        if container.asks and is_privileged(container.sent):
            field = f"{container.limits_field.removesuffix('.resources.limits')}.securityContext.privileged"
            fix = "a privileged container sees every card of its node: drop it, devices need no privilege, "
            raise WireError(field, "true", f"{fix}or write spec.admission.privileged: allow in the policy")


def _refuse_preset_node(draft: Draft) -> None:
    if node := draft.spec.get("nodeName"):
        fix = "drop it, it bypasses the scheduler that divides the cards; select the node by kubernetes.io/hostname"
        raise WireError("spec.nodeName", node, fix)


def _refuse_pod_level_cards(draft: Draft, settings: Settings) -> None:
    whole = at(draft.spec, "resources")
    amounts = {**at(whole, "requests"), **at(whole, "limits")}
    for name in (name for names in settings.words for name in names.all if name in amounts):
        raise WireError(f"spec.resources.limits[{name}]", amounts[name], "write it on the container that uses it")
