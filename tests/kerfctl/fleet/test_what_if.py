"""`kerf simulate --clusters`: what a plan does not have is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import H100_MIB, a_claim, a_claiming_pod, a_container, a_grant, a_node, a_pod, cards_of
from kerf.values.allocator import Allocator
from kerf.wire.fleet import slug
from kerfctl.main import main

CONTAINER = {"name": "main", "image": "i", "resources": {"limits": {"nvidia.com/gpumem": 8000}}}


def a_workload(kind: str, api: str = "apps/v1") -> dict[str, Any]:
    spec = {"replicas": 1, "template": {"spec": {"containers": [CONTAINER]}}}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": kind.lower()}, "spec": spec}


@pytest.mark.parametrize(
    ("others", "status", "left_out"),
    [
        ([], 0, []),
        ([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}], 0, []),
        ([a_workload("DaemonSet")], 1, ["not read: DaemonSet daemonset"]),
        ([a_workload("Workflow", "argoproj.io/v1alpha1")], 1, ["not read: Workflow workflow"]),
    ],
    ids=["none", "no pods", "a DaemonSet", "an unknown kind"],
)
def test_an_object_that_the_plan_does_not_have_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], others: list[dict[str, Any]], status: int, left_out: list[str]
) -> None:
    workloads, cluster = tmp_path / "workloads.yaml", tmp_path / "north.json"
    workloads.write_text(yaml.safe_dump_all([a_workload("Deployment"), *others]))
    cluster.write_text(json.dumps(a_node()))

    assert main(["simulate", str(workloads), "--clusters", str(cluster), "--json"]) == status

    found = json.loads(capsys.readouterr().out)
    assert found["leftOut"] == left_out
    assert [part["workload"] for part in found["plans"][0]["assignments"]] == ["default/deployment"]


SLICE = {"deviceClassName": "slice.gpu.kerf.dev", "capacity": {"requests": {"memory": "40000Mi", "cores": "50"}}}
DEVICES = {"devices": {"requests": [{"name": "gpu", "exactly": SLICE}]}}
RESOURCE = "resource.k8s.io/v1"
TEMPLATE = {
    "apiVersion": RESOURCE,
    "kind": "ResourceClaimTemplate",
    "metadata": {"name": "half"},
    "spec": {"spec": DEVICES},
}


def a_claim_of(name: str, spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"apiVersion": RESOURCE, "kind": "ResourceClaim", "metadata": {"name": name, **meta}, "spec": spec}


def claiming(replicas: int, **ref: str) -> dict[str, Any]:
    pod = {"resourceClaims": [{"name": "gpu", **ref}], "containers": [{"name": "main", "image": "i"}]}
    return {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "chat.v1"},
            "spec": {"replicas": replicas, "template": {"spec": pod}}}  # fmt: skip


def plan_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workloads: list[dict[str, Any]], nodes: list[dict[str, Any]]
) -> dict[str, Any]:
    files, cluster = tmp_path / "workloads.yaml", tmp_path / "north.yaml"
    files.write_text(yaml.safe_dump_all(workloads))
    cluster.write_text(yaml.safe_dump_all(nodes))
    main(["simulate", str(files), "--clusters", str(cluster), "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def given_to_claims(name: str, cards: int) -> dict[str, Any]:
    return a_node(name, cards_of(name, cards, allocator=Allocator.DRA))


def test_pods_with_claims_and_claims_by_themselves_count_as_the_slices_that_they_ask_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = a_claim_of("alone", DEVICES)
    held = a_claim_of("chat-x-gpu-y", DEVICES, ownerReferences=[{"kind": "Pod", "name": "chat-x"}])
    other = a_claim_of(
        "nic", {"devices": {"requests": [{"name": "n", "exactly": {"deviceClassName": "rdma.example"}}]}}
    )
    workloads = [TEMPLATE, claiming(4, resourceClaimTemplateName="half"), alone, held, other]

    found = plan_of(tmp_path, capsys, workloads, [given_to_claims("a", 2), a_node("b", 4)])

    placed = {(p["workload"], p["replicas"], p["allocator"]) for p in found["plans"][0]["assignments"]}
    assert sum(n for _, n, _ in placed) == 4  # two cards of two halves each; the others are not given to claims
    assert {hands for _, _, hands in placed} == {"dra"}
    assert sum(found["plans"][0]["unplaced"].values()) == 1
    assert [line.partition(": spec")[0] for line in found["leftOut"]] == ["not read: ResourceClaim nic"]


def test_a_claim_that_exists_is_counted_with_the_one_pod_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workloads = [a_claim_of("mine", DEVICES), claiming(1, resourceClaimName="mine")]

    found = plan_of(tmp_path, capsys, workloads, [given_to_claims("a", 2)])

    assert [(p["workload"], p["replicas"]) for p in found["plans"][0]["assignments"]] == [("default/chat.v1", 1)]


@pytest.mark.parametrize(
    ("workloads", "says"),
    [
        ([claiming(1, resourceClaimTemplateName="half")], "there is no ResourceClaimTemplate of that name"),
        ([a_claim_of("mine", DEVICES), claiming(2, resourceClaimName="mine")], "belongs to one pod"),
    ],
)
def test_what_cannot_be_counted_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workloads: list[dict[str, Any]], says: str
) -> None:
    files, cluster = tmp_path / "workloads.yaml", tmp_path / "north.yaml"
    files.write_text(yaml.safe_dump_all(workloads))
    cluster.write_text(yaml.safe_dump(a_node()))

    assert main(["simulate", str(files), "--clusters", str(cluster)]) == 1

    said = capsys.readouterr().err
    assert "Deployment chat.v1" in said
    assert says in said


def test_what_pods_hold_by_claims_is_not_given_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = a_node("node-1", cards_of("a", 1, allocator=Allocator.DRA))
    held = a_claim("held", ("gpu-a-0", 60_000, 50))
    pod = a_claiming_pod(main=["held"])

    found = plan_of(tmp_path, capsys, [TEMPLATE, claiming(1, resourceClaimTemplateName="half")], [node, held, pod])

    assert found["plans"][0]["unplaced"] == {"default/chat.v1": 1}


def test_odd_but_valid_files_are_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = {
        **a_workload("Deployment"),
        "metadata": {"name": "chat.v1.5-with-a-name-that-is-longer-than-that-of-a-fleets"},
    }
    none = {**a_workload("Deployment"), "metadata": {"name": "none"}, "spec": {**long["spec"], "replicas": 0}}
    job = a_workload("Job", "batch/v1")
    job["spec"] |= {"parallelism": 4, "completions": 2}
    idle = {**a_workload("Job", "batch/v1"), "metadata": {"name": "idle"}}
    idle["spec"]["suspend"] = True
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "chat-"},
        "spec": {"containers": [CONTAINER]},
    }
    owner = {"kind": "Deployment", "name": long["metadata"]["name"], "controller": True}
    owned = {**a_workload("ReplicaSet"), "metadata": {"name": "owned", "ownerReferences": [owner]}}
    web = {**a_workload("Deployment"), "metadata": {"name": "web"}}
    web["spec"] = {"template": {"spec": {"containers": [{"name": "main", "image": "i"}]}}}
    other = {**a_workload("Job", "batch.volcano.sh/v1alpha1"), "metadata": {"name": "other"}}

    found = plan_of(tmp_path, capsys, [long, none, job, idle, pod, pod, owned, web, other], [a_node("a", 4)])

    assert {p["workload"]: p["replicas"] for p in found["plans"][0]["assignments"]} == {
        "default/chat": 1,
        "default/chat (Pod)": 1,
        f"default/{long['metadata']['name']}": 1,
        "default/job": 2,
    }
    assert found["withoutCards"] == ["Deployment web"]
    assert found["leftOut"] == ["not read: Job other"]


def test_what_a_pod_selects_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta = {"name": "picky", "annotations": {"nvidia.com/use-gputype": "A100"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [CONTAINER]}}

    found = plan_of(tmp_path, capsys, [pod], [a_node("a", 4)])

    said = "north: no card that it accepts; it has NVIDIA H100 80GB HBM3"
    assert (found["plans"][0]["unplaced"], found["whyNot"]) == ({"default/picky": 1}, {"default/picky": [said]})


def cluster(name: str) -> dict[str, Any]:
    spec = {"region": f"{name}-1"}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec}


def simulated(tmp_path: Path, files: dict[str, list[dict[str, Any]]], *more: str) -> int:
    folder = tmp_path / "clusters"
    folder.mkdir()
    for name, items in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(items))
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(a_workload("Deployment")))
    return main(["simulate", str(tmp_path / "w.yaml"), "--clusters", str(folder), *more])


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a": [cluster("north"), a_node("a")], "b": [cluster("north"), a_node("b")]}, "a second cluster called north"),
        ({"north": [a_node("a")], "b": [cluster("north"), a_node("b")]}, "a second cluster called north"),
        ({"a": [cluster("north"), cluster("south"), a_node("a")]}, "several Clusters, and none is called a"),
        ({"a": []}, "no node"),
    ],
)
def test_files_that_leave_open_which_cluster_they_are_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, list[dict[str, Any]]], says: str
) -> None:
    assert simulated(tmp_path, files) == 1

    assert says in capsys.readouterr().err


def test_the_managers_snapshot_has_every_cluster_and_one_without_nodes_has_no_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north = [cluster("south"), cluster("north"), cluster("fresh"), a_node("a", 2)]

    assert simulated(tmp_path, {"north": north, "new": [cluster("fresh")]}, "--json") == 0

    found = json.loads(capsys.readouterr().out)
    assert [part["cluster"] for part in found["plans"][0]["assignments"]] == ["north"]


def a_container_with(cpu: str) -> dict[str, Any]:
    container = a_container(cores=100)
    return {**container, "resources": {**container["resources"], "requests": {"cpu": cpu}}}


def bound(workload: str, card: int, cpu: str = "1") -> dict[str, Any]:
    labels = {"fleet.kerf.dev/manager": slug("kerf"), "fleet.kerf.dev/epoch": "1"}
    notes = {"fleet.kerf.dev/workload": f"default/{workload}", "fleet.kerf.dev/model": "NVIDIA H100 80GB HBM3"}
    held = {"node": "a", "grant": a_grant(f"GPU-a-{card}", H100_MIB, 100), "phase": "Running"}
    return a_pod(workload, labels=labels, annotations=notes, containers=[a_container_with(cpu)], **held)


def chat_of(replicas: int, cpu: str = "1") -> dict[str, Any]:
    spec = {"replicas": replicas, "template": {"spec": {"containers": [a_container_with(cpu)]}}}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "FleetWorkload", "metadata": {"name": "chat"}, "spec": spec}


def test_what_a_planned_workload_holds_of_cpu_counts_as_free_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = a_node("a", 1)  # with 96 CPU

    (plan, *_) = plan_of(tmp_path, capsys, [chat_of(1, "60")], [node, bound("chat", 0, "60")])["plans"]

    assert plan["unplaced"] == {}


def test_only_what_the_planned_workloads_hold_themselves_counts_as_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pods, chat = [bound("chat", 0), bound("other", 1)], chat_of(2)

    (plan, *_) = plan_of(tmp_path, capsys, [chat], [a_node("a", 2), *pods])["plans"]

    assert [part["replicas"] for part in plan["assignments"]] == [1]
    assert plan["unplaced"] == {"default/chat": 1}


PRICE = {"model": "A100", "supply": "owned", "perHour": "0.5", "source": "s", "date": "2026-11-01"}


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ([], "no price for NVIDIA A100, NVIDIA H100 80GB HBM3: each card counts as 1, so the plan opens the fewest"),
        ([PRICE], "no price for NVIDIA H100 80GB HBM3: counted as the dearest card"),
    ],
)
def test_models_without_a_price_are_named_with_what_they_count_as(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prices: list[dict[str, Any]], says: str
) -> None:
    listed = {"apiVersion": "kerf.dev/v1alpha1", "kind": "PriceList", "spec": {"currency": "USD", "prices": prices}}
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(listed))
    files = {"h": [a_node("h", 2)], "a": [a_node("a", cards_of("a", 2, model="NVIDIA A100"))]}

    assert simulated(tmp_path, files, "--prices", str(tmp_path / "prices.yaml")) == 0

    assert says in " ".join(capsys.readouterr().out.split())
