"""`kerf simulate examples/mixed`: pods of three vendors, each in its own words."""

import json
from pathlib import Path
from typing import Any

import pytest

from kerfctl.main import main

MIXED = Path(__file__).parents[2] / "examples" / "mixed"


@pytest.fixture
def found(capsys: pytest.CaptureFixture[str]) -> Any:
    main(["simulate", str(MIXED), "--json"])
    return json.loads(capsys.readouterr().out)


def test_every_pod_shows_its_card_in_mib_and_percent(found: Any):
    placed = {pod["name"]: [(s["card"], s["memory_mib"], s["cores"]) for s in pod["slices"]] for pod in found["pods"]}

    assert placed == {
        "chat": [("GPU-h-0", 24_000, 30)],
        "chat-ascend": [("Ascend910B3-0", 32_768, 50)],
        "embeddings-metax": [("GPU-m-0", 16_384, 25)],
        "rerank-mig": [("GPU-mig-0", 9_984, 12)],
        "either-a": [("GPU-h-1", 75_000, 0)],
        "either-b": [("Ascend910B3-0", 32_768, 50)],
    }


def test_what_a_vendor_cannot_do_says_why(found: Any):
    said = {pod["name"]: pod["reason"] for pod in found["refused"]}

    assert "a card has 65,536 MiB: write at most that" in said["too-large-ascend"]
    metax = "card 0 is used by pods of fixed-share, and a pod of burst-share does not join them"
    assert f"no free place on a card for such a slice: {metax}" in said["rerank-metax"]


def test_a_vendor_of_ones_own_is_read_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    amounts = {"cpu": "8", "memory": "64Gi", "acme.example/npu": "2"}
    node = {"kind": "Node", "metadata": {"name": "n"}, "status": {"capacity": amounts, "allocatable": amounts}}
    (tmp_path / "node.json").write_text(json.dumps(node))
    described = str(MIXED.parent / "vendors")

    main(["--vendors", described, "simulate", str(tmp_path / "node.json"), "--json"])

    cards = json.loads(capsys.readouterr().out)["cards"]
    assert [(card["card"], card["model"], card["memory_mib"]) for card in cards] == [
        ("n-acme-0", "Acme N1", 32_768),
        ("n-acme-1", "Acme N1", 32_768),
    ]
