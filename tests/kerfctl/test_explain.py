"""`kerf explain`: of the nodes on which a pod may run, which have room, and what they lack."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_card, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.health import Health, State
from kerfctl.main import main

TAINT = {"key": "team", "value": "red", "effect": "NoSchedule"}


def a_world() -> list[dict[str, Any]]:
    """A full node that is labelled `pool: red`, and two empty ones of which one is tainted."""
    nodes = [a_node(name, 1) for name in ("full", "free", "tainted")]
    nodes[0]["metadata"]["labels"] = {"pool": "red"}
    nodes[2]["spec"]["taints"] = [TAINT]
    return [*nodes, a_pod("held", node="full", grant=a_grant("GPU-full-0", 80_000, 0))]


@pytest.fixture(params=["file", "cluster"])
def explain(request: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> Any:
    """Explains the pod `waits`, from a file and from a live cluster."""

    def run(spec: dict[str, Any], *, as_json: bool = True) -> Any:
        objects = [*a_world(), a_pod("waits", spec=spec)]
        monkeypatch.setattr("kerfctl.cluster.connect_to", lambda args: FakeKube(*objects))
        path = tmp_path / "state.yaml"
        path.write_text(yaml.safe_dump_all(objects))
        where = ["--file", str(path)] if request.param == "file" else []
        main(["explain", "waits", *where, *(["--json"] if as_json else [])])
        out = capsys.readouterr().out
        return json.loads(out) if as_json else out

    return run


def test_a_pod_that_holds_cards_without_a_grant_is_named_with_them(tmp_path: Path, capsys: Any) -> None:
    """It started under another device plugin, which knows which cards they are."""
    native = a_pod("trainer", namespace="ml", node="free", phase="Running", gpu=4, mem=None, cores=None)
    path = tmp_path / "state.yaml"
    path.write_text(yaml.safe_dump_all([*a_world(), native]))

    assert main(["explain", "ml/trainer", "--file", str(path)]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "ml/trainer is on free and holds",
        "  4 cards without a grant of Kerf's: free takes no slices until it ends",
    ]


def test_simulate_names_it_too_where_no_pod_waits(tmp_path: Path, capsys: Any) -> None:
    native = a_pod("trainer", namespace="ml", node="free", phase="Running", gpu=4, mem=None, cores=None)
    path = tmp_path / "state.yaml"
    path.write_text(yaml.safe_dump_all([*a_world(), native]))

    assert main(["simulate", str(path)]) == 0
    said = "! free takes no slices: pod ml/trainer holds 4 of its cards without a grant of Kerf's"
    assert said in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("verb", ["explain", "simulate"])
def test_a_waiting_pod_that_is_being_deleted_says_so(verb: str, tmp_path: Path, capsys: Any) -> None:
    pod = a_pod("waits")
    pod["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/keep"]}
    path = tmp_path / "state.yaml"
    path.write_text(yaml.safe_dump_all([*a_world(), pod]))

    main(["explain", "waits", "--file", str(path)] if verb == "explain" else ["simulate", str(path)])

    assert "it is being deleted: no scheduler binds it any more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "nodes"),
    [
        ({}, ["free"]),
        ({"tolerations": [{"operator": "Exists"}]}, ["free", "tainted"]),
    ],
    ids=["plain", "tolerant"],
)
def test_it_names_the_nodes_that_the_pod_may_use(explain, spec, nodes):
    assert explain(spec) == {"pod": "default/waits", "fits": True, "nodes": nodes, "count": len(nodes)}


def test_a_pod_whose_nodes_are_full_does_not_fit_because_others_are_empty(explain):
    found = explain({"nodeSelector": {"pool": "red"}})

    assert not found["fits"]
    assert found["nearest"] == "full"
    assert "1,559" in found["sentence"]  # 81,559 - 80,000
    assert found["reasons"] == {"memory": 1, "not_eligible": 2}


def test_a_pod_that_may_run_nowhere_hears_so(explain):
    assert explain({"nodeSelector": {"pool": "blue"}}, as_json=False) == (
        "default/waits cannot run: no node has what its node selector, node affinity and tolerations demand\n"
        "  3 nodes: not eligible\n"
    )


@pytest.mark.parametrize(
    ("spec", "labels", "said"),
    [
        ({}, {}, "the express lane may bind it"),
        ({"hostNetwork": True, "hostUsers": False}, {}, "the express lane leaves it to kube-scheduler: spec.hostUsers"),
        ({}, {"app": "web"}, "leaves it to kube-scheduler: spec.affinity of another pod looks at it"),
    ],
)
def test_with_the_express_lane_a_waiting_pod_hears_whether_the_lane_may_bind_it(
    spec: dict[str, Any], labels: dict[str, str], said: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    rule = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}
    near = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [rule]}}
    objects = [*a_world(), a_pod("lonely", spec={"affinity": near}), a_pod("waits", spec=spec, labels=labels)]
    monkeypatch.setattr("kerfctl.cluster.connect_to", lambda args: FakeKube(*objects))
    policy = tmp_path / "policy.yaml"
    policy.write_text("{apiVersion: kerf.dev/v1alpha1, kind: SchedulingPolicy, spec: {express: true}}")

    main(["explain", "waits", "--policy", str(policy)])
    assert said in capsys.readouterr().out
    main(["explain", "waits"])
    assert "express" not in capsys.readouterr().out


def test_a_pod_on_a_failed_card_is_shown_with_the_fault(tmp_path, capsys):
    failed = Health(State.CORDONED, "XID 79 (GPU has fallen off the bus)", 1, 79, moves=True)
    objects = [a_node("n", (a_card(health=failed),)), a_pod("held", node="n", grant=a_grant("GPU-0", 8_000, 30))]
    path = tmp_path / "state.yaml"
    path.write_text(yaml.safe_dump_all(objects))

    main(["explain", "held", "--file", str(path)])

    assert capsys.readouterr().out.splitlines() == [
        "default/held is on n and holds",
        "  GPU-0: 8,000 MiB, 30 %, cordoned: XID 79 (GPU has fallen off the bus); its pods have to move",
    ]
