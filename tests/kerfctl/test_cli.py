"""The `kerf` command: answers for people and machines, one line for a mistake, never a stack trace."""

import json
from pathlib import Path

import pytest
import yaml

from kerf.testing.builders import a_container, a_grant, a_node, a_pod
from kerfctl.main import main

ROOT = Path(__file__).parents[2]
EXAMPLES = [str(ROOT / "examples" / "nodes" / "one-node.yaml"), str(ROOT / "examples" / "pods")]


def a_file(folder: Path, *objects: dict) -> str:
    path = folder / "state.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return str(path)


def test_simulate_places_the_examples_and_refuses_one_with_numbers(capsys):
    assert main(["simulate", *EXAMPLES, "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert [pod["name"] for pod in answer["pods"]] == [
        "chat",
        "embeddings-a",
        "embeddings-b",
        "trainer",
        "pipeline",
        "llama-tp2",
    ]
    assert [refused["name"] for refused in answer["refused"]] == ["too-large"]
    assert "60,000 MiB" in answer["refused"][0]["reason"]
    # The pipeline's init container is over when its apps start: 2,000 + max(12,000, 6,000 + 9,000) = 17,000.
    assert sum(card["used_mib"] for card in answer["cards"]) == 24_000 + 2 * 8_155 + 81_559 + 17_000 + 2 * 40_000


def test_simulate_prints_tables_for_people(capsys):
    assert main(["simulate", *EXAMPLES]) == 0

    out = capsys.readouterr().out
    assert "default/chat" in out
    assert "default/too-large" in out


@pytest.mark.parametrize("policy", sorted((ROOT / "examples" / "policies").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_policy_can_be_used(policy, capsys):
    assert main(["simulate", *EXAMPLES, "--policy", str(policy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pods"]


def test_simulate_reads_a_dump_of_a_live_cluster(tmp_path, capsys):
    running = a_pod("running", node="node-1", grant=a_grant("GPU-node-1-0", 80_000, 0), phase="Running")
    dump = {"apiVersion": "v1", "kind": "List", "items": [a_node(cards=1), running, a_pod("waits", mem=8000)]}
    path = tmp_path / "dump.json"
    path.write_text(json.dumps(dump))

    assert main(["simulate", str(path), "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert [(p["name"], p["phase"]) for p in answer["pods"]] == [("running", "Running")]
    assert "1,559" in answer["refused"][0]["reason"]  # 81,559 - 80,000


def test_simulate_expands_a_deployment(tmp_path, capsys):
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [a_container(mem=40_000, cores=0)]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 3, "template": template},
    }

    assert main(["simulate", a_file(tmp_path, a_node(cards=1), deployment), "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in answer["pods"]] == ["web-0", "web-1"]
    assert [r["name"] for r in answer["refused"]] == ["web-2"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{not yaml", "not YAML or JSON"),
        ("just text", "where an object is expected"),
        ("kind: Pod", "without metadata"),
        ("kind: Pod\nmetadata: {name: x}\nspec: {containers: []}", "no node"),
    ],
)
def test_a_users_mistake_is_one_line_and_a_non_zero_exit(tmp_path, capsys, content, sentence):
    path = tmp_path / "bad.yaml"
    path.write_text(content)

    assert main(["simulate", str(path)]) == 1

    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_file_that_is_not_there_is_one_line(capsys):
    assert main(["simulate", "/nowhere.yaml"]) == 1
    assert capsys.readouterr().err == "kerf: /nowhere.yaml: No such file or directory\n"


def test_an_unknown_key_in_a_policy_names_the_key(tmp_path, capsys):
    policy = tmp_path / "policy.yaml"
    policy.write_text("apiVersion: kerf.dev/v1alpha1\nkind: SchedulingPolicy\nspec: {node: binpack}\n")

    assert main(["simulate", *EXAMPLES, "--policy", str(policy)]) == 1
    assert "spec.node" in capsys.readouterr().err


def test_explain_says_what_would_let_a_pod_run(tmp_path, capsys):
    held = a_pod("held", node="node-1", grant=a_grant("GPU-node-1-0", 70_000, 0))
    path = a_file(tmp_path, a_node(cards=1), held, a_pod("waits", mem=30_000))

    assert main(["explain", "waits", "--file", path]) == 1

    out = capsys.readouterr().out
    assert "30,000 MiB" in out
    assert "11,559" in out


def test_explain_says_what_a_running_pod_holds(tmp_path, capsys):
    held = a_pod("held", node="node-1", grant=a_grant("GPU-node-1-0", 70_000, 20))

    assert main(["explain", "held", "--file", a_file(tmp_path, a_node(cards=1), held), "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer == {"pod": "default/held", "fits": True, "node": "node-1", "holds": {"GPU-node-1-0": [70_000, 20]}}


def test_repack_plans_the_move_that_makes_room(tmp_path, capsys):
    owner = [{"kind": "ReplicaSet", "name": "rs", "controller": True}]
    small = [
        a_pod(f"small-{i}", node=f"node-{i}", grant=a_grant(f"GPU-node-{i}-0", 30_000, 0), mem=30_000, cores=0)
        for i in (1, 2)
    ]
    for pod in small:
        pod["metadata"]["ownerReferences"] = owner
    big = a_pod("big", containers=[a_container(mem=81_559, cores=0)])
    path = a_file(tmp_path, a_node("node-1", 1), a_node("node-2", 1), *small, big)

    assert main(["repack", "--for", "big", "--file", path, "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert len(answer["moves"]) == 1
    assert [p["pod"] for p in answer["placed"]] == ["default/big"]


@pytest.mark.parametrize("words", [["cluster", "list"], ["fleet", "run"]], ids=" ".join)
def test_a_manager_cluster_that_cannot_be_read_names_its_own_option(capsys, tmp_path, words):
    assert main([*words, "--manager", str(tmp_path / "none.yaml")]) == 1
    assert "pass --manager FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["cluster", "add", "north", "--kubeconfig", "x", "--supply"], ["price", "cards", "--supply"]]
)
def test_a_wrong_choice_is_answered_with_the_words_to_write(words, capsys):
    with pytest.raises(SystemExit):
        main([*words, "leased"])
    assert "(choose from 'owned', 'rented')" in capsys.readouterr().err.replace(
        "from owned, rented", "from 'owned', 'rented'"
    )
