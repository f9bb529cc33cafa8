"""`kerf repack` plans in the scheduler's own world: with its policy's defaults, and within every quota."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kerf.kube import paths
from kerf.kube.errors import Busy
from kerf.testing.builders import H100_MIB, a_card, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerfctl.main import main

OWNER = [{"kind": "ReplicaSet", "name": "rs", "controller": True}]
DEFAULTS = "apiVersion: kerf.dev/v1alpha1\nkind: SchedulingPolicy\nspec: {defaults: {memoryMiB: 30000}}\n"


def a_node_of(name: str, model: str) -> dict[str, Any]:
    return a_node(name, (a_card(id=f"GPU-{name}", model=model, memory_mib=H100_MIB),))


def running(node: str, mib: int, *, namespace: str = "team", **changes: Any) -> dict[str, Any]:
    """A pod of a ReplicaSet that holds so much of its node's only card."""
    grant = a_grant(f"GPU-{node}", mib, 0)
    pod = a_pod(f"on-{node}", namespace=namespace, node=node, grant=grant, **{"mem": mib, "cores": 0, **changes})
    pod["metadata"]["ownerReferences"] = OWNER
    return pod


def a_tenant(**guaranteed: str) -> dict[str, Any]:
    """The quota of namespace `team`, by model."""
    classes = [{"model": model, "guaranteed": amount, "burst": "0 cards"} for model, amount in guaranteed.items()]
    return {
        "apiVersion": "kerf.dev/v1alpha1",
        "kind": "TenantQuota",
        "metadata": {"name": "team"},
        "spec": {"namespaces": ["team"], "classes": classes},
    }


@pytest.fixture
def moves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The moves that repack plans for these objects, each as (pod, from, to)."""

    def plan(*objects: dict[str, Any], words: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
        path = tmp_path / "state.json"
        path.write_text(json.dumps(objects))
        assert main(["repack", "--file", str(path), "--json", *words]) == 0
        found = json.loads(capsys.readouterr().out)["moves"]
        return [(move["pod"], move["from"], move["to"]) for move in found]

    return plan


def test_a_pod_is_moved_with_the_memory_that_the_policys_defaults_give_it(moves: Any, tmp_path: Path) -> None:
    """Its spec names no memory: by the built-in defaults it would need a whole card at its new place."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(DEFAULTS)
    pods = [running(node, 30_000, mem=None) for node in ("a", "b")]

    found = moves(a_node_of("a", "H100"), a_node_of("b", "H100"), *pods, words=("--policy", str(policy)))

    assert found == [("team/on-a", "a", "b")]


BIG = a_pod("big", namespace="other", mem=H100_MIB, cores=0, annotations={"nvidia.com/use-gputype": "H100"})
FOR_BIG = ("--for", "other/big")


@pytest.mark.parametrize(
    ("quota", "planned"),
    [
        ((), [("team/on-a", "a", "b")]),
        ((a_tenant(H100="1 card", A100="1 card"),), [("team/on-a", "a", "b")]),
        ((a_tenant(H100="1 card", A100="0 cards"),), []),
        ((a_tenant(H100="1 card"),), []),
    ],
    ids=["no quota", "room in both classes", "no room in the other class", "the other class is not the tenant's"],
)
def test_no_pod_is_moved_to_a_class_in_which_its_tenant_has_no_room(moves: Any, quota: Any, planned: Any) -> None:
    """A waiting pod needs the whole H100; the tenant's pod on it would fit on the A100."""
    nodes = (a_node_of("a", "H100"), a_node_of("b", "A100"))

    assert moves(*nodes, running("a", 30_000), BIG, *quota, words=FOR_BIG) == planned


def test_a_tenant_at_its_limit_is_moved_within_its_class(moves: Any) -> None:
    """It holds the one card that it may hold; what the move gives back is room for the new place."""
    nodes = (a_node_of("a", "H100"), a_node_of("b", "H100"))
    pods = (running("a", 30_000), running("b", 40_000, namespace="other"))

    assert moves(*nodes, *pods, BIG, a_tenant(H100="1 card"), words=FOR_BIG) == [("team/on-a", "a", "b")]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster in which evicted pods are gone at once. `before(kube)` happens between the plan and its first move."""

    def start(*objects: dict[str, Any], before: Any = None) -> FakeKube:
        kube = FakeKube(*objects)
        lists = count()

        def change(method: str, path: str) -> None:
            if path == paths.NODES and next(lists) == 1 and before is not None:  # the plan has been made
                before(kube)

        def gone(method: str, path: str) -> None:
            if path.endswith("/eviction"):
                kube.remove(path.removesuffix("/eviction"))

        kube.fail, kube.after = change, gone
        monkeypatch.setattr("kerfctl.cluster.connect_to", lambda args: kube)
        return kube

    return start


TWO_NODES = (a_node_of("a", "H100"), a_node_of("b", "A100"))
APPLY = ["repack", "--for", "other/big", "--apply"]
EVICTION = ("POST", paths.eviction("team", "on-a"))


def test_a_plan_is_applied_by_evictions(cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kube = cluster(*TWO_NODES, running("a", 30_000), BIG)

    assert main(APPLY) == 0
    assert kube.writes == [EVICTION]
    assert "1. evicted team/on-a from a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        (lambda kube: kube.put(a_tenant(H100="1 card")), "tenant team has 0 memory_mib of nvidia-a100"),
        (lambda kube: kube.put(running("b", 60_000)), "card GPU-b is over-committed"),
        (lambda kube: kube.remove("/api/v1/namespaces/team/pods/on-a"), "it is no longer on a"),
    ],
    ids=["quota", "place", "pod"],
)
def test_nothing_is_evicted_once_a_move_breaks_a_rule(
    cluster: Any, capsys: pytest.CaptureFixture[str], before: Any, sentence: str
) -> None:
    """Something changes between the plan and its first move."""
    kube = cluster(*TWO_NODES, running("a", 30_000), BIG, before=before)

    assert main(APPLY) == 1
    assert kube.writes == []
    assert "stopped before move 1 of 1, team/on-a: " in (said := capsys.readouterr().err)
    assert sentence in said


def test_a_budget_that_forbids_an_eviction_ends_the_plan(cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kube = cluster(*TWO_NODES, running("a", 30_000), BIG)

    def refuse(method: str, path: str) -> None:
        if method == "POST":
            raise Busy(429, "TooManyRequests", "the disruption budget web needs 2 healthy pods")

    kube.fail = refuse

    assert main(APPLY) == 1
    assert "needs 2 healthy pods" in capsys.readouterr().err
