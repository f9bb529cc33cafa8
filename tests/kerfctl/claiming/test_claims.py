"""Claims in `kerf inventory` and `kerf explain`, from files."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_claim, a_claiming_pod, a_mig_card, a_node, cards_of
from kerf.values.allocator import Allocator
from kerfctl.main import main

SHORT = "cards that claims are given have 60,000 MiB and 0 % free, and 1 are needed"
NO_PLACE = "cards that claims are given have a free place for an instance of 61,440 MiB and 0 %, and 1 are needed"
CARDS = cards_of("n", 2, allocator=Allocator.DRA, memory_mib=80_000)


def files(tmp_path: Path, *objects: dict[str, Any]) -> str:
    path = tmp_path / "world.yaml"
    path.write_text(yaml.safe_dump_all([a_node("node-1", CARDS), *objects]))
    return str(path)


def a_waiting_claim(kind: str, **requests: str) -> dict[str, Any]:
    exactly = {"deviceClassName": f"{kind}.gpu.kerf.dev", "capacity": {"requests": requests}}
    spec = {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}
    return {**a_claim("waits"), "spec": spec}


def a_waiting_pod() -> dict[str, Any]:
    pod = a_claiming_pod("late", main=["waits"])
    del pod["spec"]["nodeName"]
    return pod


def test_cards_given_to_claims_are_shown_with_what_claims_hold_of_them(tmp_path, capsys):
    held = a_claim("a", ("gpu-n-0", 30_000, 20), pod="pod-1"), a_claiming_pod("pod-1", main=["a"])
    whole = a_claim("b", ("card-n-1", None, 0), pod="pod-2"), a_claiming_pod("pod-2", main=["b"])

    assert main(["simulate", files(tmp_path, *held, *whole), "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)["cards"]

    assert [(c["allocator"], c["state"], c["used_mib"], c["used_cores"], c["pods"]) for c in cards] == [
        ("dra", "given to claims", 30_000, 20, ["pod-1"]),
        ("dra", "given to claims", 80_000, 100, ["pod-2"]),
    ]
    assert main(["explain", "pod-1", "--file", files(tmp_path, *held)]) == 0
    assert "GPU-n-0: 30,000 MiB, 20 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [
        (
            a_waiting_claim("slice", memory="60000Mi"),
            f"claim waits: request gpu: 0 of 2 {SHORT}; the most that is free of one is 50,000 MiB",
        ),
        (
            a_waiting_claim("slice", memory="1Gi", cores="100"),
            "claim waits: request gpu: no share of a card has all of its cores; use class card.gpu.kerf.dev",
        ),
        (a_waiting_claim("slice", memory="50000Mi"), "claim waits: kube-scheduler can allocate it"),
    ],
)
def test_a_claim_that_waits_is_explained_by_what_is_free(tmp_path, capsys, claim, sentence):
    held = [a_claim(n, (f"gpu-n-{i}", 30_000, 20), pod=n) for i, n in enumerate(("p", "q"))]
    pods = [a_claiming_pod(n, main=[n]) for n in ("p", "q")]

    main(["explain", "late", "--file", files(tmp_path, *held, *pods, claim, a_waiting_pod()), "--json"])

    assert json.loads(capsys.readouterr().out)["sentence"] == sentence


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        ({"memory": "38Gi"}, "kube-scheduler can allocate it"),
        (
            {"memory": "60Gi"},
            f"request gpu: 0 of 1 {NO_PLACE}; the most that is free of one is 40,704 MiB",
        ),
    ],
)
def test_a_claim_for_an_instance_is_explained_by_free_places(tmp_path, capsys, ask, sentence):
    node = a_node("node-1", [a_mig_card(0, id="GPU-m", allocator=Allocator.DRA)])
    held = a_claim("a", ("mig-m-9-4", None, 0), pod="pod-1"), a_claiming_pod("pod-1", main=["a"])
    path = tmp_path / "world.yaml"
    path.write_text(yaml.safe_dump_all([node, *held, a_waiting_claim("mig", **ask), a_waiting_pod()]))

    main(["explain", "late", "--file", str(path), "--json"])

    assert json.loads(capsys.readouterr().out)["sentence"] == f"claim waits: {sentence}"


def test_a_pod_by_extended_resources_finds_no_card_among_those_of_claims(tmp_path, capsys):
    from kerf.testing.builders import a_pod

    assert main(["explain", "old", "--file", files(tmp_path, a_pod("old")), "--json"]) == 1
    assert "handed out by claims (DRA)" in json.loads(capsys.readouterr().out)["sentence"]


def test_a_claim_that_waits_for_a_guarantee_names_who_holds_it_and_that_nobody_is_evicted(tmp_path, capsys):
    def tenant(namespace: str, guaranteed: Any) -> dict[str, Any]:
        classes = [{"model": "H100", "guaranteed": guaranteed}]
        spec = {"namespaces": [namespace], "claims": "allow", "classes": classes}
        meta = {"name": f"of-{namespace}"}
        return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": meta, "spec": spec}

    held = [a_claim(n, (f"gpu-n-{i}", 70_000, 20), pod=n) for i, n in enumerate(("p", "q"))]
    pods = [a_claiming_pod(n, main=[n]) for n in ("p", "q")]
    for each in (*held, *pods):
        each["metadata"]["namespace"] = "other"
    tenants = [tenant("default", "1 card"), tenant("other", "0 cards")]
    claim = a_waiting_claim("slice", memory="60000Mi")

    assert main(["explain", "late", "--file", files(tmp_path, *tenants, *held, *pods, claim, a_waiting_pod())]) == 1

    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line == (
        "  tenant of-default holds less than it is guaranteed, and tenant of-other more. Kerf evicts nobody for a "
        "claim: end pods of theirs, or ask by extended resources (nvidia.com/gpumem)"
    )
