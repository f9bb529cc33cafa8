"""Tenant quota with the real Kueue: one number everywhere, borrowing, lost cards, only what a card can hold."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_container
from kerf.values.quota import Amount
from kerf.wire.kueue import ROOT
from sandbox import ControlPlane, Kueue, await_until
from sandbox.crds import install_crds
from sandbox.stack import start_stack, stop_stack
from tests.cluster.gpu_pods import a_fake_node, a_gpu_pod, overcommitted_in, seconds_until
from tests.cluster.quota_world import (
    CARDS,
    CORES,
    MIB,
    PATH,
    SLUG,
    WHOLE,
    Json,
    a_tenant,
    add,
    await_books,
    await_runs,
    nominal,
    put_tenants,
    remove,
    runs,
    set_health,
    workload_of_pod,
)

pytestmark = pytest.mark.cluster
POLICY = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "SchedulingPolicy",
    "spec": {"quota": {"engine": "kueue", "shrinkAfterSeconds": 1}},
}
NODES = ("gpu-1", "gpu-2")  # two cards of 81,559 MiB each


@pytest.fixture(scope="module")
def installed(
    control_plane: ControlPlane, kueue: Kueue, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """Kueue, Kerf's daemons, the CRD, and two nodes."""
    policy: Path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    install_crds(control_plane)
    control_plane.add_fake_nodes([a_fake_node(name) for name in NODES])
    start_stack(control_plane, policy=policy)
    yield control_plane
    stop_stack(control_plane)


@pytest.fixture
def cp(installed: ControlPlane) -> Iterator[ControlPlane]:
    yield installed
    for name in NODES:
        set_health(installed, name, True, True)
    for namespace in ("team-a", "team-b"):
        remove(installed, namespace)


def condition(workload: Json, kind: str) -> Json:
    found = [each for each in workload.get("status", {}).get("conditions", ()) if each["type"] == kind]
    return found[0] if found else {}


SHAPES: list[tuple[str, list[Json], list[Json], Amount]] = [
    # 2 cards of 4,096 MiB and 30 %
    ("two cards", [a_container(gpu=2, mem=4096, cores=30)], [], Amount(8192, 60, 2)),
    # 1 x 1,000 + 1 x 3,000, which multiplyBy would charge as 8,000
    (
        "two containers",
        [a_container("a", mem=1000, cores=0), a_container("b", mem=3000, cores=0)],
        [],
        Amount(4000, 0, 2),
    ),
    # max(init 1 x 8,000, main 2 x 1,000) MiB; max(1, 2) cards
    ("init", [a_container(gpu=2, mem=1000, cores=0)], [a_container("i", mem=8000, cores=0)], Amount(8000, 0, 2)),
    # sidecar 500 runs beside the init container after it: 500 + 8,000
    (
        "sidecar",
        [a_container(gpu=2, mem=1000, cores=0)],
        [a_container("s", mem=500, cores=5, restartPolicy="Always"), a_container("i", mem=8000, cores=0)],
        Amount(8500, 5, 3),
    ),
    # gpu: 1 and nothing else is a whole card with all of its cores
    ("whole card", [a_container(mem=None, cores=None)], [], Amount(WHOLE, 100, 1)),
    # half of 81,559, rounded down
    (
        "percentage",
        [
            {
                "name": "main",
                "image": "app",
                "resources": {"limits": {"nvidia.com/gpu": "1", "nvidia.com/gpumem-percentage": "50"}},
            }
        ],
        [],
        Amount(40_779, 0, 1),
    ),
    # gpumem without gpu is one card
    ("memory alone", [a_container(gpu=0, mem=4096, cores=None)], [], Amount(4096, 0, 1)),
    # "4k" is 4,000, whichever way the API server writes it
    ("thousands", [a_container(mem="4k", cores=10)], [], Amount(4000, 10, 1)),
]


@pytest.mark.parametrize(("shape", "containers", "init", "truth"), SHAPES, ids=[shape[0] for shape in SHAPES])
def test_kueues_books_kerfs_ledger_and_the_truth_are_one_number(
    cp: ControlPlane, shape: str, containers: list[Json], init: list[Json], truth: Amount
) -> None:
    put_tenants(cp, a_tenant("team-a", "4 cards"))

    add(cp, "team-a", a_gpu_pod("shape", containers=containers, initContainers=init))
    await_runs(cp, "team-a", "shape")

    await_books(cp, "team-a", truth)


