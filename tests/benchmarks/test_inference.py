"""The benchmark of inference in parts: what one call leaves, the next one does, and their runs are pooled."""

import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("KERF_LIBRARY", "libkerf.so")
    monkeypatch.setenv("KERF_BENCH_REQUESTS", "70")
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.syspath_prepend(str(HERE))
    sys.modules.pop("inference", None)
    yield importlib.import_module("inference")
    sys.modules.pop("inference", None)


class FakeLab:
    """Each chat counts ten requests a run; a gemm counts none."""

    def __init__(self, card: str = "GPU-a", broken: Sequence[str] = ()) -> None:
        self.cards, self.broken, self.ran = [card], broken, list[str]()

    def run(self, mix: Any, way: str, _mps: Any = None, seed: int = 0) -> list[dict[str, Any]]:
        self.ran.append(f"{way} {'+'.join(mix.works)} {seed}")
        if way in self.broken:
            raise RuntimeError("a tenant ended before it was ready")
        latencies = [float(seed * 10 + i) for i in range(10)]
        return [{"work": 100, "seconds": 10, "latencies_ms": latencies if w == "chat" else []} for w in mix.works]


def mixes(bench: ModuleType) -> tuple[Any, ...]:
    return (bench.Mix(("chat", "chat", "gemm"), (25, 25, 50), ("bare", "weight", "mps")),)


def test_runs_are_interleaved_and_go_on_until_a_work_has_its_requests(bench: ModuleType, tmp_path: Path):
    lab, book = FakeLab(), bench.Book(tmp_path / "runs")

    assert bench.measure(lab, mixes(bench), None, book) == 0

    assert lab.ran == ["bare chat 0", "bare gemm 0"] + [
        f"{way} chat+chat+gemm {turn}" for turn in range(4) for way in ("bare", "weight")
    ]
    rows = bench.rows_of(mixes(bench), bench.Book(tmp_path / "runs"))
    assert [(row["runs"], row["requests"], row["pooled_p99_ms"]) for row in rows[2:]] == [
        (4, {"chat": 80}, {"chat": 39.0})
    ] * 2


def test_a_call_whose_time_is_over_leaves_the_rest_to_the_next(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, book = FakeLab(), bench.Book(tmp_path / "runs")
    monkeypatch.setattr(bench, "BUDGET", 100.0)
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(bench, "BEGAN", 0.0)
    monkeypatch.setattr(bench, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))  # of no other thread

    left = bench.measure(first, mixes(bench), None, book)
    monkeypatch.setattr(bench, "BUDGET", float("inf"))
    second = FakeLab()

    assert (len(first.ran), left) == (3, 5)
    assert bench.measure(second, mixes(bench), None, bench.Book(tmp_path / "runs")) == 0
    whole = FakeLab()
    bench.measure(whole, mixes(bench), None, bench.Book(tmp_path / "once"))
    assert first.ran + second.ran == whole.ran


def test_a_way_that_fails_is_tried_as_often_as_it_would_run_and_no_more(bench: ModuleType, tmp_path: Path):
    lab = FakeLab(broken=["weight"])

    bench.measure(lab, mixes(bench), None, bench.Book(tmp_path / "runs"))

    assert sum(name.startswith("weight") for name in lab.ran) == bench.RUNS


def test_the_runs_of_several_machines_are_pooled_and_said_to_be_so(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(bench.MIXES, "4", mixes(bench))
    for card in ("a", "b"):
        bench.measure(FakeLab(f"GPU-{card}"), mixes(bench), None, bench.Book(tmp_path / card))

    bench.main("4", "pool", str(tmp_path / "a"), str(tmp_path / "b"))

    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["cards"], summary["one_machine"], summary["left"]) == (["GPU-a", "GPU-b"], False, 0)
    rows = [json.loads(line) for line in (tmp_path / "part4.jsonl").read_text().splitlines()]
    assert rows[-1]["requests"] == {"chat": 160}
