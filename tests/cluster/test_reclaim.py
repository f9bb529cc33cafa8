"""A guarantee comes back beside the real kube-scheduler and Eviction API, also from behind a borrower's budget."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sandbox import ApiError, ControlPlane, await_until
from sandbox.crds import read_crds
from tests.cluster.gpu_pods import (
    PODS,
    a_fake_node,
    a_fleet,
    a_gpu_pod,
    await_bound,
    create,
    overcommitted,
    remove_pods,
)
from tests.cluster.test_tenants_claims import CRDS, TENANTS

pytestmark = pytest.mark.cluster
WHOLE = {"mem": 81_559, "cores": 100}
OURS = "/api/v1/namespaces/lender/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
POLICY = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "SchedulingPolicy",
    "spec": {"quota": {"engine": "kerf", "reclaim": {"deadlineSeconds": 5}}},
}


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Two cards, guaranteed to `lender` and `borrower` one each; the borrower's namespace is `default`."""
    api = control_plane.api
    for crd in read_crds():
        if crd["metadata"]["name"] == "tenantquotas.kerf.dev":
            api.post(CRDS, crd)
    api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lender"}})
    await_until(lambda: serves(control_plane), "TenantQuotas to be served", 60)
    for name, namespace in (("lender", "lender"), ("borrower", "default")):
        spec = {"namespaces": [namespace], "classes": [{"model": "H100", "guaranteed": "1 card"}]}
        tenant = {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": spec}
        api.post(TENANTS, tenant)
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    with a_fleet(control_plane, [a_fake_node("gpu-1", cards=2)], "--config", str(policy)):
        yield control_plane


@pytest.fixture
def cp(cluster: ControlPlane) -> Iterator[ControlPlane]:
    yield cluster
    for pod in cluster.api.get(OURS)["items"]:
        cluster.api.remove(f"{OURS}/{pod['metadata']['name']}", 0)
    remove_pods(cluster)


def serves(cp: ControlPlane) -> bool:
    try:
        cp.api.get(TENANTS)
    except ApiError:
        return False
    return True


def lend_all(cp: ControlPlane) -> None:
    labels = {"app": "borrower"}
    create(cp, *(a_gpu_pod(f"b{i}", labels=labels, **WHOLE) for i in range(2)))
    await_bound(cp, "b0", "b1")


def ask(cp: ControlPlane) -> None:
    pod = a_gpu_pod("asks", **WHOLE)
    cp.api.post(OURS, {**pod, "metadata": {"name": "asks"}})


def bound(cp: ControlPlane) -> bool:
    return bool(cp.api.get(f"{OURS}/asks")["spec"].get("nodeName"))


def left(cp: ControlPlane) -> list[str]:
    return [pod["metadata"]["name"] for pod in cp.api.get(PODS)["items"]]


def said(cp: ControlPlane) -> list[dict[str, Any]]:
    return [
        event for event in cp.api.get("/api/v1/namespaces/default/events")["items"] if event["reason"] == "Reclaimed"
    ]


def test_what_is_lent_comes_back_when_it_is_asked_for(cp: ControlPlane) -> None:
    lend_all(cp)

    ask(cp)
    await_until(lambda: bound(cp), "the guarantee", 20)

    assert len(left(cp)) == 1
    assert overcommitted(cp) == []
    await_until(lambda: bool(said(cp)), "the Event", 10)
    (event,) = said(cp)
    why = "tenant borrower holds more than is guaranteed, and tenant lender asks for its guarantee (pod lender/asks)"
    assert event["message"] == f"evicted: {why}"
    assert event["involvedObject"]["name"] not in left(cp)


def test_a_budget_delays_it_until_the_deadline(cp: ControlPlane) -> None:
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "borrower"}}}
    cp.api.post(
        BUDGETS, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "all"}, "spec": spec}
    )
    lend_all(cp)
    healthy = lambda: cp.api.get(f"{BUDGETS}/all").get("status", {}).get("currentHealthy") == 2  # noqa: E731
    await_until(healthy, "the budget to count the pods", 30)

    ask(cp)
    await_until(lambda: bound(cp), "the guarantee", 40)

    assert len(left(cp)) == 1
    assert overcommitted(cp) == []
