"""Kueue's own manifests, rendered for a manager that runs outside the cluster. Pure.

Kueue's module holds its manifests as a kustomize base: names without their prefix, a namespace called ``system``,
webhooks behind a Service. These functions apply its ``config/default``, and point every webhook at a URL on loopback,
because no Service reaches this machine.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from kerf.vendors.registry import NAMES

Json = dict[str, Any]

KUEUE_VERSION = "kueue.x-k8s.io/v1beta2"
KUEUE_API = f"/apis/{KUEUE_VERSION}"
NAMESPACE = "kueue-system"
PREFIX = "kueue-"
USER = f"system:serviceaccount:{NAMESPACE}:kueue-controller-manager"
GROUPS = ("system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}")
"""The user name of the manager's service account."""

UNMANAGED = {
    "matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", NAMESPACE]}
    ]
}
FRAMEWORKS = ("batch/job", "pod", "deployment", "statefulset")
FRAMEWORKS_OF_CRDS = {
    "jobsets.jobset.x-k8s.io": "jobset.x-k8s.io/jobset",
    "leaderworkersets.leaderworkerset.x-k8s.io": "leaderworkerset.x-k8s.io/leaderworkerset",
}
"""Kinds that Kueue manages if their CustomResourceDefinition is installed."""

_CARDS = tuple(dict.fromkeys(f"{names.domain}/" for names in NAMES))
NOT_COUNTED = ("cpu", "memory", "ephemeral-storage", "hugepages-", *_CARDS)
"""Resources that Kueue excludes before it counts: quota is only about Kerf's own resource names."""

