"""The open rows of issue 11 in one call: each target is judged, and what was not measured is named."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("KERF_LIBRARY", "libkerf.so")
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.syspath_prepend(str(HERE))
    for name in ("inference", "targets"):
        sys.modules.pop(name, None)
    yield importlib.import_module("targets")
    for name in ("inference", "targets"):
        sys.modules.pop(name, None)


def test_each_target_is_passed_or_missed(targets: ModuleType) -> None:
    verdicts = targets.Verdicts()

    verdicts.judge("decode", 0.981, 0.98)
    verdicts.judge("tiny", 0.97, 0.98)
    verdicts.judge("p99", 1.5, 1.5, at_least=False)
    verdicts.judge("chat", None, 0.98)

    assert [one["pass"] for one in verdicts.targets] == [True, False, True, False]
    assert verdicts.summary()["missed"] == ["tiny", "chat"]


def test_a_part_that_does_not_fit_or_fails_is_named(targets: ModuleType) -> None:
    verdicts, ran = targets.Verdicts(), list[str]()

    verdicts.part("long", targets.BUDGET + 1, lambda: ran.append("long"))
    verdicts.part("broken", 1, [].pop)
    verdicts.part("idle", 1, lambda: 1 / 0)
    verdicts.part("short", 1, lambda: ran.append("short"))

    assert ran == ["short"]
    assert verdicts.summary()["not_measured"] == [
        "long: no time",
        "broken: IndexError pop from empty list",
        "idle: ZeroDivisionError division by zero",
    ]


def test_alone_is_judged_by_pairs_of_the_same_turn(targets: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """The machine is twice as fast in one turn as in the other: the pairs do not notice."""
    verdicts = targets.Verdicts()
    bare = [{"rate": rate, "charged": 0.0, "held_ms": 0.0, "latencies_ms": [1.0]} for rate in (100.0, 200.0)]
    capped = [{"rate": rate, "charged": 0.3, "held_ms": 1.0, "latencies_ms": [1.1]} for rate in (99.0, 198.0)]

    targets.judge_alone(verdicts, "decode", "cap", capped, bare)

    assert verdicts.targets == [
        {"name": "decode alone under cap 50, of bare", "value": 0.99, "target": 0.98, "at": "least", "pass": True}
    ]
    assert '"held_ms": 2.0' in capsys.readouterr().out


def test_kernels_from_rest_are_missed_where_one_is_charged_less_than_it_runs(targets: ModuleType) -> None:
    verdicts, short = targets.Verdicts(), {"kernel": 3.4, "seen": 1.0, "least": 2.6}

    targets.judge_rest(verdicts, [short, {"kernel": 5.0, "seen": 0.9, "least": 5.5}])
    targets.judge_rest(verdicts, [{"kernel": 5.0, "seen": 0.9, "least": 5.5}, {"kernel": 10, "seen": 1, "least": 9.9}])
    targets.judge_rest(verdicts, [{"kernel": 5.0, "seen": 0.0, "least": 0.0}])

    assert [(one["value"], one["pass"]) for one in verdicts.targets] == [(1.1, True), (0.99, False)]
    assert verdicts.left == ["from rest: the card read no event in time, so the limiter takes nothing off there"]
