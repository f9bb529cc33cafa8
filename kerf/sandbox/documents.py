"""Documents that the control plane reads. Pure."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_OURS = " || ".join(
    f"key.startsWith('{prefix}')" for prefix in ("kerf.dev/", "quota.kerf.dev/", "hami.io/", "nvidia.com/")
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
"""CEL: whether a pod names a card or carries a key of ours. Others never reach the webhook, nor wait for it."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A mutating webhook on pods: where it listens and which pods it sees.

    `url` is https and reaches the service itself; `ca` is the PEM that signed its certificate.
    """

    name: str
    url: str
    ca: bytes
    failure_policy: str = "Fail"
    timeout_seconds: int = 5
    namespace_selector: dict[str, Any] = field(default_factory=dict)
    object_selector: dict[str, Any] = field(default_factory=dict)
    condition: str = CONCERNS_KERF
    """CEL; pods for which it is false pass unseen."""


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
    """A MutatingWebhookConfiguration for pods when they are created, and when they change: grants are not for users."""
    rule: dict[str, Any] = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"]}
    rule |= {"resources": ["pods"], "scope": "*"}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": webhook.name},
        "webhooks": [
            {
                "name": f"{webhook.name}.kerf.dev",
                "clientConfig": {"url": webhook.url, "caBundle": base64.b64encode(webhook.ca).decode()},
                "rules": [rule],
                "matchConditions": [{"name": "concerns-kerf", "expression": webhook.condition}],
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "reinvocationPolicy": "IfNeeded",
                "failurePolicy": webhook.failure_policy,
                "timeoutSeconds": webhook.timeout_seconds,
                "namespaceSelector": webhook.namespace_selector,
                "objectSelector": webhook.object_selector,
            }
        ],
    }
