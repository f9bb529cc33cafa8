"""The real Kueue manager as a part of the sandbox."""

from collections.abc import Iterator

import pytest

from sandbox import ApiError, ControlPlane, Kueue, await_until
from tests.cluster.kueue_objects import (
    KUEUE,
    MIB,
    Json,
    a_cluster_queue,
    a_flavor,
    a_job,
    a_local_queue,
    a_template,
    await_admitted,
    await_waiting,
    create,
    delete_job,
    used,
    workload_of,
    workloads_of,
)

pytestmark = pytest.mark.cluster
CLASS = "class.kerf.dev/nvidia-h100-80gb-hbm3-shared"
JOBS = "/apis/batch/v1/namespaces/default/jobs"


def a_replicated_job(name: str, replicas: int, requests: dict[str, str]) -> Json:
    return {"name": name, "replicas": replicas, "template": {"spec": {"template": a_template(requests)}}}


@pytest.fixture(scope="module")
def queue(control_plane: ControlPlane, kueue: Kueue) -> str:
    """A LocalQueue over 4 MiB of one flavor."""
    create(
        control_plane.api,
        a_flavor("h100", **{CLASS: "true"}),
        a_cluster_queue("team", {"h100": {MIB: 4}}),
        a_local_queue("team", "team"),
    )
    return "team"


@pytest.fixture
def cp(control_plane: ControlPlane, queue: str) -> Iterator[ControlPlane]:
    yield control_plane
    for job in control_plane.api.get(JOBS)["items"]:
        delete_job(control_plane.api, job["metadata"]["name"])
    await_until(lambda: not control_plane.api.get(f"{KUEUE}/workloads")["items"], "the workloads to go")


def test_a_job_beyond_the_quota_waits_with_kueues_reason_until_another_ends(cp: ControlPlane):
    create(cp.api, a_job("first", "team", {MIB: "3"}))
    admitted = await_admitted(cp.api, "first")
    create(cp.api, a_job("second", "team", {MIB: "3"}))

    waiting = await_waiting(cp.api, "second")
    delete_job(cp.api, "first")

    (assignment,) = admitted["status"]["admission"]["podSetAssignments"]
    assert (assignment["flavors"], assignment["resourceUsage"]) == ({MIB: "h100"}, {MIB: "3"})
    assert waiting["message"] == (
        f"couldn't assign flavors to pod set main: insufficient unused quota for {MIB} in flavor h100, 2 more needed"
    )
    await_admitted(cp.api, "second")
    await_until(lambda: not cp.api.get(f"{JOBS}/second")["spec"]["suspend"], "the second job to start")
    assert cp.api.get(f"{JOBS}/second")["spec"]["template"]["spec"]["nodeSelector"] == {CLASS: "true"}


def test_processors_memory_and_raw_gpu_resources_are_not_counted(cp: ControlPlane):
    create(cp.api, a_job("mixed", "team", {MIB: "2", "cpu": "500", "memory": "1Ti", "nvidia.com/gpu": "9"}))

    admitted = await_admitted(cp.api, "mixed")

    (assignment,) = admitted["status"]["admission"]["podSetAssignments"]
    assert assignment["flavors"] == {MIB: "h100"}
    await_until(lambda: used(cp.api, "team") == {("h100", MIB): "2"}, "the queue's books")


def test_a_job_outside_every_queue_is_left_alone(cp: ControlPlane):
    job = a_job("free", "team", {"cpu": "1"})
    del job["metadata"]["labels"]

    create(cp.api, job)

    await_until(lambda: cp.api.get(f"{JOBS}/free")["status"].get("active") == 1, "its pod")
    assert workloads_of(cp.api, "free") == []


def test_a_killed_manager_comes_back_to_what_waited(cp: ControlPlane):
    create(cp.api, a_job("before", "team", {MIB: "3"}), a_job("after", "team", {MIB: "3"}))
    await_admitted(cp.api, "before")
    await_waiting(cp.api, "after")

    cp.kill("kueue")
    delete_job(cp.api, "before")
    with pytest.raises(ApiError, match="failed calling webhook"):
        create(cp.api, a_job("refused", "team", {MIB: "1"}))
    cp.restart("kueue")

    await_admitted(cp.api, "after")
    create(cp.api, a_job("later", "team", {MIB: "1"}))
    await_admitted(cp.api, "later")


def test_a_job_set_is_counted_with_all_its_jobs_and_its_driver_without_cards_is_not(cp: ControlPlane):
    jobs = [a_replicated_job("driver", 1, {"cpu": "1"}), a_replicated_job("workers", 2, {MIB: "1"})]
    metadata = {"name": "set", "namespace": "default", "labels": {"kueue.x-k8s.io/queue-name": "team"}}
    kind = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet"}
    create(cp.api, {**kind, "metadata": metadata, "spec": {"replicatedJobs": jobs}})
    try:
        admitted = await_admitted(cp.api, "set")
    finally:
        cp.api.delete("/apis/jobset.x-k8s.io/v1alpha2/namespaces/default/jobsets/set")

    driver, workers = admitted["status"]["admission"]["podSetAssignments"]
    assert driver == {"name": "driver", "count": 1}
    assert workers == {"name": "workers", "count": 2, "flavors": {MIB: "h100"}, "resourceUsage": {MIB: "2"}}


def test_a_resource_that_nobody_knows_is_named_in_the_reason(cp: ControlPlane):
    create(cp.api, a_job("typo", "team", {"quota.kerf.dev/nvidia-mb": "1"}))

    assert await_waiting(cp.api, "typo")["message"] == (
        "couldn't assign flavors to pod set main: resource quota.kerf.dev/nvidia-mb unavailable in ClusterQueue"
    )


def test_the_manager_needs_no_more_than_the_rights_that_kueue_ships(cp: ControlPlane):
    create(cp.api, a_job("rights", "team", {MIB: "1"}))
    await_admitted(cp.api, "rights")

    log = cp.supervisor.log("kueue").read_text().lower()
    assert "forbidden" not in log
    assert workload_of(cp.api, "rights")["metadata"]["name"].startswith("job-rights-")
