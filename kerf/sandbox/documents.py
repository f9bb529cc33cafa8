"""Documents that the control plane reads. Pure."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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
