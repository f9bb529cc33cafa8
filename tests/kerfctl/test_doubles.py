"""What a cluster has once is refused where files have it twice; what a node of no file holds is named."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_card, a_claim, a_grant, a_node, a_pod
from kerfctl.main import main

GRANT = a_grant("GPU-a-0", 8_000, 0)


def node(name: str, card: str = "") -> dict[str, Any]:
    return a_node(name, (a_card(id=card or f"GPU-{name}-0"),))


def running(name: str = "chat", on: str = "a", **meta: Any) -> dict[str, Any]:
    pod = a_pod(name, node=on, grant=GRANT, mem=8_000, cores=0)
    pod["metadata"] |= meta
    return pod


def waiting(name: str = "new") -> dict[str, Any]:
    pod = a_pod(name, mem=8_000, cores=0)
    return {**pod, "metadata": {"name": name, "namespace": "default"}, "status": {}}


FOLDER = "clusters/north"
"""A folder for each cluster, of those that `--clusters clusters` reads."""
X, Y = f"{FOLDER}/x.yaml", f"{FOLDER}/y.yaml"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes x.yaml, y.yaml, … into FOLDER, and wanted.yaml beside it."""
    monkeypatch.chdir(tmp_path)

    def write(*files: Sequence[dict[str, Any]]) -> None:
        Path(FOLDER).mkdir(parents=True)
        for name, objects in zip("xyz", files, strict=False):
            Path(FOLDER, f"{name}.yaml").write_text(yaml.safe_dump_all(objects))
        Path("wanted.yaml").write_text(yaml.safe_dump(waiting()))

    return write


CASES = {
    "a card": (
        [[node("a", "GPU-1"), node("b", "GPU-1")]],
        "card GPU-1 is on two nodes, a and b: leave out the node that is gone, or give the card the id that it",
    ),
    "a node": (
        [[node("a")], [node("a")]],
        f"node a is in {X} and again in {Y}: leave one out, or give it its own name",
    ),
    "a node of one file": ([[node("a"), node("a")]], f"node a is twice in {X}: leave one out"),
    "a name of a pod": (
        [[node("a"), running(uid="1")], [running(uid="2")]],
        f"pod default/chat is in {X} and again in {Y}: leave one out",
    ),
    "a uid of a pod": (
        [[node("a"), running("one", uid="1"), running("two", uid="1")]],
        f"a pod with the uid 1 is twice in {X}: leave out one of them (this one is default/two), or its uid",
    ),
    "an allocated claim": (
        [[node("a"), a_claim("c", ("a", None, 0)), a_claim("c", ("b", None, 0))]],
        f"claim default/c with an allocation is twice in {X}: leave one out",
    ),
}


VERBS = {
    "simulate": ["simulate", FOLDER],
    "simulate --clusters": ["simulate", "wanted.yaml", "--clusters", "clusters"],
    "repack": ["repack", "--file", FOLDER],
    "explain": ["explain", "chat", "--file", FOLDER],
}


@pytest.mark.parametrize(("objects", "said"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("argv", VERBS.values(), ids=VERBS)
def test_what_a_cluster_has_once_is_refused_where_files_have_it_twice(files, capsys, argv, objects, said):
    files(*objects)

    assert main(argv) == 1
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_two_clusters_of_one_name_in_a_file_are_refused(files, capsys):
    spec = {"apiVersion": "kerf.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "north"}}
    files([{**spec, "spec": {"region": "eu"}}, {**spec, "spec": {"region": "us"}}, node("a")])

    assert main(VERBS["simulate --clusters"]) == 1
    assert "clusters/north: 2 Clusters are called north: leave all but one out" in capsys.readouterr().err


def test_new_pods_of_one_name_are_wishes_of_their_own(files, capsys):
    files([node("a"), running("new"), waiting()], [waiting()])

    assert main(["simulate", FOLDER, "--json"]) == 0
    assert [pod["phase"] for pod in json.loads(capsys.readouterr().out)["pods"]] == ["Running", "Placed", "Placed"]


def test_a_pod_that_holds_cards_of_a_node_that_is_not_there_is_named(files, capsys):
    files([node("a"), running(on="gone"), a_pod("web", node="elsewhere", containers=[{"name": "main", "image": "i"}])])
    said = (
        "pod default/chat holds cards of node gone, which is not among the files: add the node, correct "
        "spec.nodeName, or leave the pod out"
    )

    assert main(["simulate", FOLDER, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["left_out"] == [said]
    assert main([*VERBS["simulate --clusters"], "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["leftOut"] == [f"north: {said}"]
    main(["repack", "--file", FOLDER])
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_kerfs_own_records_in_a_clusters_files_are_no_workloads_that_were_left_out(files, capsys):
    kinds = ("Cluster", "FleetPlaces", "GatewayUsage", "TenantUsage")
    records = [{"apiVersion": "kerf.dev/v1alpha1", "kind": kind, "metadata": {"name": "north"}} for kind in kinds]
    files([node("a"), *records])

    assert main(["simulate", FOLDER, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == []
    assert main([*VERBS["simulate --clusters"], "--json"]) == 0
