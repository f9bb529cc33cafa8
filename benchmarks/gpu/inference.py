"""Tenants as inference knows them, bare, under MPS and in Kerf slices, interleaved: `inference.py 4|5`.

Part 4 needs one card, part 5 two. One JSON row per mix, mode and policy:
{"mix": [...], "mode", "policy", "work": [...], "p50_ms": [...], "p99_ms": [...]}; work is in percent of what the same
tenant does alone and bare in this run. The last line is a JSON summary.
Mode `mps` is plain with policy "plain", and as Kerf's device plugin sets it up with policy "kerf": the same daemon and
percentages, with the limiter in the program and no compute limit in its ledger.
A machine that is lent for minutes: with KERF_BENCH_BUDGET=540 it begins no run that would end later than so many
seconds after its start, keeps every run in OUT/partN.runs.jsonl, and goes on from there when it is called again, until
the last line says that nothing is left. `inference.py 4 pool FILE...` pools the runs of several calls without a card.
There are KERF_BENCH_RUNS interleaved runs, and as many more as it takes until the tenants of each work that counts
requests have KERF_BENCH_REQUESTS of them (0; the aim is 2000) together: `pooled_p99_ms` is over these.
Environment: KERF_BENCH_SECONDS (24) a run, KERF_BENCH_RUNS (3) of each, KERF_BENCH_MIXES to choose by number,
KERF_BENCH_WAYS to choose by name, KERF_BENCH_BEFORE an older libkerf.so to run every policy with, too, and
CUDA_VISIBLE_DEVICES to choose the cards by UUID, so that several calls may run at once on the cards of one machine.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from kerf.wire.limiter import CardLimit, LedgerSpec, Policy, parse_ledger, render_arbiter, render_ledger  # noqa: E402

SECONDS = float(os.environ.get("KERF_BENCH_SECONDS", "24"))
RUNS = int(os.environ.get("KERF_BENCH_RUNS", "3"))
LIBRARY = os.environ["KERF_LIBRARY"]
BEFORE = os.environ.get("KERF_BENCH_BEFORE", "")
REQUESTS = int(os.environ.get("KERF_BENCH_REQUESTS", "0"))
BUDGET = float(os.environ.get("KERF_BENCH_BUDGET", "inf"))
MOST_RUNS = 40
BEGAN = time.monotonic()
WAYS = [way for way in os.environ.get("KERF_BENCH_WAYS", "").split(",") if way]
MPS_WAYS = ("mps", "mps kerf")
OUT = Path(os.environ.get("OUT") or "bench-out")
Json = dict[str, Any]


@dataclass(frozen=True)
class Mix:
    """Works with their shares, and the ways to run them beside each other."""

    works: tuple[str, ...]
    shares: tuple[int, ...]
    ways: tuple[str, ...]


MIXES = {
    "4": (
        Mix(("chat",) * 4, (25,) * 4, ("bare", "weight", "cap", "mps", "mps kerf")),
        Mix(("decode", "decode"), (50, 50), ("bare", "weight", "cap", "mps", "mps kerf")),
        Mix(("decode", "gemm"), (50, 50), ("bare", "weight", "priority", "mps", "mps kerf")),
        Mix(("chat", "gemm"), (50, 50), ("bare", "weight", "priority", "mps", "mps kerf")),
        Mix(("gemm", "gemm"), (30, 70), ("bare", "weight", "cap")),
        Mix(("gemm", "tiny", "graph"), (20, 30, 50), ("bare", "weight")),
        Mix(("graph", "gemm"), (50, 50), ("bare", "weight", "mps", "mps kerf")),
        Mix(("paged", "spec"), (50, 50), ("bare", "weight", "mps", "mps kerf")),
        Mix(("spec", "gemm"), (50, 50), ("bare", "weight", "priority")),
        Mix(("chat",), (50,), ("bare", "cap")),
        Mix(("decode",), (50,), ("bare", "cap")),
        Mix(("tiny",), (50,), ("bare", "cap")),
        Mix(("gemm",), (50,), ("bare", "cap")),
    ),
    "5": (
        Mix(("tp",), (50,), ("bare", "weight")),
        Mix(("tp", "tp"), (50, 50), ("bare", "weight", "cap", "mps", "mps kerf")),
        Mix(("tp", "tp"), (30, 70), ("weight",)),
    ),
}


class Mps:
    """A control daemon of our own in a private pipe directory; no setting of a card changes."""

    def __init__(self, folder: Path) -> None:
        self.environment = {
            "CUDA_MPS_PIPE_DIRECTORY": str(folder / "mps"),
            "CUDA_MPS_LOG_DIRECTORY": str(folder / "mps-log"),
        }
        for path in self.environment.values():
            Path(path).mkdir()

    def control(self, *options: str, text: str = "") -> bool:
        command = ["nvidia-cuda-mps-control", *options]
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                command,
                env={**os.environ, **self.environment},
                input=text,
                text=True,
                capture_output=True,
                timeout=20,
                check=False,
            )
            return done.returncode == 0
        return False

    def __enter__(self) -> bool:
        return self.control("-d", "-M")

    def __exit__(self, *_: object) -> None:
        self.control(text="quit\n")


def uuids() -> list[str]:
    """The cards to use: those that CUDA_VISIBLE_DEVICES names by UUID, or all of the machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if named.startswith("GPU-"):
        return named.split(",")
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()


