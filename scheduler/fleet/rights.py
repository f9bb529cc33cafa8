"""What the manager may do in a member cluster: the whole of it, with the reason for each rule."""

from collections.abc import Iterator
from typing import Any

from kerf.wire.json import Json, at, items_at

ACCOUNT = "kerf-fleet"
RULES: tuple[dict[str, Any], ...] = (
    # What is free, and what the replicas do. RBAC cannot tell the fleet's pods from others: only those of an older
    # epoch, with the fleet's label, are deleted.
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "delete"]},
    # The parts of workloads: a server-side apply creates and patches.
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "create", "patch", "delete"]},
    {
        "apiGroups": ["leaderworkerset.x-k8s.io"],
        "resources": ["leaderworkersets"],
        "verbs": ["list", "create", "patch", "delete"],
    },
    # What claims hold of cards, and the templates of claims of those workloads that ask by them.
    {"apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims"], "verbs": ["list", "watch"]},
    {
        "apiGroups": ["resource.k8s.io"],
        "resources": ["resourceclaimtemplates"],
        "verbs": ["list", "create", "patch", "delete"],
    },
    # The places that the plan has for their pods.
    {"apiGroups": ["kerf.dev"], "resources": ["fleetplaces"], "verbs": ["list", "create", "patch", "delete"]},
    # A workload's namespace, where the cluster lacks it.
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]},
    # The cluster's part of tenants whose quota is split.
    {"apiGroups": ["kerf.dev"], "resources": ["tenantquotas"], "verbs": ["list", "create", "patch", "delete"]},
)
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
"""Every user may ask for its own rights."""
REVIEW = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}}


def named(verb: str, group: str, resource: str) -> str:
    """A right in words."""
    return f"{verb} {resource}.{group}" if group else f"{verb} {resource}"


def each_right() -> Iterator[tuple[str, str, str]]:
    """Verb, group and resource of all that the manager may do."""
    for rule in RULES:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                yield verb, rule["apiGroups"][0], resource


def lacking(review: Json) -> tuple[str, ...]:
    """What a credential may not do of that, by its own review; nothing where its API server cannot say."""
    status = at(review, "status")
    if status.get("incomplete") or "resourceRules" not in status:
        return ()
    rules = [rule for rule in items_at(status, "resourceRules") if not rule.get("resourceNames")]
    return tuple(
        named(*right)
        for right in each_right()
        if not any(_has(rule, "verbs", right[0]) and _has(rule, "apiGroups", right[1])
                   and _has(rule, "resources", right[2]) for rule in rules)
    )  # fmt: skip


def _has(rule: Json, key: str, word: str) -> bool:
    found = rule.get(key)
    return isinstance(found, list) and (word in found or "*" in found)


def account_objects(namespace: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """The service account with these rights and a token for it: the path to apply each object to, and the object."""
    labels = {"app.kubernetes.io/part-of": "kerf", "app.kubernetes.io/component": "fleet"}
    meta = {"name": ACCOUNT, "labels": labels}
    local = {**meta, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    core = f"/api/v1/namespaces/{namespace}"
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": ACCOUNT}
    token = {**local, "annotations": {"kubernetes.io/service-account.name": ACCOUNT}}
    return (
        (f"/api/v1/namespaces/{namespace}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        (f"{core}/serviceaccounts/{ACCOUNT}", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": local}),
        (
            f"/apis/{rbac}/v1/clusterroles/{ACCOUNT}",
            {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": meta, "rules": list(RULES)},
        ),
        (
            f"/apis/{rbac}/v1/clusterrolebindings/{ACCOUNT}",
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": meta,
                "roleRef": role,
                "subjects": [subject],
            },
        ),
        (
            f"{core}/secrets/{ACCOUNT}-token",
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/service-account-token",
                "metadata": {**token, "name": f"{ACCOUNT}-token"},
            },
        ),
    )


def reader_objects(namespace: str, secret: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """On the manager cluster: the scheduler, which is the manager there, may read this one Secret."""
    rbac = "rbac.authorization.k8s.io"
    root = f"/apis/{rbac}/v1/namespaces/{namespace}"
    labels = {"app.kubernetes.io/part-of": "kerf", "app.kubernetes.io/component": "fleet"}
    meta = {"name": secret, "namespace": namespace, "labels": labels}
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret], "verbs": ["get"]}
    subject = {"kind": "ServiceAccount", "name": "kerf-scheduler", "namespace": namespace}
    role = {"apiGroup": rbac, "kind": "Role", "name": secret}
    top = {"apiVersion": f"{rbac}/v1", "metadata": meta}
    return (
        (f"{root}/roles/{secret}", {**top, "kind": "Role", "rules": [rule]}),
        (f"{root}/rolebindings/{secret}", {**top, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]}),
    )
