"""What a cap that it does not need costs a container alone on its card: `alone.py LIBRARY BUILD [OLDER_LIBRARY]`.

Programs that wait for each step run bare and under a cap that they stay below, one after the other in every
round, over a fake driver whose calls take their time under one lock (FAKE_CALLS). It is no card. It shows what the
limiter asks of the driver, which of two libraries delays a program less, and what each charges of the GPU time used.
Environment: KERF_BENCH_ROUNDS (9), KERF_BENCH_SECONDS (1.0) a run, KERF_BENCH_CAP (50). The last line is a JSON object.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kerf.wire.limiter import CardLimit, LedgerSpec, parse_ledger, render_arbiter, render_ledger

LIBRARY, BUILD = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
ROUNDS = int(os.environ.get("KERF_BENCH_ROUNDS", "9"))
CAP = int(os.environ.get("KERF_BENCH_CAP", "50"))
SECONDS = os.environ.get("KERF_BENCH_SECONDS", "1.0")
WORKS = {
    "decode: 60 kernels of 40 us, 10 ms a step": ("60", "40000", "120000"),
    "decode: 180 kernels of 5 us, 4 ms a step": ("180", "5000", "15000"),
    "tiny: 200 kernels of 1.5 us, no host work": ("200", "1500", "0"),
}
Json = dict[str, Any]


def charges(folder: Path, library: Path | None) -> tuple[int, int]:
    """Nanoseconds of GPU time charged so far, and of launches held back."""
    card = parse_ledger((folder / "ledger").read_bytes()).cards[0] if library else None
    return (card.busy_ns, card.throttled_ns) if card else (0, 0)


def run(folder: Path, work: tuple[str, ...], library: Path | None) -> Json:
    """One run: steps a second, and per step the CPU time, calls and waits of all its threads."""
    environment = {**os.environ, "FAKE_CALLS": "1", "FAKE_GPU": str(folder / "gpu")}
    (folder / "gpu").unlink(missing_ok=True)
    if library:
        (folder / "arbiter").write_bytes(render_arbiter())
        limit = CardLimit("0", 2**30, CAP, str(folder / "arbiter"))
        (folder / "ledger").write_bytes(render_ledger(LedgerSpec((limit,))))
        environment |= {"LD_PRELOAD": str(library), "KERF_LEDGER": str(folder / "ledger")}
    command = [str(BUILD / "programs" / "steps"), *work, SECONDS]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        before = charges(folder, library)
        said = json.loads(process.stdout.readline())
    steps, (charged, held) = said["steps"], (b - a for a, b in zip(before, charges(folder, library), strict=True))
    found = {name: said[name] / steps for name in ("records", "queries", "waits")}
    found |= {
        "rate": steps / said["seconds"],
        "cpu_us": said["cpu"] / steps * 1e6,
        "gpu": said["busy_ns"] / said["seconds"] / 1e9,
    }
    return found | {"charged": charged / said["busy_ns"], "held_ms": held / 1e6}


def compare(folder: Path, work: tuple[str, ...], libraries: dict[str, Path | None]) -> dict[str, Json]:
    """Medians of each way, and of its rate beside the bare run of the same round."""
    runs: dict[str, list[Json]] = {way: [] for way in libraries}
    for turn in range(ROUNDS):
        for way in list(libraries) if turn % 2 else reversed(libraries):
            runs[way].append(run(folder, work, libraries[way]))
    found = {}
    for way, each in runs.items():
        beside = [one["rate"] / bare["rate"] for one, bare in zip(each, runs["bare"], strict=True)]
        found[way] = {name: round(statistics.median(one[name] for one in each), 2) for name in each[0]}
        found[way] |= {
            "of_bare": round(statistics.median(beside), 4),
            "range": [round(f(beside), 3) for f in (min, max)],
        }
    return found


libraries: dict[str, Path | None] = {"bare": None, f"cap {CAP}": LIBRARY}
if len(sys.argv) > 3:
    libraries[f"cap {CAP}, before"] = Path(sys.argv[3]).resolve()
rows: dict[str, dict[str, Json]] = {}
with tempfile.TemporaryDirectory() as name:
    for title, work in WORKS.items():
        rows[title] = compare(Path(name), work, libraries)
        print(title)
        for way, row in rows[title].items():
            print(
                f"  {way:16}{row['of_bare']:7.3f} x bare {row['range']}; per step {row['cpu_us']:6.0f} us of CPU,"
                f" {row['records']:4.1f} records, {row['queries']:4.1f} queries, {row['waits']:.2f} driver waits;"
                f" held {row['held_ms']:.0f} ms; GPU {row['gpu']:.0%}, charged {row['charged']:.2f} x that"
            )
print(json.dumps(rows))
