"""The open rows of issue 11 in one call of at most ten minutes, by `run.sh 8`. One card; two for the pairs.

1. decode, tiny and chat alone under a cap of 50 that they do not need, beside bare and, with KERF_BENCH_BEFORE, an
   older libkerf.so. The programs of all ways are there at once and work in turns of a few seconds, so many pairs of
   runs fit, each made within seconds. `charged` is the part of the time that the limiter charged, `held_ms` how long it
   held launches back.
2. What a short kernel costs by events when it is launched on an idle card, and what the limiter makes of that, beside
   the truth (from_rest.c). Where it charges less than the truth, a cap would be broken.
3. chat beside gemm under `weight`, with the time in which a request was served (`served_ms`) beside its latency.
4. Two tensor-parallel pairs in mode `mps`, plain and as Kerf sets it up.

Each row is a JSON line. The last line is {"targets": [{"name", "value", "target", "at", "pass"}], "missed": [...],
"not_measured": [...]}. Environment: KERF_BENCH_BUDGET (570): a part that would end later is left out; KERF_BENCH_SCALE
(1) multiplies all times.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import inference
from inference import BEFORE, Json, Lab, Mix, Mps, percentile, uuids

from kerf.wire.limiter import parse_ledger

BUDGET, SCALE = float(os.environ.get("KERF_BENCH_BUDGET", "570")), float(os.environ.get("KERF_BENCH_SCALE", "1"))
BEGAN, START_S = time.monotonic(), 14.0
"""What programs take to start, at most, for the budget."""
ALONE = {"decode": (4.0, 8), "tiny": (3.0, 4), "chat": (10.0, 2)}
"""Seconds of a turn, and turns."""


def say(row: Json) -> Json:
    print(json.dumps(row), flush=True)
    return row


class Verdicts:
    """What was aimed at and what came out."""

    def __init__(self) -> None:
        self.targets: list[Json] = []
        self.left: list[str] = []

    def judge(self, name: str, value: float | None, target: float, *, at_least: bool = True) -> None:
        passed = value is not None and (value >= target if at_least else value <= target)
        at = "least" if at_least else "most"
        rounded = None if value is None else round(value, 4)
        self.targets.append({"name": name, "value": rounded, "target": target, "at": at, "pass": passed})

    def part(self, name: str, seconds: float, measure: Callable[[], None]) -> None:
        """Measure a part if it fits into what is left of the time; a part that fails is not measured, and says why."""
        if time.monotonic() - BEGAN + seconds > BUDGET:
            self.left.append(f"{name}: no time")
            return
        try:
            measure()
        except (
            RuntimeError,
            OSError,
            LookupError,
            ValueError,
            ArithmeticError,
            AssertionError,
            subprocess.SubprocessError,
        ) as error:
            self.left.append(f"{name}: {type(error).__name__} {error}"[:300])

    def summary(self) -> Json:
        missed = [one["name"] for one in self.targets if not one["pass"]]
        return {"part": 8, "targets": self.targets, "missed": missed, "not_measured": self.left}


class Resident:
    """A program that waits for its turns."""

    def __init__(self, lab: Lab, work: str, way: str, seconds: float, turns: int) -> None:
        (self.more,) = lab.environments(Mix((work,), (50,), (way,)), way, None)
        self.process = lab.start(work, self.more, seconds, 1, turns)
        self.seconds, self.spent = seconds, (0.0, 0.0)

    def line(self) -> Json:
        assert self.process.stdout
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError("a program ended before its turn")
        return dict(json.loads(text))

    def ledger(self) -> tuple[float, float]:
        """Seconds of GPU time charged, and seconds held back, since the start."""
        if "KERF_LEDGER" not in self.more:
            return 0.0, 0.0
        card = parse_ledger(Path(self.more["KERF_LEDGER"]).read_bytes()).cards[0]
        return card.busy_ns / 1e9, card.throttled_ns / 1e9

    def turn(self) -> Json:
        assert self.process.stdin
        ready, before = self.line(), self.ledger()
        assert ready == {"ready": 1}, ready
        self.process.stdin.write(f"{time.monotonic() + 0.2:.6f}\n")
        self.process.stdin.flush()
        result, after = self.line(), self.ledger()
        charged, held = ((new - old) / self.seconds for new, old in zip(after, before, strict=True))
        return {**result, "rate": result["work"] / result["seconds"], "charged": charged, "held_ms": held * 1e3}


def alone(lab: Lab, verdicts: Verdicts, work: str) -> None:
    """A work bare, under the cap, and with the older library: its rate beside the bare one of the same turn."""
    seconds, turns = ALONE[work][0] * SCALE, ALONE[work][1]
    ways = ["bare", "cap", *(["cap, before"] if BEFORE else [])]
    programs: dict[str, Resident] = {}
    runs: dict[str, list[Json]] = {way: [] for way in ways}
    try:
        for way in ways:
            programs[way] = Resident(lab, work, way, seconds, turns)
        for turn in range(turns):
            for way in ways if turn % 2 else reversed(ways):
                runs[way].append(programs[way].turn())
    finally:
        for program in programs.values():
            program.process.kill()
    for way in ways:
        judge_alone(verdicts, work, way, runs[way], runs["bare"])


def judge_alone(verdicts: Verdicts, work: str, way: str, runs: Sequence[Json], bare: Sequence[Json]) -> None:
    beside = [one["rate"] / other["rate"] for one, other in zip(runs, bare, strict=True)]
    served = [statistics.median(run["served_ms"]) for run in runs if run.get("served_ms")]
    row = {
        "alone": work, "way": way, "rate": round(statistics.median(one["rate"] for one in runs), 2),
        "of_bare": round(statistics.median(beside), 4), "each": [round(one, 3) for one in beside],
        "charged": round(statistics.mean(one["charged"] for one in runs), 3),
        "held_ms": round(sum(one["held_ms"] for one in runs), 1),
        "served_ms": round(statistics.median(served), 2) if served else None,
        "p50_ms": percentile([one for run in runs for one in run["latencies_ms"]], 0.5),
        "p99_ms": percentile([one for run in runs for one in run["latencies_ms"]], 0.99),
    }  # fmt: skip
    say(row)
    if way == "cap":
        verdicts.judge(f"{work} alone under cap 50, of bare", row["of_bare"], 0.98)
    if way == "cap" and work == "chat":
        quick = [statistics.median(run["served_ms"]) for run in bare]
        verdicts.judge(
            "chat alone under cap 50, bare's time of service", statistics.median(quick) / row["served_ms"], 0.98
        )


def from_rest(verdicts: Verdicts) -> None:
    done = subprocess.run(
        [Path(os.environ["KERF_BENCH_BIN"]) / "from_rest"], capture_output=True, text=True, check=True
    )
    judge_rest(verdicts, [say({"from_rest": json.loads(line)})["from_rest"] for line in done.stdout.splitlines()])


def judge_rest(verdicts: Verdicts, rows: Sequence[Json]) -> None:
    # Shorter ones cannot be launched fast enough to know what they run.
    parts = [row["least"] / row["kernel"] for row in rows if row["seen"] and row["kernel"] > 4]
    if parts:
        verdicts.judge("kernels from rest, the least that is charged of what they run", min(parts), 1.0)
    else:
        verdicts.left.append("from rest: the card read no event in time, so the limiter takes nothing off there")


def chat_beside_gemm(lab: Lab, verdicts: Verdicts, seconds: float, turns: int) -> None:
    inference.SECONDS = seconds
    single, pair = Mix(("chat",), (100,), ()), Mix(("chat", "gemm"), (50, 50), ())
    runs: dict[str, list[Json]] = {"alone": [], "weight": []}
    for turn in range(turns):
        runs["alone"].append(lab.run(single, "bare", None, turn)[0])
        runs["weight"].append(lab.run(pair, "weight", None, turn)[0])
    p99 = {}
    for way, each in runs.items():
        latencies, served = ([one for run in each for one in run[name]] for name in ("latencies_ms", "served_ms"))
        p99[way] = percentile(latencies, 0.99)
        middle, most = percentile(served, 0.5), percentile(served, 0.99)
        say(
            {
                "chat": way,
                "requests": len(latencies),
                "p99_ms": p99[way],
                "served_p50_ms": middle,
                "served_p99_ms": most,
            }
        )
    verdicts.judge("chat beside gemm under weight, p99 of alone's", p99["weight"] / p99["alone"], 1.5, at_least=False)


def pairs(lab: Lab, verdicts: Verdicts, daemon: Mps, seconds: float, turns: int) -> None:
    inference.SECONDS = seconds
    single, both = Mix(("tp",), (100,), ()), Mix(("tp", "tp"), (50, 50), ())
    (one,) = lab.run(single, "bare", None, 90)
    whole, sums = one["work"] / one["seconds"], dict[str, list[float]](mps=[], kerf=[])
    with daemon as started:
        if not started:
            raise RuntimeError("no MPS daemon could be started")
        for turn in range(turns):
            for name, way in (
                (("mps", "mps"), ("kerf", "mps kerf")) if turn % 2 else (("kerf", "mps kerf"), ("mps", "mps"))
            ):
                found = lab.run(both, way, daemon.environment, turn)
                sums[name].append(sum(each["work"] / each["seconds"] for each in found) / whole)
                say(
                    {
                        "pairs": way,
                        "of_one_alone": round(sums[name][-1], 3),
                        "worst_ms": [max(x["latencies_ms"]) for x in found],
                    }
                )
    beside = statistics.median(kerf / mps for kerf, mps in zip(sums["kerf"], sums["mps"], strict=True))
    verdicts.judge("two pairs in mode mps, of plain MPS", beside, 0.95)
    verdicts.judge("two pairs in mode mps, of one alone", statistics.median(sums["kerf"]), 1.2)


def main() -> int:
    verdicts, cards, ways = Verdicts(), uuids(), 3 if BEFORE else 2
    with tempfile.TemporaryDirectory() as name:
        lab, wide = Lab(Path(name), cards[:1]), Lab(Path(name), cards[:2])
        wide.count = 10_000  # of their own names in the same folder
        for work, (seconds, turns) in ALONE.items():
            took = START_S + ways * turns * (seconds * SCALE + 0.5)
            verdicts.part(f"{work} alone", took, lambda work=work: alone(lab, verdicts, work))  # type: ignore[misc]
        verdicts.part("from rest", START_S, lambda: from_rest(verdicts))
        beside, tp = 18 * SCALE, 9 * SCALE
        verdicts.part("chat beside gemm", 4 * (beside + START_S), lambda: chat_beside_gemm(lab, verdicts, beside, 2))
        if len(cards) > 1:
            daemon = Mps(Path(name))
            verdicts.part("pairs", 7 * (tp + START_S), lambda: pairs(wide, verdicts, daemon, tp, 3))
        else:
            verdicts.left.append("pairs: one card")
    print(json.dumps(verdicts.summary()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
