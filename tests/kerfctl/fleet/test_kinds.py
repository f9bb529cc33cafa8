"""`kerf simulate --clusters` reads what makes pods as `kerf simulate` does, and keeps roles of one object together."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.testing.builders import a_container, a_node, cards_of
from kerfctl.fleet.together import plan_together
from kerfctl.main import main
from scheduler.solver.fleet.problem import Demand, Fit, FleetProblem, Kind, NodeSpace, Piece, Site
from scheduler.solver.fleet.solve import plan_fleet
from tests.effort import examples

CARD = 81_559


def pod(mem: int | None = 40_000, gpu: int = 1, **spec: Any) -> dict[str, Any]:
    """A template; without memory it asks for no card."""
    main_container = a_container(gpu=gpu, mem=mem, cores=50) if mem else {"name": "main", "image": "i"}
    return {"spec": {"containers": [main_container], **spec}}


def an_object(kind: str, api: str, spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "train", **meta}, "spec": spec}


def job(template: dict[str, Any], parallelism: int = 1, completions: int | None = None) -> dict[str, Any]:
    return {"parallelism": parallelism, "completions": completions or parallelism, "template": template}


JOBSET, KUBEFLOW, RAY, LWS = "jobset.x-k8s.io/v1alpha2", "kubeflow.org/v1", "ray.io/v1", "leaderworkerset.x-k8s.io/v1"
SERVING = "serving.kserve.io/v1beta1"


def a_job_set(**parts: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    jobs = [{"name": n, "replicas": r, "template": {"spec": j}} for n, (r, j) in parts.items()]
    return an_object("JobSet", JOBSET, {"replicatedJobs": jobs})


def a_ray_cluster(head: dict[str, Any], workers: int, worker: dict[str, Any]) -> dict[str, Any]:
    groups = [{"groupName": "gpu", "replicas": workers, "minReplicas": 0, "maxReplicas": 9, "template": worker}]
    return {"headGroupSpec": {"template": head}, "workerGroupSpecs": groups}


def groups(leader: dict[str, Any] | None, worker: dict[str, Any]) -> dict[str, Any]:
    more = {} if leader is None else {"leaderTemplate": leader}
    return {"replicas": 2, "leaderWorkerTemplate": {"size": 3, "workerTemplate": worker, **more}}


KINDS: dict[str, tuple[dict[str, Any], dict[str, tuple[int, int]]]] = {
    "a JobSet": (a_job_set(workers=(2, job(pod(), 2))), {"train": (1, 4)}),
    "a JobSet with a driver": (a_job_set(d=(1, job(pod(None))), w=(3, job(pod()))), {"train": (1, 3)}),
    "a JobSet of two sizes": (
        a_job_set(a=(1, job(pod())), b=(2, job(pod(20_000)))),
        {"train/a": (1, 1), "train/b": (1, 2)},
    ),
    "a PyTorchJob": (
        an_object(
            "PyTorchJob",
            KUBEFLOW,
            {"pytorchReplicaSpecs": {"Master": {"template": pod()}, "Worker": {"replicas": 3, "template": pod()}}},
        ),
        {"train": (1, 4)},
    ),
    "an MPIJob": (
        an_object(
            "MPIJob",
            KUBEFLOW,
            {"mpiReplicaSpecs": {"Launcher": {"template": pod(None)}, "Worker": {"replicas": 2, "template": pod()}}},
        ),
        {"train": (1, 2)},
    ),
    "a RayCluster": (an_object("RayCluster", RAY, a_ray_cluster(pod(None), 3, pod())), {"train": (1, 3)}),
    "a RayJob": (
        an_object("RayJob", RAY, {"rayClusterSpec": a_ray_cluster(pod(20_000), 1, pod())}),
        {"train/head": (1, 1), "train/gpu": (1, 1)},
    ),
    "a RayService": (
        an_object("RayService", RAY, {"rayClusterConfig": a_ray_cluster(pod(None), 2, pod())}),
        {"train": (1, 2)},
    ),
    "LeaderWorkerSets with leaders without cards": (
        an_object("LeaderWorkerSet", LWS, groups(pod(None), pod())),
        {"train": (2, 4)},
    ),
    "LeaderWorkerSets with other leaders that ask for the same": (
        an_object("LeaderWorkerSet", LWS, groups(pod(hostname="leader"), pod())),
        {"train": (2, 6)},
    ),
    "a LeaderWorkerSet": (an_object("LeaderWorkerSet", LWS, groups(None, pod())), {"train": (2, 6)}),
    "a CronJob": (
        an_object("CronJob", "batch/v1", {"schedule": "@daily", "jobTemplate": {"spec": job(pod(), 2)}}),
        {"train": (2, 2)},
    ),
    "a Job": (an_object("Job", "batch/v1", job(pod(), 4, 3)), {"train": (3, 3)}),
    "a StatefulSet": (an_object("StatefulSet", "apps/v1", {"replicas": 2, "template": pod()}), {"train": (2, 2)}),
    "a Deployment whose pods are a gang": (
        an_object(
            "Deployment",
            "apps/v1",
            {"replicas": 3, "template": {**pod(), "metadata": {"labels": {"kerf.dev/gang": "g"}}}},
        ),
        {"train": (1, 3)},
    ),
    "an InferenceService": (
        an_object(
            "InferenceService", SERVING, {"predictor": {"minReplicas": 2, "containers": pod()["spec"]["containers"]}}
        ),
        {"train": (2, 2)},
    ),
}


def simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], item: dict[str, Any], **cards: int
) -> tuple[int, dict[str, Any]]:
    """The plan for one object over clusters of one node each, with so many cards."""
    files, clusters = tmp_path / "workloads.yaml", tmp_path / "clusters"
    files.write_text(yaml.safe_dump(item))
    clusters.mkdir()
    for name, count in cards.items():
        (clusters / f"{name}.json").write_text(json.dumps(a_node(name, cards_of(name, count, memory_mib=CARD))))
    status = main(["simulate", str(files), "--clusters", str(clusters), "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", KINDS)
def test_what_makes_pods_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    item, wanted = KINDS[name]

    status, found = simulated(tmp_path, capsys, item, north=8)

    assert status == 0
    assert {
        part["workload"].removeprefix("default/"): (part["replicas"], part["pods"])
        for part in found["plans"][0]["assignments"]
    } == wanted


@pytest.mark.parametrize(
    ("cards", "places"),
    [
        ({"one": 1, "two": 1}, {}),
        ({"one": 1, "two": 2}, {"train/a": "two", "train/b": "two"}),
        ({"one": 3}, {"train/a": "one", "train/b": "one"}),
    ],
)
def test_the_roles_of_one_object_are_in_one_cluster_or_in_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cards: dict[str, int], places: dict[str, str]
) -> None:
    item = a_job_set(a=(1, job(pod(60_000))), b=(1, job(pod(50_000))))

    status, found = simulated(tmp_path, capsys, item, **cards)

    plan = found["plans"][0]
    assert {p["workload"].removeprefix("default/"): p["cluster"] for p in plan["assignments"]} == places
    assert (status, len(plan["unplaced"])) == ((0, 0) if places else (1, 2))
    assert all("replicas fit by themselves" in line for said in found["whyNot"].values() for line in said)


def test_one_more_node_counts_for_what_has_no_place_as_a_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    item = a_job_set(a=(1, job(pod(60_000))), b=(1, job(pod(50_000))))

    _, found = simulated(tmp_path, capsys, item, one=1, two=1)

    assert {each["replicasPlaced"] for each in found["next"]} == {2}


@st.composite
def problems(draw: st.DrawFn) -> tuple[FleetProblem, list[tuple[str, ...]]]:
    kind = Kind("k", 100)
    names = ("east", "west")
    nodes = {name: draw(st.integers(1, 3)) for name in names}
    sites = tuple(
        Site(name, ((NodeSpace("k", (kind.empty,) * 2, 1000, 1000), nodes[name]),), (("k", price),), (("k", price),))
        for name, price in zip(names, draw(st.permutations((1_000_000, 2_000_000))), strict=True)
    )
    demands = [
        Demand(f"d{i}", 1, (Fit("k", (Piece(draw(st.sampled_from((30, 50, 70))), 10),)),), pods=draw(st.integers(1, 3)))
        for i in range(draw(st.integers(2, 5)))
    ]
    order = [demand.name for demand in demands]
    cut = draw(st.integers(1, len(order) - 1))
    groups = [group for group in (tuple(order[:cut]), tuple(order[cut:])) if len(group) > 1]
    return FleetProblem((kind,), sites, tuple(demands)), groups


@settings(max_examples=examples(50), deadline=None)
@given(problems())
def test_a_group_is_in_one_cluster_or_has_no_place_and_no_plan_undercuts_the_bound(
    asked: tuple[FleetProblem, list[tuple[str, ...]]],
) -> None:
    problem, together = asked

    found = plan_together(problem, together, plan_fleet)

    for group in together:
        sites = {part.site for part in found.plan.parts if part.demand in group}
        placed = [name for name in group if found.plan.units(name)]
        assert len(sites) <= 1
        assert placed in ([], list(group))
        assert (group in found.without) == (not placed)
    assert found.plan.bound <= found.plan.objective
