"""A guarantee comes back beside the real kube-scheduler and Eviction API, also from behind a borrower's budget."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sandbox import ControlPlane, await_until
from sandbox.crds import install_crds
from tests.cluster.gpu_pods import (
    PODS,
    a_fake_node,
    a_fleet,
    a_gpu_pod,
    await_bound,
    create,
    overcommitted,
    overcommitted_in,
    remove_pods,
)
from tests.cluster.tenants import add_namespaces, add_tenant

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
    install_crds(control_plane)
    add_namespaces(api, "lender")
    for name, namespace in (("lender", "lender"), ("borrower", "default")):
        add_tenant(api, name, namespaces=[namespace], classes=[{"model": "H100", "guaranteed": "1 card"}])
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    with a_fleet(control_plane, [a_fake_node("gpu-1", cards=2)], "--config", str(policy)):
        yield control_plane


@pytest.fixture
def cp(cluster: ControlPlane) -> Iterator[ControlPlane]:
    yield cluster
    for path in (OURS, BUDGETS):
        for item in cluster.api.get(path)["items"]:
            cluster.api.remove(f"{path}/{item['metadata']['name']}", 0)
    await_until(lambda: not cluster.api.get(OURS)["items"], "the lender's pods to be gone")
    remove_pods(cluster)


def lend_all(cp: ControlPlane) -> None:
    labels = {"app": "borrower"}
    create(cp, *(a_gpu_pod(f"b{i}", labels=labels, **WHOLE) for i in range(2)))
    await_bound(cp, "b0", "b1")


def ask(cp: ControlPlane, name: str = "asks", size: dict[str, int] = WHOLE, **meta: Any) -> None:
    pod = a_gpu_pod(name, **size)
    cp.api.post(OURS, {**pod, "metadata": {"name": name, **meta}})


def bound(cp: ControlPlane, name: str = "asks") -> bool:
    return bool(cp.api.get(f"{OURS}/{name}")["spec"].get("nodeName"))


def left(cp: ControlPlane) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in cp.api.get(PODS)["items"])


def add_budget(cp: ControlPlane, app: str, stay: int, pods: int) -> None:
    """A PodDisruptionBudget by which so many of these pods have to stay, once it counts them."""
    spec = {"minAvailable": stay, "selector": {"matchLabels": {"app": app}}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": app}, "spec": spec}
    cp.api.post(BUDGETS, budget)
    counted = lambda: cp.api.get(f"{BUDGETS}/{app}").get("status", {}).get("currentHealthy") == pods  # noqa: E731
    await_until(counted, "the budget to count the pods")


def said(cp: ControlPlane) -> list[dict[str, Any]]:
    return [
        event for event in cp.api.get("/api/v1/namespaces/default/events")["items"] if event["reason"] == "Reclaimed"
    ]


def test_what_is_lent_comes_back_when_it_is_asked_for(cp: ControlPlane) -> None:
    lend_all(cp)

    ask(cp)
    await_until(lambda: bound(cp), "the guarantee")

    assert len(left(cp)) == 1
    assert overcommitted(cp) == []
    await_until(lambda: bool(said(cp)), "the Event")
    (event,) = said(cp)
    why = "tenant borrower holds more than is guaranteed, and tenant lender asks for its guarantee (pod lender/asks)"
    assert event["message"] == f"evicted: {why}"
    assert event["involvedObject"]["name"] not in left(cp)


def test_a_budget_delays_it_until_the_deadline(cp: ControlPlane) -> None:
    lend_all(cp)
    add_budget(cp, "borrower", stay=2, pods=2)

    ask(cp)
    await_until(lambda: bound(cp), "the guarantee")

    assert len(left(cp)) == 1
    assert overcommitted(cp) == []


def test_of_two_pods_that_share_a_budget_none_leaves_for_nothing(cp: ControlPlane) -> None:
    """One of the halves may go, and that would help nobody; after the deadline the whole card alone comes back."""
    create(cp, a_gpu_pod("whole", labels={"app": "whole"}, **WHOLE))
    await_bound(cp, "whole")
    create(cp, *(a_gpu_pod(f"half-{i}", labels={"app": "halves"}, mem=40_000, cores=50) for i in range(2)))
    await_bound(cp, "half-0", "half-1")
    add_budget(cp, "whole", stay=1, pods=1)
    add_budget(cp, "halves", stay=1, pods=2)

    ask(cp)
    await_until(lambda: bound(cp), "the guarantee")

    assert left(cp) == ["half-0", "half-1"]
    assert overcommitted(cp) == []


def test_a_gang_gets_all_its_places_back_and_takes_them(cp: ControlPlane) -> None:
    lend_all(cp)
    gang = {"labels": {"kerf.dev/gang": "train"}, "annotations": {"kerf.dev/gang-size": "2"}}

    ask(cp, "m0", {"mem": 40_000, "cores": 50}, **gang)
    ask(cp, "m1", {"mem": 40_000, "cores": 50}, **gang)
    await_until(lambda: bound(cp, "m0") and bound(cp, "m1"), "the gang")

    assert len(left(cp)) == 1
    assert overcommitted_in(cp, "default", "lender") == []