_PLURALS = {"MutatingAdmissionPolicy": "mutatingadmissionpolicies"}
_NAMESPACED = frozenset({"Role", "RoleBinding", "ServiceAccount"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of the manager's webhooks, ``https://127.0.0.1:PORT``, and the PEM to trust."""

    url: str
    ca: bytes

    def client(self, path: str) -> Json:
        """A ``clientConfig``; `path` begins with a slash."""
        return {"url": f"{self.url}{path}", "caBundle": base64.b64encode(self.ca).decode()}


@dataclass(frozen=True, slots=True)
class Binds:
    """The manager's own TCP ports on 127.0.0.1, and the directory of its webhooks' ``tls.crt`` and ``tls.key``."""

    health: int
    metrics: int
    webhook: int
    cert_dir: str


def path_of(document: Mapping[str, Any]) -> str:
    """The path of one of Kueue's manifests at the API server."""
    group, _, version = str(document["apiVersion"]).rpartition("/")
    kind = str(document["kind"])
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    space = f"/namespaces/{document['metadata']['namespace']}" if kind in _NAMESPACED else ""
    return f"/{f'apis/{group}' if group else 'api'}/{version}{space}/{plural}/{document['metadata']['name']}"


def render_crd(crd: Mapping[str, Any], converted: frozenset[str], endpoint: Endpoint) -> Json:
    """A CustomResourceDefinition; those `converted` between versions whose schemas differ get their webhook."""
    rendered: Json = deepcopy(dict(crd))
    if rendered["metadata"]["name"] in converted:
        rendered["spec"]["conversion"] = {
            "strategy": "Webhook",
            "webhook": {"clientConfig": endpoint.client("/convert"), "conversionReviewVersions": ["v1"]},
        }
    return rendered


def render_rbac(document: Mapping[str, Any]) -> Json:
    """A role, a binding or a service account with its names in a cluster and its shipped rules."""
    rendered: Json = deepcopy(dict(document))
    rendered["metadata"]["name"] = PREFIX + rendered["metadata"]["name"]
    if rendered["kind"] in _NAMESPACED:
        rendered["metadata"]["namespace"] = NAMESPACE
    if "roleRef" in rendered:
        rendered["roleRef"]["name"] = PREFIX + rendered["roleRef"]["name"]
    for subject in rendered.get("subjects", ()):
        subject |= {"name": PREFIX + subject["name"], "namespace": NAMESPACE}
    for rule in rendered.get("rules", ()):
        if "admissionregistration.k8s.io" in rule.get("apiGroups", ()) and "resourceNames" in rule:
            rule["resourceNames"] = [PREFIX + name for name in rule["resourceNames"]]
    return rendered


def render_webhooks(configuration: Mapping[str, Any], scoped: frozenset[str], endpoint: Endpoint) -> Json:
    """A webhook configuration that calls the manager on loopback.

    `scoped` are the webhooks, by name, that must not see kube-system and Kueue's own namespace.
    """
    rendered: Json = deepcopy(dict(configuration))
    rendered["metadata"]["name"] = PREFIX + rendered["metadata"]["name"]
    for webhook in rendered["webhooks"]:
        webhook["clientConfig"] = endpoint.client(webhook["clientConfig"]["service"]["path"])
        if webhook["name"] in scoped:
            webhook["namespaceSelector"] = UNMANAGED
    return rendered


def scoped_webhooks(kustomization: Mapping[str, Any]) -> frozenset[str]:
    """The webhooks that Kueue's kustomization gives the namespace selector of its pod webhook."""
    targets = [target for each in kustomization["replacements"] for target in each["targets"]]
    paths = [path for target in targets for path in target["fieldPaths"]]
    named = (re.fullmatch(r"webhooks\.\[name=(.+)\]\.namespaceSelector", path) for path in paths)
    return frozenset(found[1] for found in named if found)


WORKERS = {
    "Job.batch": 5,
    "Pod": 5,
    "Workload.kueue.x-k8s.io": 10,
    "LocalQueue.kueue.x-k8s.io": 5,
    "Cohort.kueue.x-k8s.io": 1,
    "ClusterQueue.kueue.x-k8s.io": 5,
    "ResourceFlavor.kueue.x-k8s.io": 1,
}
"""Workers for each kind, as in the configuration that Kueue ships."""


def render_configuration(binds: Binds, crds: Iterable[str], overlay: Mapping[str, Any] | None = None) -> Json:
    """The manager's Configuration for one replica on loopback, with the resources section that Kerf recommends.

    `crds` are the names of the CustomResourceDefinitions in the cluster. `overlay` is merged into the result, mapping
    by mapping; its lists and values replace others. It does not set ``quotaCheckStrategy: IgnoreUndeclared``: Kueue
    0.19.2 refuses it together with ``excludeResourcePrefixes``. Alone, it leaves a workload Pending for ever, without
    a message, if its first pod set asks for nothing that the queue declares, such as a JobSet's CPU-only driver.
    """
    present = set(crds)
    ours: Json = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": NAMESPACE,
        "health": {"healthProbeBindAddress": f"127.0.0.1:{binds.health}"},
        "metrics": {"bindAddress": f"127.0.0.1:{binds.metrics}", "enableClusterQueueResources": True},
        "webhook": {"host": "127.0.0.1", "port": binds.webhook, "certDir": binds.cert_dir},
        "internalCertManagement": {"enable": False},
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"qps": 300, "burst": 500},
        "controller": {"groupKindConcurrency": dict(WORKERS)},
        "featureGates": {"VisibilityOnDemand": False},  # it would listen on every address of the machine
        "manageJobsWithoutQueueName": False,
        "managedJobsNamespaceSelector": UNMANAGED,
        "integrations": {
            "frameworks": [*FRAMEWORKS, *(name for crd, name in FRAMEWORKS_OF_CRDS.items() if crd in present)]
        },
        "resources": {"excludeResourcePrefixes": list(NOT_COUNTED)},
    }
    return _merged(ours, overlay or {})


def render_kubeconfig_secret(name: str, kubeconfig: Mapping[str, Any]) -> Json:
    """The Secret in which MultiKueue looks for a worker's kubeconfig."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {"kubeconfig": base64.b64encode(json.dumps(kubeconfig).encode()).decode()},
    }


def render_multikueue(check: str, workers: Iterable[str]) -> tuple[Json, ...]:
    """A MultiKueueCluster per worker, whose Secret has its name, their MultiKueueConfig and its AdmissionCheck."""
    names = list(workers)
    config = {"apiGroup": "kueue.x-k8s.io", "kind": "MultiKueueConfig", "name": check}
    return (
        *(_kueue("MultiKueueCluster", name, {"clusterSource": {"kubeConfig": {"location": name}}}) for name in names),
        _kueue("MultiKueueConfig", check, {"clusters": names}),
        _kueue("AdmissionCheck", check, {"controllerName": "kueue.x-k8s.io/multikueue", "parameters": config}),
    )


def _kueue(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": KUEUE_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Json:
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged
