"""`kerf snapshot`: simulate, explain and repack say of a snapshot what they would say of the cluster."""

import json
from pathlib import Path
from typing import Any

import pytest

from kerf.kube.errors import Forbidden, NotFound
from kerf.testing.builders import a_claim, a_claiming_pod, a_container, a_grant, a_node, a_pod, cards_of
from kerf.testing.fake_kube import FakeKube
from kerf.values.allocator import Allocator
from kerfctl.main import main

TAINT = {"key": "team", "value": "red", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}
TOLERATION = {"key": "team", "operator": "Exists"}
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "small", "uid": "rs", "controller": True}


def zone(*names: str) -> dict[str, Any]:
    rule = {"key": "zone", "operator": "In", "values": list(names)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def a_budget(allowed: int, app: str = "small") -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app, "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 2},
    }


def labelled(node: dict[str, Any], **labels: str) -> dict[str, Any]:
    node["metadata"]["labels"] = labels
    return node


def small(number: int, **meta: Any) -> dict[str, Any]:
    """A pod of a ReplicaSet that holds a part of its node's only card."""
    grant = a_grant(f"GPU-node-{number}-0", 30_000, 0)
    pod = a_pod(f"small-{number}", node=f"node-{number}", grant=grant, mem=30_000, cores=0, labels={"app": "small"})
    pod["metadata"] |= {"ownerReferences": [OWNER], **meta}
    return pod


@pytest.fixture
def snapshot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Writes a cluster's snapshot and gives the file's name."""

    def write(*objects: dict[str, Any]) -> str:
        monkeypatch.setattr("kerfctl.cluster.connect_to", lambda args: FakeKube(*objects))
        path = tmp_path / "now.json"
        assert main(["snapshot", "-o", str(path)]) == 0
        return str(path)

    return write


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    main([*argv, "--json"])
    return json.loads(capsys.readouterr().out)


def test_simulate_heeds_the_taints_and_tolerations_of_a_snapshot(snapshot, capsys):
    node = a_node()
    node["spec"]["taints"] = [TAINT]
    path = snapshot(node, a_pod("stranger"), a_pod("red", spec={"tolerations": [TOLERATION]}))

    found = answer(capsys, "simulate", path)

    assert [pod["name"] for pod in found["pods"]] == ["red"]
    assert [pod["name"] for pod in found["refused"]] == ["stranger"]


def test_simulate_heeds_the_node_affinity_of_a_snapshot(snapshot, capsys):
    nodes = [labelled(a_node(f"node-{z}"), zone=z) for z in ("a", "b")]
    path = snapshot(*nodes, a_pod("there", spec={"affinity": zone("b")}), a_pod("nowhere", spec={"affinity": zone()}))

    found = answer(capsys, "simulate", path)

    assert [(pod["name"], pod["node"]) for pod in found["pods"]] == [("there", "node-b")]
    assert [pod["name"] for pod in found["refused"]] == ["nowhere"]


def test_simulate_heeds_the_resources_of_a_whole_pod(snapshot, capsys):
    path = snapshot(a_node(), a_pod("huge", spec={"resources": {"requests": {"cpu": "200"}}}))

    assert [pod["name"] for pod in answer(capsys, "simulate", path)["refused"]] == ["huge"]


def test_repack_moves_the_pods_of_a_snapshot(snapshot, capsys):
    big = a_pod("big", containers=[a_container(mem=81_559, cores=0)])
    path = snapshot(a_node("node-1", 1), a_node("node-2", 1), small(1), small(2), big)

    assert len(answer(capsys, "repack", "--for", "big", "--file", path)["moves"]) == 1


@pytest.mark.parametrize(
    ("allowed", "moves"),
    [(0, 0), (1, 1)],
    ids=["none_allowed", "one_allowed"],
)
def test_repack_heeds_the_disruption_budgets_of_a_snapshot(snapshot, capsys, allowed, moves):
    big = a_pod("big", containers=[a_container(mem=81_559, cores=0)])
    path = snapshot(a_node("node-1", 1), a_node("node-2", 1), small(1), small(2), big, a_budget(allowed))

    assert len(answer(capsys, "repack", "--for", "big", "--file", path)["moves"]) == moves


def test_repack_leaves_a_pod_of_a_snapshot_that_is_ending_alone(snapshot, capsys):
    big = a_pod("big", containers=[a_container(mem=81_559, cores=0)])
    ending = [small(number, deletionTimestamp="2026-01-01T00:00:00Z") for number in (1, 2)]
    path = snapshot(a_node("node-1", 1), a_node("node-2", 1), *ending, big)

    assert answer(capsys, "repack", "--for", "big", "--file", path)["moves"] == []


def test_a_snapshot_keeps_what_is_read_and_nothing_else(snapshot):
    node = a_node()
    node["spec"] |= {"taints": [TAINT], "podCIDR": "10.0.0.0/24"}
    conditions = [{"type": "Ready", "status": "Unknown", "message": "gone"}, {"type": "DiskPressure", "status": "True"}]
    node["status"] |= {"conditions": conditions, "images": []}
    pod = small(1, managedFields=[])
    pod["spec"]["containers"][0]["env"] = [{"name": "TOKEN", "value": "secret"}]

    text = Path(snapshot(node, pod, a_budget(1))).read_text()

    kept, held, budget = json.loads(text)["items"]
    assert kept["spec"] == {"taints": [TAINT]}
    assert kept["status"]["conditions"] == [{"type": "Ready", "status": "Unknown"}]
    assert held["metadata"]["ownerReferences"] == [{"kind": "ReplicaSet", "controller": True}]
    assert budget == {**a_budget(1), "status": {"disruptionsAllowed": 1}}
    assert "secret" not in text
    assert "managedFields" not in text


def a_waiting_claim() -> dict[str, Any]:
    exactly = {"deviceClassName": "large", "capacity": {"requests": {"memory": "40000Mi"}}}
    devices = {"requests": [{"name": "gpu", "exactly": exactly}], "config": [{"opaque": {"parameters": "secret"}}]}
    claim = a_claim("waits")
    claim["metadata"] |= {"managedFields": [], "labels": {"app": "late"}}
    return {**claim, "spec": {"devices": devices}}


LARGE = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "DeviceClass",
    "metadata": {"name": "large", "uid": "u"},
    "spec": {"selectors": [{"cel": {"expression": "device.allowMultipleAllocations"}}], "config": [{"opaque": {}}]},
}


def test_simulate_places_the_claims_of_a_snapshot_beside_those_that_hold_cards(snapshot, capsys):
    late = a_claiming_pod("late", main=["waits"])
    del late["spec"]["nodeName"]
    cards = a_node("node-1", cards_of("n", 2, allocator=Allocator.DRA, memory_mib=80_000))
    holding = (a_claim("a", ("gpu-n-0", 50_000, 20)), a_claiming_pod("pod-1", main=["a"]))
    path = snapshot(cards, *holding, a_waiting_claim(), LARGE, late)

    found = answer(capsys, "simulate", path)

    assert {pod["name"]: [(s["card"], s["memory_mib"]) for s in pod["slices"]] for pod in found["pods"]} == {
        "pod-1": [("GPU-n-0", 50_000)],
        "late": [("GPU-n-1", 40_000)],
    }
    assert [card["used_mib"] for card in found["cards"]] == [50_000, 40_000]


def test_a_snapshot_keeps_what_claims_ask_for_and_hold(snapshot):
    held, pod = a_claim("a", ("gpu-n-0", 50_000, 20)), a_claiming_pod("pod-1", main=["a"])
    held["status"]["devices"] = [{"driver": "gpu.kerf.dev", "data": "secret"}]

    text = Path(snapshot(a_node(), held, pod, a_waiting_claim(), LARGE)).read_text()

    kept = {item["metadata"]["name"]: item for item in json.loads(text)["items"]}
    assert kept["a"] == a_claim("a", ("gpu-n-0", 50_000, 20))
    assert kept["waits"]["spec"] == {"devices": {"requests": a_waiting_claim()["spec"]["devices"]["requests"]}}
    assert kept["large"] == {**LARGE, "metadata": {"name": "large"}, "spec": {"selectors": LARGE["spec"]["selectors"]}}
    assert "secret" not in text


@pytest.mark.parametrize(
    ("refusal", "status"),
    [(NotFound(404, "NotFound", "no such kind"), 0), (Forbidden(403, "Forbidden", "not for you"), 1)],
    ids=["not_served", "forbidden"],
)
def test_a_snapshot_without_the_budgets_is_none_unless_there_can_be_none(monkeypatch, capsys, refusal, status):
    kube = FakeKube(a_node())

    def fail(method: str, path: str) -> None:
        if path.endswith("poddisruptionbudgets"):
            raise refusal

    kube.fail = fail
    monkeypatch.setattr("kerfctl.cluster.connect_to", lambda args: kube)

    assert main(["snapshot"]) == status
    assert ("PodDisruptionBudgets cannot be read" in capsys.readouterr().err) == bool(status)