class Lab:
    """Runs tenants beside each other."""

    def __init__(self, folder: Path, cards: Sequence[str]) -> None:
        self.folder, self.cards, self.count = folder, cards, 0

    def _slices(self, mix: Mix, policy: Policy, *, gated: bool = True, library: str = LIBRARY) -> list[dict[str, str]]:
        arbiters = []
        for i in range(len(self.cards)):
            arbiters.append(self.folder / f"arbiter{self.count}-{i}")
            arbiters[-1].write_bytes(render_arbiter())
        environments = []
        for i, share in enumerate(mix.shares):
            path = self.folder / f"ledger{self.count}-{i}"
            wide = "tp" in mix.works[i]
            limits = tuple(
                CardLimit(uuid, None, share if gated else None, str(arbiter) if gated else "")
                for uuid, arbiter in list(zip(self.cards, arbiters, strict=True))[: None if wide else 1]
            )
            path.write_bytes(render_ledger(LedgerSpec(limits, policy=policy, priority=int(i > 0))))
            environments.append({"LD_PRELOAD": library, "KERF_LEDGER": str(path)})
        return environments

    def environments(self, mix: Mix, way: str, mps: dict[str, str] | None) -> list[dict[str, str]]:
        """What each tenant gets in this way of running them: a slice, a part of MPS, or nothing."""
        policy, _, before = way.partition(", ")
        if policy in ("cap", "weight", "priority"):
            return self._slices(mix, policy, library=BEFORE if before else LIBRARY)  # type: ignore[arg-type]
        extra: list[dict[str, str]] = [{} for _ in mix.works]
        if way in MPS_WAYS:
            held = self._slices(mix, "cap", gated=False) if way == "mps kerf" else extra
            extra = [
                {**(mps or {}), **more, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(share)}
                for share, more in zip(mix.shares, held, strict=True)
            ]
        return extra

    def start(self, work: str, more: dict[str, str], *arguments: float) -> "subprocess.Popen[str]":
        """A tenant, which says when it is ready; `arguments` are those of works.py after the work."""
        program = "dry.py" if os.environ.get("KERF_BENCH_DRY") == "1" else "works.py"
        self.count += 1
        with (self.folder / f"log{self.count}").open("w") as log:
            return subprocess.Popen(
                [sys.executable, str(HERE / program), work, *map(str, arguments)],
                env={**os.environ, **more},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run(self, mix: Mix, way: str, mps: dict[str, str] | None = None, seed: int = 0) -> list[Json]:
        """All tenants at once, from the same instant. Every way of one turn gets the same arrivals, by the seed."""
        self.count += 1
        extra = self.environments(mix, way, mps)
        tenants = enumerate(zip(mix.works, extra, strict=True))
        running = [self.start(work, more, SECONDS, seed * 10 + i) for i, (work, more) in tenants]
        try:
            return self._together(running, extra)
        finally:
            for process in running:
                process.kill()

    def _together(self, running: "list[subprocess.Popen[str]]", extra: list[dict[str, str]]) -> list[Json]:
        for process in running:
            assert process.stdout
            if not process.stdout.readline():
                raise RuntimeError("a tenant ended before it was ready")
        start = f"{time.monotonic() + 0.5:.6f}\n"
        results = []
        for process in running:
            assert process.stdin
            process.stdin.write(start)
            process.stdin.flush()
        for process, more in zip(running, extra, strict=True):
            out, _ = process.communicate(timeout=SECONDS + 45)
            result = dict(json.loads(out.strip().splitlines()[-1]))
            if "KERF_LEDGER" in more:
                view = parse_ledger(Path(more["KERF_LEDGER"]).read_bytes())
                card = view.cards[0]
                result |= {"events": view.events, "busy": card.busy_ns / 1e9 / result["seconds"]}
                result |= {"held": card.throttled_ns / 1e9}
            results.append(result)
        return results


def percentile(values: Sequence[float], part: float) -> float | None:
    """None where there is nothing to sort."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 2) if ordered else None


def row(mix: Mix, way: str, runs: list[list[Json]], alone: dict[str, float]) -> Json:
    """One row over all runs: work is the median run's, latencies are pooled."""
    policy = way if way.startswith(("cap", "weight", "priority")) else {"mps": "plain", "mps kerf": "kerf"}.get(way, "")
    works, p50, p99, worst = [], [], [], []
    for i, work in enumerate(mix.works):
        rates = [run[i]["work"] / run[i]["seconds"] for run in runs]
        pooled = [one for run in runs for one in run[i]["latencies_ms"]]
        works.append(round(statistics.median(rates) / alone[work] * 100, 1) if work in alone else round(rates[0], 1))
        p50.append(percentile(pooled, 0.5))
        p99.append(percentile(pooled, 0.99))
        worst.append(round(max(pooled), 1) if pooled else None)
    return {
        "mix": [f"{work} {share}" for work, share in zip(mix.works, mix.shares, strict=True)],
        "mode": "bare" if not policy else "mps" if way in MPS_WAYS else "preload",
        "policy": policy,
        "work": works,
        "p50_ms": p50,
        "p99_ms": p99,
        "worst_ms": worst,
        "busy": [round(one.get("busy", 0), 3) for one in runs[-1]],
        "held_s": [round(one.get("held", 0), 3) for one in runs[-1]],
        "events": [one.get("events", {}) for one in runs[-1]],
    }


def ways_of(mix: Mix) -> Iterator[str]:
    """The ways that are asked for; each policy also with the older library, where there is one."""
    for way in mix.ways:
        if not WAYS or way in WAYS:
            yield way
            if BEFORE and way in ("cap", "weight", "priority"):
                yield f"{way}, before"


class Book:
    """Every run that was made, in a file, so that a later call goes on from there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.runs: dict[str, list[list[Json]]] = {}
        self.failed: dict[str, int] = {}
        self.cards: set[str] = set()
        if path.exists():
            for line in path.read_text().splitlines():
                self._take(json.loads(line))

    def add(self, key: str, run: list[Json], card: str) -> None:
        self._write({"key": key, "card": card, "run": run})

    def fail(self, key: str, error: str) -> None:
        print(json.dumps({"key": key, "failed": error}), flush=True)
        self._write({"key": key, "failed": error})

    def tries(self, key: str) -> int:
        return len(self.runs.get(key, ())) + self.failed.get(key, 0)

    def _write(self, entry: Json) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        self._take(entry)

    def _take(self, entry: Json) -> None:
        if "run" in entry:
            self.runs.setdefault(entry["key"], []).append(entry["run"])
            self.cards.add(entry["card"])
        else:
            self.failed[entry["key"]] = self.failed.get(entry["key"], 0) + 1


def key_of(mix: Mix, way: str) -> str:
    shares = zip(mix.works, mix.shares, strict=True)
    return f"{way}: " + " + ".join(f"{work} {share}" for work, share in shares)


def pooled_of(mix: Mix, runs: Sequence[list[Json]]) -> dict[str, list[float]]:
    """All latencies of each work that has any, over its tenants and runs."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for work, one in zip(mix.works, run, strict=True):
            if one["latencies_ms"]:
                found.setdefault(work, []).extend(one["latencies_ms"])
    return found


def needed(mix: Mix, way: str, book: Book) -> int:
    """How many more runs a way of a mix needs at least: the turns, and one where requests are missing."""
    key = key_of(mix, way)
    if book.tries(key) < RUNS:
        return RUNS - book.tries(key)
    few = any(len(latencies) < REQUESTS for latencies in pooled_of(mix, book.runs.get(key, [])).values())
    return int(few and book.tries(key) < MOST_RUNS)


def plan(mixes: Sequence[Mix], mps: bool, book: Book) -> Iterator[tuple[Mix, str, int]]:
    """What is left to run: each work alone, then turn by turn every way of every mix. Asked again after each run."""
    for work in dict.fromkeys(work for mix in mixes for work in mix.works):
        single = Mix((work,), (100,), ("bare",))
        if not book.tries(key_of(single, "bare")):
            yield single, "bare", 0
    for mix in mixes:
        ways = [way for way in ways_of(mix) if way not in MPS_WAYS or mps]
        for turn in range(MOST_RUNS):
            for way in ways:
                if book.tries(key_of(mix, way)) == turn and needed(mix, way, book):
                    yield mix, way, turn


def rows_of(mixes: Sequence[Mix], book: Book) -> list[Json]:
    """A row of every way that has a run."""
    rows, alone = list[Json](), dict[str, float]()
    for work in dict.fromkeys(work for mix in mixes for work in mix.works):
        single = Mix((work,), (100,), ("bare",))
        runs = book.runs.get(key_of(single, "bare"))
        if runs:
            alone[work] = runs[0][0]["work"] / runs[0][0]["seconds"]
            rows.append({**row(single, "bare", runs, alone), "per_second": round(alone[work], 2)})
    for mix in mixes:
        for way in ways_of(mix):
            runs = book.runs.get(key_of(mix, way))
            if runs:
                pooled = pooled_of(mix, runs)
                requests = {work: len(latencies) for work, latencies in pooled.items()}
                p99 = {work: percentile(latencies, 0.99) for work, latencies in pooled.items()}
                more = {"runs": len(runs), "requests": requests, "pooled_p99_ms": p99}
                rows.append({**row(mix, way, runs, alone), **more})
    return rows


def measure(lab: Lab, mixes: Sequence[Mix], mps: dict[str, str] | None, book: Book) -> int:
    """Run what is left, as far as the time allows; how many runs are left."""
    card, longest = ",".join(lab.cards), SECONDS + 15.0
    while (left := next(plan(mixes, mps is not None, book), None)) is not None:
        if time.monotonic() - BEGAN + longest > BUDGET:
            return sum(max(needed(one, other, book), 1) for one, other, _ in plan(mixes, mps is not None, book))
        (mix, way, turn), before = left, time.monotonic()
        try:
            book.add(key_of(mix, way), lab.run(mix, way, mps, turn), card)
        except (RuntimeError, subprocess.SubprocessError, ValueError, IndexError) as error:
            book.fail(key_of(mix, way), str(error))
        longest = max(longest, time.monotonic() - before)
    return 0


def run_part(part: str, mixes: Sequence[Mix], book: Book) -> int:
    """Run what is left of a part; how many runs are left after it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        daemon = Mps(folder)
        wanted = any("mps" in mix.ways for mix in mixes) and os.environ.get("KERF_BENCH_MPS", "1") == "1"
        lab = Lab(folder, uuids()[: 2 if part == "5" else 1])
        started = wanted and daemon.__enter__()
        try:
            return measure(lab, mixes, daemon.environment if started else None, book)
        finally:
            if started:
                daemon.__exit__()


def main(part: str, *files: str) -> int:
    chosen = [int(one) for one in os.environ.get("KERF_BENCH_MIXES", "").split(",") if one]
    mixes = [mix for i, mix in enumerate(MIXES[part]) if not chosen or i in chosen]
    kept = OUT / f"part{part}.runs.jsonl"
    if files:  # "pool" and the runs of several calls
        OUT.mkdir(parents=True, exist_ok=True)
        kept = OUT / f"part{part}.pooled.jsonl"
        kept.write_text("".join(Path(name).read_text() for name in files[1:]))
    book = Book(kept)
    left = 0 if files else run_part(part, mixes, book)
    rows = rows_of(mixes, book)
    (OUT / f"part{part}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    for one in rows:
        print(json.dumps(one))
    summary = {"part": part, "rows": len(rows), "runs": RUNS, "requests": REQUESTS, "seconds": SECONDS, "left": left}
    print(json.dumps({**summary, "cards": sorted(book.cards), "one_machine": len(book.cards) <= 1}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
