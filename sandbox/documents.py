"""Documents that the control plane reads. Pure."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerf.vendors.registry import NAMES

_OURS = " || ".join(
    f"key.startsWith('{domain}/')"
    for domain in ("kerf.dev", "quota.kerf.dev", "hami.io", *(names.domain for names in NAMES))
)


def _keys(of: str, field: str) -> str:
    return f"(has({of}.{field}) && {of}.{field}.exists(key, {_OURS}))"


_ASKS = " || ".join(_keys("container.resources", field) for field in ("limits", "requests"))
_MAPS = " || ".join(_keys("pod.metadata", field) for field in ("annotations", "labels"))
_CONTAINERS = " || ".join(
    f"(has(pod.spec.{kind}) && pod.spec.{kind}.exists(container, has(container.resources) && ({_ASKS})))"
    for kind in ("containers", "initContainers")
)
CONCERNS_KERF = f"[object, oldObject].exists(pod, pod != null && ({_MAPS} || {_CONTAINERS}))"
"""CEL: whether a pod asks for cards or has one of our keys. The API server calls the webhook for no other pod."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Resources of one API group; the API server calls the webhook when they are created or updated."""

    group: str
    version: str
    resources: tuple[str, ...]


PODS = (Rule("", "v1", ("pods",)),)
MAKERS = (
    Rule("batch", "v1", ("jobs", "cronjobs")),
    Rule("apps", "v1", ("deployments", "statefulsets", "replicasets", "daemonsets")),
    Rule("jobset.x-k8s.io", "*", ("jobsets",)),
    Rule("leaderworkerset.x-k8s.io", "*", ("leaderworkersets",)),
)
"""Kinds that create pods from templates that Kueue counts."""
TENANTS = (Rule("kerf.dev", "v1alpha1", ("tenantquotas",)),)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A mutating webhook on pods: its address and its pods.

    `url` is https and leads to the service itself; `ca` is the PEM of its certificate's issuer.
    """

    name: str
    url: str
    ca: bytes
    failure_policy: str = "Fail"
    timeout_seconds: int = 5
    namespace_selector: dict[str, Any] = field(default_factory=dict)
    object_selector: dict[str, Any] = field(default_factory=dict)
    condition: str = CONCERNS_KERF
    """CEL; the API server does not call the webhook for pods for which it is false."""
    more: tuple[Rule, ...] = ()
    """Resources other than pods."""


def render_kubeconfig(server: str, ca: Path, user: dict[str, Any]) -> dict[str, Any]:
    """A kubeconfig with one cluster, one user (a kubeconfig's ``user`` object) and one context."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "user"}}],
        "current-context": "sandbox",
    }


def render_webhook(webhook: Webhook) -> dict[str, Any]:
    """A MutatingWebhookConfiguration for CREATE and UPDATE: users must not change grants and totals."""
    pods = {
        **_hook(webhook, webhook.name, PODS),
        "matchConditions": [{"name": "concerns-kerf", "expression": webhook.condition}],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": webhook.name},
        "webhooks": [pods, *([_hook(webhook, f"more.{webhook.name}", webhook.more)] if webhook.more else [])],
    }


def _hook(webhook: Webhook, name: str, rules: tuple[Rule, ...]) -> dict[str, Any]:
    return {
        "name": f"{name}.kerf.dev",
        "clientConfig": {"url": webhook.url, "caBundle": base64.b64encode(webhook.ca).decode()},
        "rules": [_rule(rule) for rule in rules],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "NoneOnDryRun",
        "reinvocationPolicy": "IfNeeded",
        "failurePolicy": webhook.failure_policy,
        "timeoutSeconds": webhook.timeout_seconds,
        "namespaceSelector": webhook.namespace_selector,
        "objectSelector": webhook.object_selector,
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "apiGroups": [rule.group],
        "apiVersions": [rule.version],
        "operations": ["CREATE", "UPDATE"],
        "resources": list(rule.resources),
        "scope": "*",
    }
