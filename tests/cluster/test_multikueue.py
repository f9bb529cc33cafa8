"""Three control planes with a Kueue each: a manager, and two workers that Kerf's dispatcher chooses between."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from kerf.kube.client import connect, connect_to
from kerf.testing.builders import a_card, cards_of
from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import class_of
from kerf.vendors.registry import VENDORS
from kerf.wire.inventory import render_inventory
from sandbox import (
    CONTROL_PLANE,
    Api,
    ControlPlane,
    FakeNode,
    await_until,
    ensure,
    join_workers,
    run_directory,
    start_kueue,
)
from scheduler.clusters.dispatch import DISPATCHER, Dispatcher
from scheduler.clusters.workers import Books
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.state.store import Store
from tests.cluster.kueue_objects import (
    KUEUE,
    MIB,
    Json,
    a_cluster_queue,
    a_flavor,
    a_job,
    a_local_queue,
    await_admitted,
    create,
    delete_job,
    workload_of,
)

pytestmark = pytest.mark.cluster
WHOLE = 81_559
A100 = "NVIDIA A100-SXM4-80GB"
H100_SLUG = class_of(a_card()).slug
A100_SLUG = class_of(a_card(model=A100)).slug
LABELS = {slug: f"class.kerf.dev/{slug}" for slug in (A100_SLUG, H100_SLUG)}
JOBS = "/apis/batch/v1/namespaces/default/jobs"


@dataclass(frozen=True, slots=True)
class Clusters:
    """`near` has one H100; `far` has four, and an A100 that its queue lists first."""

    manager: ControlPlane
    near: ControlPlane
    far: ControlPlane

    @property
    def workers(self) -> Mapping[str, ControlPlane]:
        return {"near": self.near, "far": self.far}


@pytest.fixture(scope="module")
def clusters(kueue_program: Path) -> Iterator[Clusters]:
    parts = {**ensure((*CONTROL_PLANE, "kwok")), "kueue": kueue_program}
    with ExitStack() as stack:
        planes = [
            stack.enter_context(ControlPlane.start(stack.enter_context(run_directory()), parts)) for _ in range(3)
        ]
        found = Clusters(*planes)
        start_kueue(found.manager, configuration={"multiKueue": {"dispatcherName": DISPATCHER}})
        for worker in found.workers.values():
            worker.start_kwok()
            start_kueue(worker, configuration={"featureGates": {"ConcurrentAdmission": True}})
        _fill(found)
        yield found


def _fill(clusters: Clusters) -> None:
    clusters.near.add_fake_nodes([a_gpu_node("near-1", 1)])
    clusters.far.add_fake_nodes([a_gpu_node("far-1", 4), a_gpu_node("far-2", 1, model=A100)])
    for cp in (clusters.near, clusters.far, clusters.manager):
        slugs = [H100_SLUG] if cp is not clusters.far else [A100_SLUG, H100_SLUG]
        checks = {"admissionChecksStrategy": {"admissionChecks": [{"name": "multikueue"}]}}
        create(
            cp.api,
            *(a_flavor(slug, **{LABELS[slug]: "true"}) for slug in slugs),
            a_cluster_queue(
                "team", {slug: {MIB: 10 * WHOLE} for slug in slugs}, **(checks if cp is clusters.manager else {})
            ),
            a_local_queue("team", "team"),
        )
    join_workers(clusters.manager, clusters.workers)


def a_gpu_node(name: str, cards: int, **changes: str) -> FakeNode:
    held = cards_of(name, cards, **changes)
    labels = {LABELS[class_of(card).slug]: "true" for card in held}
    return FakeNode(name, {"kerf.dev/inventory": render_inventory(held)}, labels, {"nvidia.com/gpu": "40"})


@pytest.fixture
def manager(clusters: Clusters) -> Iterator[Api]:
    api = clusters.manager.api
    yield api
    for job in api.get(JOBS)["items"]:
        delete_job(api, job["metadata"]["name"])
    planes = (clusters.manager, clusters.near, clusters.far)
    await_until(lambda: not any(cp.api.get(f"{KUEUE}/workloads")["items"] for cp in planes), "the workloads to go")


@pytest.fixture
def dispatcher(clusters: Clusters, manager: Api) -> Iterator[None]:
    stop = threading.Event()
    loop = Dispatcher(
        connect(str(clusters.manager.kubeconfig)),
        books_for=lambda _: Books(store := Store(SchedulingPolicy(), VENDORS), QuotaKeeper(store)),
        connect=connect_to,
        honours_pin=True,
        patience_s=5.0,
    )
    thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(10)


def a_gpu_job(name: str, pods: int = 1, mib: int = WHOLE) -> Json:
    amounts = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": str(mib), MIB: str(mib)}
    return a_job(name, "team", amounts, pods=pods)


def cluster_of(api: Api, job: str) -> str:
    await_admitted(api, job)
    return str(workload_of(api, job)["status"]["clusterName"])


def events_of(api: Api, job: str) -> list[str]:
    name = workload_of(api, job)["metadata"]["name"]
    items = api.get("/api/v1/namespaces/default/events")["items"]
    return [
        each["message"]
        for each in items
        if each["involvedObject"]["name"] == name and each["reason"] == "NoClusterFits"
    ]


def test_a_job_goes_to_the_cluster_that_is_nominated_in_its_workloads_status(clusters: Clusters, manager: Api):
    create(manager, a_gpu_job("by-hand"))
    await_until(lambda: "admission" in workload_of(manager, "by-hand").get("status", {}), "its quota")
    name = workload_of(manager, "by-hand")["metadata"]["name"]

    manager.patch(
        f"{KUEUE}/namespaces/default/workloads/{name}/status", {"status": {"nominatedClusterNames": ["near"]}}
    )

    assert cluster_of(manager, "by-hand") == "near"
    await_until(lambda: not clusters.near.api.get(f"{JOBS}/by-hand")["spec"]["suspend"], "the job to start there")
    assert clusters.far.api.get(JOBS)["items"] == []


@pytest.mark.usefixtures("dispatcher")
def test_a_job_goes_where_the_cards_hold_all_of_its_pods(manager: Api):
    create(manager, a_gpu_job("wide", pods=3))

    assert cluster_of(manager, "wide") == "far"


@pytest.mark.usefixtures("dispatcher")
def test_of_two_clusters_that_fit_the_tighter_one_is_nominated(manager: Api):
    create(manager, a_gpu_job("small", mib=1000))

    assert cluster_of(manager, "small") == "near"


@pytest.mark.usefixtures("dispatcher")
def test_the_class_that_the_managers_quota_was_reserved_of_holds_on_the_worker(clusters: Clusters, manager: Api):
    create(manager, a_gpu_job("pinned", pods=2))

    assert cluster_of(manager, "pinned") == "far"
    (assignment,) = workload_of(clusters.far.api, "pinned")["status"]["admission"]["podSetAssignments"]
    assert assignment["flavors"] == {MIB: H100_SLUG}
    await_until(lambda: not clusters.far.api.get(f"{JOBS}/pinned")["spec"]["suspend"], "the job to start there")
    template = clusters.far.api.get(f"{JOBS}/pinned")["spec"]["template"]
    assert template["spec"]["nodeSelector"] == {LABELS[H100_SLUG]: "true"}


@pytest.mark.usefixtures("dispatcher")
def test_a_job_that_no_cluster_holds_waits_with_the_numbers_until_one_does(clusters: Clusters, manager: Api):
    create(manager, a_gpu_job("huge", pods=6))

    await_until(lambda: bool(events_of(manager, "huge")), "the reason")
    clusters.far.add_fake_nodes([a_gpu_node("far-3", 2)])
    try:
        assert cluster_of(manager, "huge") == "far"
    finally:
        clusters.far.api.delete("/api/v1/nodes/far-3")

    assert events_of(manager, "huge")[0] == (
        "no worker cluster fits: near: 1 of 6 pods fit now; far: 4 of 6 pods fit now"
    )


def test_without_the_pin_a_worker_assigns_what_its_queue_lists_first(clusters: Clusters, manager: Api):
    """The reason why the dispatcher pins."""
    create(manager, a_gpu_job("loose"))
    await_until(lambda: "admission" in workload_of(manager, "loose").get("status", {}), "its quota")
    name = workload_of(manager, "loose")["metadata"]["name"]

    manager.patch(f"{KUEUE}/namespaces/default/workloads/{name}/status", {"status": {"nominatedClusterNames": ["far"]}})

    assert cluster_of(manager, "loose") == "far"
    (assignment,) = workload_of(clusters.far.api, "loose")["status"]["admission"]["podSetAssignments"]
    assert assignment["flavors"] == {MIB: A100_SLUG}
