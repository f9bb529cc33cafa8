"""Checks of what runs the cluster: API server, webhook, certificates, scheduler, lease, quota, the caller's rights."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping

from kerf.http.pki import Certificate
from kerf.wire.json import Json, at, items_at
from kerfctl.diagnosis.dump import Dump, Finding, Level, hooks_of, name_of, since

DAY_S = 86_400.0
OLDEST = (1, 29)
SOON_S = 14 * DAY_S
"""Self-managed certificates are renewed a month before they end: one that ends so soon is not being renewed."""
PATIENCE_S = 60.0
LEASE_S = 30.0
KUEUE = ("clusterqueues", "cohorts", "localqueues", "resourceflavors", "workloads")


def version(dump: Dump) -> Iterator[Finding]:
    """Kerf is tested on this version of the API server."""
    found = re.match(r"v?(\d+)\.(\d+)", dump.version)
    if not found:
        yield Finding(f"the API server's version {dump.version!r} cannot be read", "upgrade kerf", Level.WARNING)
    elif (int(found[1]), int(found[2])) < OLDEST:
        yield Finding(f"the API server is {dump.version}", "upgrade Kubernetes to 1.29 or newer")


def webhook(dump: Dump) -> Iterator[Finding]:
    """Kerf's webhook is configured and answers."""
    if "mutatingwebhookconfigurations" in dump.unread:
        return
    if not dump.kerf_webhooks():
        yield Finding(
            "there is no MutatingWebhookConfiguration of Kerf: pods keep the default scheduler and forged grants stay",
            "install the chart with webhook.enabled=true",
        )
    elif dump.admission is not None and dump.admission.startswith("error: "):
        yield Finding(
            f"a pod with cards is not admitted: {dump.admission.removeprefix('error: ')[:300]}",
            "look at the webhook's pods and its Service; `kubectl logs` of them names what keeps it from being ready",
        )
    elif dump.admission is not None and dump.admission != dump.scheduler:
        yield Finding(
            f"a pod with cards gets schedulerName {dump.admission!r} instead of {dump.scheduler!r}",
            "look at the namespaceSelector, objectSelector and matchConditions of the webhook, and at --scheduler-name",
        )


def certificates(dump: Dump) -> Iterator[Finding]:
    """API servers trust the certificate that is served, and it does not expire soon."""
    leaf: Certificate | None = None
    try:
        leaf = Certificate.parse(dump.secret["tls.crt"].encode()) if dump.secret else None
    except (ValueError, KeyError) as error:
        yield Finding(f"the webhook's Secret holds no certificate ({error})", "delete it: the webhook makes another")
    if leaf and leaf.until <= dump.now:
        yield Finding(
            "the webhook's certificate has expired", "restart the webhook; its log says why it did not renew it"
        )
    elif leaf and leaf.until <= dump.now + SOON_S and leaf.until - leaf.since > 2 * SOON_S:
        days = (leaf.until - dump.now) / DAY_S
        yield Finding(
            f"the webhook's certificate expires in {days:.0f} days",
            "see in its log why it is not renewed",
            Level.WARNING,
        )
    for configuration in (*dump.kerf_webhooks(), *dump.kerf_validating()):
        found: dict[tuple[str, str], list[str]] = {}
        for hook in hooks_of(configuration):
            for problem in _bundle(at(hook, "clientConfig"), leaf):
                found.setdefault(problem, []).append(str(hook.get("name")))
        for (what, fix), names in found.items():
            more = f" and {len(names) - 1} more of its webhooks" if names[1:] else ""
            yield Finding(f"{name_of(configuration)}, {names[0]}{more}: {what}", fix)


def _bundle(client: Json, leaf: Certificate | None) -> Iterator[tuple[str, str]]:
    """What is wrong, and the fix."""
    again = "the webhook (--manage-certs) injects it within a minute; cert-manager's cainjector does where that is used"
    try:
        authorities = Certificate.parse_all(base64.b64decode(client.get("caBundle") or "", validate=True))
    except (ValueError, binascii.Error):
        yield "caBundle is empty or no certificate, API servers cannot call the webhook", again
        return
    if leaf and not any(leaf.issued_by(each) for each in authorities):
        yield "caBundle does not match the certificate that is served", again
    service = at(client, "service")
    host = f"{service.get('name')}.{service.get('namespace')}.svc"
    if leaf and service and host not in leaf.hosts:
        yield (
            f"the certificate is not for {host} but for {', '.join(sorted(leaf.hosts)) or 'no host'}",
            "give the webhook the right --service-name and --namespace",
        )


