"""Quota at the admission of the real API server: templates, totals, refusals, and no unnecessary rollout."""

import ssl
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kerf.testing.builders import H100_MIB, a_container, a_pod
from kerf.wire.quota import PATH
from sandbox import Api, ApiError, Command, ControlPlane, Webhook, await_until, free_ports
from sandbox.commands import answers
from sandbox.documents import MAKERS, TENANTS

pytestmark = pytest.mark.cluster

NAMESPACE, PROCESS = "team-a", "kerf-quota-webhook"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
HALF = {"nvidia.com/gpu": "1", "nvidia.com/gpumem-percentage": "50"}
COUNTED = {"quota.kerf.dev/nvidia-mib": str(H100_MIB // 2), "quota.kerf.dev/nvidia-cards": "1"}
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def a_definition() -> dict[str, Any]:
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": OPEN, "status": OPEN}}},
    }
    names = {"plural": "tenantquotas", "singular": "tenantquota", "kind": "TenantQuota"}
    spec = {"group": "kerf.dev", "scope": "Cluster", "names": names, "versions": [version]}
    return {"metadata": {"name": "tenantquotas.kerf.dev"}, "spec": spec}


def a_quota(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"namespaces": [NAMESPACE], "classes": [{"model": "H100", "guaranteed": "1 card"}], **spec}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": spec}


def a_status(**entry: Any) -> dict[str, Any]:
    """The status that the quota controller would write."""
    one = {"name": "nvidia-h100", "vendor": "nvidia", "model": "NVIDIA H100 80GB HBM3", "mode": "shared"}
    one |= {"cardMiB": {"smallest": H100_MIB, "largest": H100_MIB}, "limit": {"memoryMiB": H100_MIB}}
    return {"status": {"enforced": True, "classes": [{**one, **entry}]}}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A cluster with one tenant, whose API server calls the webhook for pods, for their owners, and for tenants."""
    api, (port,) = control_plane.api, free_ports(1)
    api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", a_definition())
    api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    await_until(lambda: bool(listed(api)), "the kind to be served")
    api.post(PATH, a_quota("team-a"))
    api.patch(f"{PATH}/team-a/status", a_status())
    cert, key = control_plane.authority.issue("webhook").write(tmp_path_factory.mktemp("tls"), "tls")
    flags = ("--bind", f"127.0.0.1:{port}", "--tls-cert", str(cert), "--tls-key", str(key))
    flags += ("--kubeconfig", str(control_plane.kubeconfig))
    trust = ssl.create_default_context(cafile=control_plane.ca)
    command = Command(
        PROCESS,
        (sys.executable, "-m", "webhook", *flags),
        ready=lambda: answers(f"https://127.0.0.1:{port}/readyz", trust),
    )
    control_plane.supervisor.start(command)
    selector = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    url, ca = f"https://127.0.0.1:{port}/mutate", control_plane.ca.read_bytes()
    control_plane.register_webhook(Webhook(PROCESS, url, ca, namespace_selector=selector, more=(*MAKERS, *TENANTS)))
    probe = a_job("probe")
    await_until(lambda: "quota" in str(api.post(f"{JOBS}?dryRun=All", probe)), "the API server to ask")
    yield api
    control_plane.supervisor.kill(PROCESS)
    api.delete(f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{PROCESS}")


def listed(api: Api) -> bool:
    try:
        api.get(PATH)
    except ApiError:
        return False
    return True


def half_a_card() -> dict[str, Any]:
    return {"name": "main", "image": "app", "resources": {"limits": dict(HALF)}}


def a_job(name: str, **container: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [{**half_a_card(), **container}]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}


def a_deployment(name: str, replicas: int = 0) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [half_a_card()]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def limits(item: dict[str, Any]) -> dict[str, str]:
    """The limits of the first container of an object's template."""
    found: dict[str, str] = item["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    return found


@pytest.mark.parametrize(("path", "item"), [(JOBS, a_job("stored")), (DEPLOYMENTS, a_deployment("stored"))])
def test_a_template_is_stored_with_what_it_counts_for(api: Api, path: str, item: dict[str, Any]) -> None:
    stored = api.post(path, item)

    assert limits(stored) == {**HALF, **COUNTED}
    assert stored["spec"]["template"]["spec"]["schedulerName"] == "kerf-scheduler"


def test_a_template_that_could_never_make_a_pod_is_refused(api: Api) -> None:
    with pytest.raises(ApiError, match=r"spec.template.spec.containers\[main\].resources.limits\[nvidia.com/gpumem\]"):
        api.post(JOBS, a_job("bytes", resources={"limits": {"nvidia.com/gpumem": "3Gi"}}))


def test_neither_scaling_nor_the_file_again_nor_other_cards_roll_a_deployment_out(api: Api) -> None:
    file = a_deployment("steady")
    before = api.post(DEPLOYMENTS, file)
    await_until(lambda: generation_seen(api, "steady"), "the controller to see it")
    api.patch(f"{PATH}/team-a/status", a_status(cardMiB={"smallest": 40_000, "largest": 40_000}))
    try:
        await_until(
            lambda: limits(api.post(f"{JOBS}?dryRun=All", a_job("p"))).get("quota.kerf.dev/nvidia-mib") == "20k",
            "the webhook to know of smaller cards",
        )
        scaled = api.patch(f"{DEPLOYMENTS}/steady", {"spec": {"replicas": 1}})
        again = api.apply(f"{DEPLOYMENTS}/steady", file)
    finally:
        api.patch(f"{PATH}/team-a/status", a_status())

    assert [item["spec"]["template"] for item in (scaled, again)] == [before["spec"]["template"]] * 2
    assert len(api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets?labelSelector=app%3Dsteady")["items"]) == 1


def generation_seen(api: Api, name: str) -> bool:
    item = api.get(f"{DEPLOYMENTS}/{name}")
    return bool(item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"])


def test_a_deployments_pods_carry_the_totals_and_its_replica_sets_are_not_made_again(api: Api) -> None:
    api.post(DEPLOYMENTS, a_deployment("web", replicas=1))
    pods = f"{PODS}?labelSelector=app%3Dweb"
    await_until(lambda: bool(api.get(pods)["items"]), "the pod")
    (pod,) = api.get(pods)["items"]
    sets = api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets?labelSelector=app%3Dweb")["items"]
    api.delete(f"{DEPLOYMENTS}/web")

    assert pod["spec"]["containers"][0]["resources"]["limits"] == {**HALF, **COUNTED}
    assert len(sets) == 1


def test_two_pods_that_do_not_fit_together_do_not_both_pass(api: Api) -> None:
    def a_big_pod(name: str) -> dict[str, Any]:
        pod = a_pod(name, containers=[a_container(mem=50_000)])
        return {"metadata": {"name": name}, "spec": pod["spec"]}

    await_until(lambda: passes(api, a_big_pod("rehearsal")), "what earlier tests admitted to be forgotten")
    api.post(PODS, a_big_pod("one"))

    with pytest.raises(ApiError, match="quota: tenant team-a holds or waits for 50,000 MiB of at most 81,559 MiB"):
        api.post(PODS, a_big_pod("two"))


def passes(api: Api, pod: dict[str, Any]) -> bool:
    """Whether the pod would be created; a dry run leaves no trace."""
    try:
        api.post(f"{PODS}?dryRun=All", pod)
    except ApiError:
        return False
    return True


@pytest.mark.parametrize(
    ("quota", "sentence"),
    [
        (a_quota("team-b"), "it belongs to tenant team-a already"),
        (a_quota("team-b", namespaces=["b"], weight=0), "spec.weight: '0': write a whole number from 1 to 1000"),
    ],
    ids=["another's namespace", "a number"],
)
def test_a_tenant_that_cannot_be_kept_is_refused(api: Api, quota: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiError, match=sentence):
        api.post(PATH, quota)