def test_a_jobs_template_is_counted_before_any_pod_is_there(cp: ControlPlane) -> None:
    put_tenants(cp, a_tenant("team-a", "4 cards"))
    template = {"spec": {"restartPolicy": "Never", "containers": [a_container(mem=None, cores=None)]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "whole", "namespace": "team-a"},
        "spec": {"parallelism": 2, "completions": 2, "template": template},
    }

    cp.api.post("/apis/batch/v1/namespaces/team-a/jobs", job)
    await_until(lambda: bool(workload_of_pod(cp, "team-a", "whole").get("status", {}).get("admission")), "admission")

    (assignment,) = workload_of_pod(cp, "team-a", "whole")["status"]["admission"]["podSetAssignments"]
    assert assignment["resourceUsage"] == {MIB: str(2 * WHOLE), CORES: "200", CARDS: "2"}
    assert set(assignment["flavors"].values()) == {SLUG}
    cp.api.delete("/apis/batch/v1/namespaces/team-a/jobs/whole")


def test_guarantees_hold_idle_quota_is_borrowed_and_reclaim_gives_it_back(cp: ControlPlane) -> None:
    put_tenants(cp, a_tenant("team-a", "2 cards"), a_tenant("team-b", "2 cards"))
    borrowers = [f"a-{i}" for i in range(4)]

    add(cp, "team-a", *(a_gpu_pod(name, mem=WHOLE, cores=100) for name in borrowers))
    await_runs(cp, "team-a", *borrowers)  # two of its own, two of team-b's
    await_books(cp, "team-a", Amount(4 * WHOLE, 400, 4))

    add(cp, "team-b", *(a_gpu_pod(f"b-{i}", mem=WHOLE, cores=100) for i in range(2)))
    await_runs(cp, "team-b", "b-0", "b-1")

    assert sum(runs(cp, "team-a", name) for name in borrowers) == 2
    assert overcommitted_in(cp, "team-a", "team-b") == []


def test_a_third_pod_waits_with_kueues_reason_and_runs_within_three_seconds_of_room(cp: ControlPlane) -> None:
    put_tenants(cp, a_tenant("team-a", "2 cards", burst="0 cards"))
    add(cp, "team-a", *(a_gpu_pod(f"p-{i}", mem=WHOLE, cores=100) for i in range(2)))
    await_runs(cp, "team-a", "p-0", "p-1")

    add(cp, "team-a", a_gpu_pod("third", mem=WHOLE, cores=100))

    def reason() -> str:
        return str(condition(workload_of_pod(cp, "team-a", "third"), "QuotaReserved").get("message", ""))

    await_until(lambda: "insufficient" in reason(), "Kueue's reason")
    status = cp.api.get(f"{PATH}/team-a")["status"]
    await_until(
        lambda: any("insufficient" in text for text in cp.api.get(f"{PATH}/team-a")["status"]["waiting"]),
        "it on the tenant",
    )
    assert status["conditions"][0]["status"] == "True"
    cp.api.delete("/api/v1/namespaces/team-a/pods/p-0", 0)
    assert seconds_until(lambda: runs(cp, "team-a", "third"), "the third to run") < 3


@pytest.mark.parametrize("over", ["keep", "evict"])
def test_when_a_card_dies_the_cohort_shrinks_first_and_the_newest_borrower_leaves_where_its_file_says_so(
    cp: ControlPlane, over: str
) -> None:
    put_tenants(cp, a_tenant("team-a", "1 card", whenOver=over), a_tenant("team-b", "1 card", whenOver=over))
    await_until(lambda: nominal(cp, "cohorts", "kerf") == (2 * WHOLE, 200, 20), "the cohort to be whole")
    add(cp, "team-b", a_gpu_pod("b", mem=WHOLE, cores=100))
    await_runs(cp, "team-b", "b")
    for name in ("old", "mid", "new"):  # one guaranteed, two borrowed
        add(cp, "team-a", a_gpu_pod(name, mem=WHOLE, cores=100))
        await_runs(cp, "team-a", name)
        time.sleep(1.1)  # Kueue's times have whole seconds, so the ages must differ by seconds

    set_health(cp, "gpu-1", False, True)
    await_until(lambda: nominal(cp, "cohorts", "kerf") == (WHOLE, 100, 10), "the cohort to shrink")
    assert nominal(cp, "clusterqueues", "team-a") == nominal(cp, "clusterqueues", "team-b") == (WHOLE, 100, 10)
    if over == "keep":
        assert all(runs(cp, "team-a", name) for name in ("old", "mid", "new"))
        return
    await_until(lambda: not runs(cp, "team-a", "new"), "the newest borrower to leave")
    assert runs(cp, "team-a", "old")
    assert runs(cp, "team-a", "mid")
    assert runs(cp, "team-b", "b")

    set_health(cp, "gpu-1", True, True)
    took = seconds_until(lambda: nominal(cp, "cohorts", "kerf") == (2 * WHOLE, 200, 20), "the quota to grow")
    assert took < 3


def test_promises_beyond_the_cards_shrink_and_the_tenant_learns_it(cp: ControlPlane) -> None:
    put_tenants(cp, a_tenant("team-a", "4 cards"), a_tenant("team-b", "4 cards"))

    for team in ("team-a", "team-b"):  # 4 cards for 8 promised
        await_until(lambda team=team: nominal(cp, "clusterqueues", team) == (2 * WHOLE, 200, 20), f"{team}'s half")

    def overcommitted() -> Any:
        return {c["type"]: c for c in cp.api.get(f"{PATH}/team-a").get("status", {}).get("conditions", ())}.get(
            "Overcommitted", {}
        )

    await_until(lambda: overcommitted().get("status") == "True", "the condition Overcommitted")
    assert "promised 326,236 MiB" in overcommitted()["message"]


def test_memory_that_no_single_card_has_is_sent_back_with_that_explanation_until_a_pod_leaves(cp: ControlPlane) -> None:
    put_tenants(cp, a_tenant("team-a", "4 cards"))
    holders = [f"half-{i}" for i in range(4)]
    add(cp, "team-a", *(a_gpu_pod(name, mem=50_000, cores=60) for name in holders))  # one a card: 31,559 left on each
    await_runs(cp, "team-a", *holders)

    add(cp, "team-a", a_gpu_pod("large", mem=60_000, cores=10))  # 126,236 MiB are free in all

    def answers() -> list[str]:
        workload = workload_of_pod(cp, "team-a", "large")
        texts = [check.get("message", "") for check in workload.get("status", {}).get("admissionChecks", ())]
        return [*texts, str(condition(workload, "Evicted").get("message", ""))]

    await_until(lambda: any("31,559" in text for text in answers()), f"the scheduler's explanation, {answers()}")
    assert not runs(cp, "team-a", "large")
    cp.api.delete("/api/v1/namespaces/team-a/pods/half-0", 0)
    await_runs(cp, "team-a", "large")


def test_two_admitted_workloads_never_count_the_same_hole(cp: ControlPlane) -> None:
    put_tenants(cp, a_tenant("team-a", "4 cards"), a_tenant("team-b", "4 cards", weight=2))

    for i in range(4):  # each needs most of a card: four of eight can run
        for team in ("team-a", "team-b"):
            add(cp, team, a_gpu_pod(f"p-{i}", mem=60_000, cores=10))

    def running() -> int:
        return sum(runs(cp, team, f"p-{i}") for team in ("team-a", "team-b") for i in range(4))

    await_until(lambda: running() == 4, "four of eight to run")
    admitted = [
        w
        for team in ("team-a", "team-b")
        for w in cp.api.get(f"{ROOT}/namespaces/{team}/workloads")["items"]
        if condition(w, "Admitted").get("status") == "True"
    ]
    assert len(admitted) == 4
    assert overcommitted_in(cp, "team-a", "team-b") == []


def test_kueue_killed_while_quota_changes_ends_in_the_right_state(cp: ControlPlane) -> None:
    put_tenants(cp, a_tenant("team-a", "1 card"))
    stop = threading.Event()

    def change() -> None:
        for i in range(40):
            if stop.wait(0.1):
                return
            cp.api.apply(f"{PATH}/team-a", a_tenant("team-a", f"{1 + i % 3} cards"))
        cp.api.apply(f"{PATH}/team-a", a_tenant("team-a", "3 cards"))

    changing = threading.Thread(target=change)
    changing.start()
    cp.kill("kueue")
    time.sleep(1.0)  # Kueue's webhooks refuse every write meanwhile
    cp.restart("kueue")
    changing.join(60)
    stop.set()

    await_until(lambda: nominal(cp, "clusterqueues", "team-a") == (3 * WHOLE, 300, 30), "the last word to stand")
    assert nominal(cp, "cohorts", "kerf") == (WHOLE, 100, 10)