def other_webhooks(dump: Dump) -> Iterator[Finding]:
    """Two webhooks that fill the same pods overwrite each other."""
    for configuration in dump.webhooks if dump.kerf_webhooks() else ():
        name = name_of(configuration)
        words = {name.lower(), *(str(hook.get("name", "")).lower() for hook in hooks_of(configuration))}
        if any("hami" in word for word in words) and configuration not in dump.kerf_webhooks():
            yield Finding(
                f"MutatingWebhookConfiguration {name} of HAMi fills the same pods as Kerf's",
                "delete it, and stop HAMi's scheduler (docs/migrate-from-hami.md, step 2)",
            )


def scheduling(dump: Dump) -> Iterator[Finding]:
    """Waiting pods were seen by kube-scheduler, with Kerf's profile."""
    heard_of = {(at(event, "involvedObject") or at(event, "regarding")).get("uid") for event in dump.events}
    for pod in dump.pods:
        spec, status, meta = at(pod, "spec"), at(pod, "status"), at(pod, "metadata")
        waits = not spec.get("nodeName") and status.get("phase") == "Pending" and not spec.get("schedulingGates")
        if not waits or spec.get("schedulerName") != dump.scheduler or "events" in dump.unread:
            continue
        seen = any(condition.get("type") == "PodScheduled" for condition in items_at(status, "conditions"))
        if (
            not seen
            and meta.get("uid") not in heard_of
            and since(meta.get("creationTimestamp")) < dump.now - PATIENCE_S
        ):
            fix = f"see that a kube-scheduler with the profile {dump.scheduler!r} runs, and reaches the extender"
            if spec.get("resourceClaims"):  # findings/kube-scheduler-says-nothing-of-a-claim-that-is-not-there.sh
                unseen = "says whether its claims exist: without them it waits unseen"
                fix = f"`kerf explain {name_of(pod)}` {unseen}; else {fix}"
            yield Finding(f"pod {name_of(pod)} has waited for over a minute and no scheduler has looked at it", fix)


def lease(dump: Dump) -> Iterator[Finding]:
    """A leader renews its Lease."""
    for found in dump.leases:
        spec = at(found, "spec")
        if not spec.get("holderIdentity"):
            yield Finding(
                f"Lease {name_of(found)} has no holder: no scheduler leads",
                "look at the scheduler's pods: `kubectl logs` of them names what keeps them from leading",
            )
            continue
        age = dump.now - since(spec.get("renewTime"))
        if age > max(LEASE_S, 3 * float(spec.get("leaseDurationSeconds") or 0)):
            yield Finding(
                f"Lease {name_of(found)} of {spec.get('holderIdentity')!r} was renewed {age:.0f} s ago",
                "look at the scheduler's pods: none of them can renew the Lease, so none binds pods",
            )


def quota(dump: Dump) -> Iterator[Finding]:
    """The kinds that the policy's quota engine needs are served."""
    if "customresourcedefinitions" in dump.unread:
        return
    engine = dump.policy.quota.engine.value
    missing = [each for each in KUEUE if f"{each}.kueue.x-k8s.io" not in dump.crds]
    if engine != "off" and "tenantquotas.kerf.dev" not in dump.crds:
        yield Finding(
            "there is no CRD tenantquotas.kerf.dev: no tenant is limited",
            "install the chart's CRDs",
            Level.WARNING,
        )
    if engine == "kueue" and missing:
        yield Finding(
            f"quota is Kueue's, and these of its CRDs are missing: {', '.join(missing)}",
            "install Kueue, or write quota.engine: kerf in the policy",
        )


def rights(dump: Dump) -> Iterator[Finding]:
    """What was not checked, for lack of rights."""
    for what in dump.denied:
        yield Finding(f"you may not {what}: what needs it was not checked", "ask for that right", Level.WARNING)
    for what, words in dump.unread.items():
        yield Finding(f"{what} could not be read: {words}", "see the API server's message", Level.WARNING)


CHECKS: Mapping[str, Callable[[Dump], Iterator[Finding]]] = {
    "version": version,
    "webhook": webhook,
    "certificates": certificates,
    "other-webhooks": other_webhooks,
    "scheduling": scheduling,
    "lease": lease,
    "quota": quota,
    "rights": rights,
}
