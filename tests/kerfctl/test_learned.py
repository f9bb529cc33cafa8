"""`kerf model learned`, and the verbs that size a model by what was learned."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.values.learned import Learned, Lesson, Setup
from kerf.wire.learned import config_map
from kerfctl.main import main

SETUP = Setup("qwen3-8b", "vllm", "0.33", "NVIDIA H100 80GB HBM3", concurrency=4, batched_tokens=2048)
LESSON = Lesson(
    SETUP, 8192, beside_mib=1100, kv_percent=30, peak_mib=21_400, slice_mib=21_846, pod="a/b", pods=2, hours=80.0
)
ASK = ("qwen3-8b", "--max-len", "8192", "--concurrency", "4")


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "learned.yaml"
    other = replace(LESSON, setup=replace(SETUP, model="phi-4"), refused_mib=5, failed_mib=9)
    path.write_text(yaml.safe_dump(config_map(Learned((LESSON, other)), "kerf-system")))
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    assert main(args) == 0
    return json.loads(capsys.readouterr().out)


def test_an_estimate_is_corrected_and_says_by_what(capsys: pytest.CaptureFixture[str], saved: str) -> None:
    plain = answer(capsys, "model", "estimate", *ASK, "--card", "H100", "--json")
    found = answer(capsys, "model", "estimate", *ASK, "--card", "H100", "--json", "--learned-from", saved)

    assert found["slice_mib"] < plain["slice_mib"]
    assert (found["learned"]["need_mib"], found["learned"]["pod"]) == (1228, "a/b")
    assert "learned" not in plain


def test_the_table_shows_the_lesson_and_a_hint_about_the_cache(capsys: pytest.CaptureFixture[str], saved: str) -> None:
    assert main(("model", "estimate", *ASK, "--card", "H100", "--learned-from", saved)) == 0

    text = capsys.readouterr().out
    assert "learned: all else" in text
    assert "--concurrency 2 would have held them" in text


def test_render_and_fit_use_the_same_figure(capsys: pytest.CaptureFixture[str], saved: str) -> None:
    slice_mib = answer(capsys, "model", "estimate", *ASK, "--card", "H100", "--json", "--learned-from", saved)[
        "slice_mib"
    ]

    assert main(("model", "render", *ASK, "--card", "H100", "--learned-from", saved)) == 0
    pod = yaml.safe_load(capsys.readouterr().out)["spec"]["template"]
    fleet = Path(saved).with_name("fleet.yaml")
    fleet.write_text("cards: [{model: NVIDIA H100 80GB HBM3, memory_mib: 81559, count: 1}]")
    fit = answer(capsys, "model", "fit", *ASK, "--fleet", str(fleet), "--json", "--learned-from", saved)

    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpumem"] == fit["offers"][0]["slice_mib"] == slice_mib
    assert pod["metadata"]["annotations"]["kerf.dev/serves"] == "qwen3-8b"


def test_lessons_are_listed_and_a_model_without_any_exits_1(capsys: pytest.CaptureFixture[str], saved: str) -> None:
    assert main(("model", "learned", "--learned-from", saved)) == 0
    assert "refused" in capsys.readouterr().out
    assert [
        one["setup"]["model"] for one in answer(capsys, "model", "learned", "phi-4", "--json", "--learned-from", saved)
    ]
    assert main(("model", "learned", "qwen3-32b", "--learned-from", saved)) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("estimate", *ASK), "name it by --card"),
        (("learned", "--forget"), "--forget: name one MODEL"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    args: tuple[str, ...], message: str, saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("model", *args, "--learned-from", saved)) == 1

    assert message in " ".join(capsys.readouterr().err.split())
