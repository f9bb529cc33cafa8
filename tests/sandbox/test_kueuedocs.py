"""What Kueue ships, as a manager beside a cluster needs it: whole values."""

import base64

from sandbox.kueuedocs import (
    NOT_COUNTED,
    UNMANAGED,
    Binds,
    Endpoint,
    path_of,
    render_configuration,
    render_crd,
    render_rbac,
    render_webhooks,
    scoped_webhooks,
)

ENDPOINT = Endpoint("https://127.0.0.1:9443", b"PEM")
CA = base64.b64encode(b"PEM").decode()
BINDS = Binds(health=1, metrics=2, webhook=3, cert_dir="/certs")


def test_a_binding_gets_the_names_that_kustomize_would_give_it():
    rendered = render_rbac(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "secrets", "namespace": "system"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "secrets-role"},
            "subjects": [{"kind": "ServiceAccount", "name": "controller-manager", "namespace": "system"}],
        }
    )

    assert rendered == {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "kueue-secrets", "namespace": "kueue-system"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "kueue-secrets-role"},
        "subjects": [{"kind": "ServiceAccount", "name": "kueue-controller-manager", "namespace": "kueue-system"}],
    }
    assert path_of(rendered) == "/apis/rbac.authorization.k8s.io/v1/namespaces/kueue-system/rolebindings/kueue-secrets"


def test_a_roles_rules_stay_as_shipped_but_for_the_names_of_webhook_configurations():
    rules = [
        {"apiGroups": ["admissionregistration.k8s.io"], "resourceNames": ["validating"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "resourceNames": ["one"], "verbs": ["get"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ]

    rendered = render_rbac({"kind": "ClusterRole", "metadata": {"name": "manager-role"}, "rules": rules})

    assert rendered["metadata"] == {"name": "kueue-manager-role"}
    assert rendered["rules"] == [{**rules[0], "resourceNames": ["kueue-validating"]}, *rules[1:]]


def test_kinds_of_one_schema_are_served_without_conversion():
    crd = {"metadata": {"name": "topologies.kueue.x-k8s.io"}, "spec": {"group": "kueue.x-k8s.io"}}

    assert render_crd(crd, frozenset({"workloads.kueue.x-k8s.io"}), ENDPOINT) == crd


def test_other_kinds_are_converted_on_loopback():
    crd = {"metadata": {"name": "workloads.kueue.x-k8s.io"}, "spec": {}}

    rendered = render_crd(crd, frozenset({"workloads.kueue.x-k8s.io"}), ENDPOINT)

    client = {"url": "https://127.0.0.1:9443/convert", "caBundle": CA}
    assert rendered["spec"]["conversion"] == {
        "strategy": "Webhook",
        "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]},
    }
    assert crd["spec"] == {}


def test_webhooks_are_called_on_loopback_and_leave_system_namespaces_alone():
    paths = ["webhooks.[name=mpod.kb.io].namespaceSelector", "metadata.name"]
    scoped = scoped_webhooks({"replacements": [{"targets": [{"fieldPaths": paths}]}]})
    service = {"name": "webhook-service", "namespace": "system"}
    shipped = {
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "mutating"},
        "webhooks": [
            {"name": "mpod.kb.io", "clientConfig": {"service": {**service, "path": "/mutate-pod"}}},
            {"name": "mworkload.kb.io", "clientConfig": {"service": {**service, "path": "/mutate-workload"}}},
        ],
    }

    rendered = render_webhooks(shipped, scoped, ENDPOINT)

    assert rendered["metadata"] == {"name": "kueue-mutating"}
    assert rendered["webhooks"] == [
        {
            "name": "mpod.kb.io",
            "clientConfig": {"url": "https://127.0.0.1:9443/mutate-pod", "caBundle": CA},
            "namespaceSelector": UNMANAGED,
        },
        {
            "name": "mworkload.kb.io",
            "clientConfig": {"url": "https://127.0.0.1:9443/mutate-workload", "caBundle": CA},
        },
    ]


def test_job_sets_are_managed_only_where_they_are_served():
    without, with_ = (
        render_configuration(BINDS, crds)["integrations"]["frameworks"] for crds in ([], ["jobsets.jobset.x-k8s.io"])
    )

    assert without == ["batch/job", "pod", "deployment", "statefulset"]
    assert with_ == [*without, "jobset.x-k8s.io/jobset"]


def test_a_configuration_is_laid_over_ours_mapping_by_mapping():
    overlay = {"multiKueue": {"dispatcherName": "kerf.dev/fit"}, "featureGates": {"ConcurrentAdmission": True}}

    rendered = render_configuration(BINDS, [], overlay)

    assert rendered["multiKueue"] == {"dispatcherName": "kerf.dev/fit"}
    assert rendered["featureGates"] == {"VisibilityOnDemand": False, "ConcurrentAdmission": True}
    assert rendered["resources"] == {"excludeResourcePrefixes": list(NOT_COUNTED)}
