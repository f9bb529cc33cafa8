"""Checks of what counts claims: the ValidatingWebhookConfiguration, its Service, and what waiting pods are answered."""

from collections.abc import Callable, Iterator, Mapping

from kerf.wire.allocations import UNCOUNTED
from kerf.wire.devices import DRIVER
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.objects import parse_node
from kerfctl.diagnosis.dump import Dump, Finding, hooks_of, name_of, since

HOOK = "claims.kerf.dev"
KIND = "ValidatingWebhookConfiguration"
TENANTS = "tenantquotas"
"""The MutatingWebhookConfiguration has a rule about them where quota is on."""
CONDITIONS = frozenset({"newly-allocated", "of-gpu-kerf-dev"})
"""The matchConditions of the chart: every other one leaves claims out."""
UNANSWERED = (f'failed calling webhook "{HOOK}"', UNCOUNTED)
"""What kube-scheduler is answered where nothing counts: by the API server, and by a webhook without a leader."""
UPGRADE = "run `helm upgrade` with your values: the chart writes it as it has to be"


def claims(dump: Dump) -> Iterator[Finding]:
    """What Kubernetes allocates to claims is counted before it is stored."""
    found = [(name_of(each), hook) for each in dump.validating for hook in hooks_of(each) if hook.get("name") == HOOK]
    unread = {"validatingwebhookconfigurations", "deviceclasses"} & dump.unread.keys()
    if not found and not unread and _counts(dump):
        yield Finding(
            f"there is no {KIND} with {HOOK}: no quota counts what claims get",
            "run `helm upgrade` with dra.enabled, quota.enabled and webhook.enabled",
        )
    for name, hook in found:
        yield from _as_the_chart_has_it(f"{name}, {HOOK}", hook)
    yield from _unanswered(dump)


def services(dump: Dump) -> Iterator[Finding]:
    """The Services that API servers are to call for admission exist, and a ready pod is behind each."""
    for key, users in _users(dump).items():
        if "services" not in dump.unread and key not in {name_of(each) for each in dump.services}:
            yield Finding(
                f"there is no Service {key}, which {', '.join(users)} names: API servers cannot call the webhook",
                "run `helm upgrade` with your values, and see that the namespace is the release's",
            )
        elif "endpointslices" not in dump.unread and not any(_leads(each, key) for each in dump.endpoints):
            yield Finding(
                f"no ready pod is behind Service {key}, which {', '.join(users)} names",
                "look at the webhook's pods: `kubectl logs` of them names what keeps them from being ready",
            )


def drivers(dump: Dump) -> Iterator[Finding]:
    """No other DRA driver gives out the cards of Kerf's nodes."""
    found: dict[tuple[str, str], list[str]] = {}
    for item in dump.resource_slices:
        driver, where = text_at(item, "spec", "driver"), text_at(item, "spec", "nodeName")
        for device in items_at(item, "spec", "devices") if driver != DRIVER else ():
            found.setdefault((where, driver), []).extend(_uuids(at(device, "attributes")))
    for node in (parse_node(each, dump.vendors) for each in dump.nodes if found):
        ours = {card.id for card in node.cards}
        for driver in sorted(driver for name, driver in found if name == node.name):
            both = sorted(ours & set(found[node.name, driver]))
            if both:
                more = f" and {len(both) - 1} more" if both[1:] else ""
                yield Finding(
                    f"node {node.name}: card {both[0]}{more} is also given out by the DRA driver {driver}",
                    "keep that driver off Kerf's nodes (docs/neighbours.md): both would promise the same memory",
                )


def _uuids(attributes: Json) -> list[str]:
    """Of a card; of a MIG instance, its own and its card's."""
    wanted = {"uuid", "parentuuid"}
    return [text_at(value, "string") for key, value in attributes.items() if key.rpartition("/")[2].lower() in wanted]


def _counts(dump: Dump) -> bool:
    """Whether claims of Kerf's devices are to be counted: there are its classes, quota is on, and a leader answers."""
    classes = any(name_of(each).endswith(f".{DRIVER}") for each in dump.device_classes)
    hooks = (hook for each in dump.kerf_webhooks() for hook in hooks_of(each))
    quota = any(TENANTS in (rule.get("resources") or ()) for hook in hooks for rule in items_at(hook, "rules"))
    return classes and quota and not any(_is_scheduler_on_host(pod) for pod in dump.pods)


def _is_scheduler_on_host(pod: Json) -> bool:
    """With scheduler.hostNetwork the webhook cannot ask: the chart then refuses tenants' claims."""
    labels = at(pod, "metadata", "labels")
    own = labels.get("app.kubernetes.io/name") == "kerf" and labels.get("app.kubernetes.io/component") == "scheduler"
    return own and at(pod, "spec").get("hostNetwork") is True


def _as_the_chart_has_it(where: str, hook: Json) -> Iterator[Finding]:
    policy = hook.get("failurePolicy", "Fail")
    if policy != "Fail":
        yield Finding(
            f"{where}: failurePolicy is {policy}: while the webhook does not answer, claims are allocated uncounted",
            UPGRADE,
        )
    if not any(map(_is_about_allocations, items_at(hook, "rules"))):
        yield Finding(
            f"{where}: no rule is about UPDATE of resourceclaims/status in resource.k8s.io/v1: no claim is counted",
            UPGRADE,
        )
    if hook.get("matchPolicy", "Equivalent") != "Equivalent":
        yield Finding(
            f"{where}: matchPolicy is {hook['matchPolicy']}: an allocation written by another version is not counted",
            UPGRADE,
        )
    narrow = [name for name in ("namespaceSelector", "objectSelector") if hook.get(name)]
    more = {str(each.get("name", "")) for each in items_at(hook, "matchConditions")} - CONDITIONS
    for what in (*narrow, *(f"matchCondition {name!r}" for name in sorted(more))):
        yield Finding(f"{where}: its {what} leaves claims out, which are then not counted", UPGRADE)


def _is_about_allocations(rule: Json) -> bool:
    def has(field: str, *words: str) -> bool:
        return bool({"*", *words} & set(map(str, rule.get(field) or ())))

    named = {"resourceclaims/status", "resourceclaims/*", "*/status", "*/*"} & set(
        map(str, rule.get("resources") or ())
    )
    about = has("apiGroups", "resource.k8s.io") and has("apiVersions", "v1") and has("operations", "UPDATE")
    return bool(named) and about and rule.get("scope", "*") in {"*", "Namespaced"}


def _unanswered(dump: Dump) -> Iterator[Finding]:
    """Waiting pods whose newest event says that nobody counted their claims."""
    waiting = {
        str(at(pod, "metadata").get("uid")): name_of(pod)
        for pod in dump.pods
        if not at(pod, "spec").get("nodeName") and at(pod, "status").get("phase") == "Pending"
    }
    newest: dict[str, tuple[float, str]] = {}
    for event in dump.events:
        uid = str((at(event, "involvedObject") or at(event, "regarding")).get("uid"))
        series = at(event, "series").get("lastObservedTime")
        moment = max(since(event.get("lastTimestamp")), since(event.get("eventTime")), since(series))
        if uid in waiting and moment >= newest.get(uid, (0.0, ""))[0]:
            newest[uid] = (moment, str(event.get("message") or event.get("note") or ""))
    stuck = sorted((waiting[uid], text) for uid, (_, text) in newest.items() if any(w in text for w in UNANSWERED))
    if stuck:
        (name, text), more = stuck[0], f" and {len(stuck) - 1} more pods" if stuck[1:] else ""
        yield Finding(
            f"nothing counts claims now, so pod {name}{more} waits: {text[:300]}",
            "look at the webhook's and the scheduler's pods, and at the NetworkPolicy between them",
        )


def _users(dump: Dump) -> dict[str, list[str]]:
    """The Services that Kerf's webhooks name, and the configurations that name them."""
    found: dict[str, list[str]] = {}
    for configuration in (*dump.kerf_webhooks(), *dump.kerf_validating()):
        for hook in hooks_of(configuration):
            service = at(hook, "clientConfig", "service")
            users = found.setdefault(f"{service.get('namespace')}/{service.get('name')}", []) if service else []
            if name_of(configuration) not in users:
                users.append(name_of(configuration))
    return found


def _leads(endpoints: Json, service: str) -> bool:
    meta = at(endpoints, "metadata")
    own = f"{meta.get('namespace')}/{at(meta, 'labels').get('kubernetes.io/service-name')}"
    ready = (at(each, "conditions").get("ready") is not False for each in items_at(endpoints, "endpoints"))
    return own == service and any(ready)


CHECKS: Mapping[str, Callable[[Dump], Iterator[Finding]]] = {
    "claims": claims,
    "services": services,
    "drivers": drivers,
}
