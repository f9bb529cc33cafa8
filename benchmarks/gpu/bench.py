"""Compares bare programs with Kerf on one NVIDIA card: `bench.py PART`. run.sh builds what it needs and calls it.

Part 1: facts of the machine, a smoke test that fails fast, memory limits, cost of calls.
Part 2: caps for one tenant alone. Part 3: two and three tenants, a tenant that wakes up, many processes that start.
Prints a table `bare | ours`, writes OUT/partN.json. Protocol: median of repeated runs; first seconds dropped.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lab import (
    BIN,
    DRY,
    HERE,
    MIB,
    SETTLE,
    Bench,
    Json,
    Report,
    Slice,
    Tenant,
    guarded,
    nvml_used,
    rate,
    seconds_of,
    together,
)

from kerf.wire.limiter import parse_ledger

# ---- part 1 ---------------------------------------------------------------------------------------------------------


def smoke(bench: Bench, report: Report) -> bool:
    """Everything a user needs on the first day, in a minute. Returns False to stop the part."""
    memory = 8192
    cases = [
        ("memory", {}, Slice(memory)),
        ("memory,graph", {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, Slice(memory, 50)),
        ("memory", {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}, Slice(memory)),
        ("blas,graph,triton", {}, Slice(memory, 50)),
        ("processes", {}, Slice(memory, 50)),
    ]
    if DRY:
        for verb in ("alloc", "async", "vmm"):
            running = bench.start([BIN / "memory", verb, "48"], Slice(256))
            answer = running.line()
            running.process.kill()
            assert answer == {"granted": 240 * MIB, "error": 2}, (verb, answer)
        return True
    started = [
        (name, extra, bench.start([sys.executable, HERE / "smoke.py", name, str(memory)], slice_, extra))
        for name, extra, slice_ in cases
    ]
    failures = 0
    for name, extra, running in started:
        try:
            out, _ = running.process.communicate(timeout=110)
        except subprocess.TimeoutExpired:
            running.process.kill()
            out = "still running after 110 s"
        ok = running.process.returncode == 0
        failures += not ok
        setting = next(iter(extra.values()), "native")
        print(f"smoke {name} [{setting}]: {'ok' if ok else 'FAILED'}\n{out}", flush=True)
        if not ok:
            report.problem(f"smoke {name} [{setting}]: {out[-300:]} {running.tail()}")
        events = parse_ledger(running.ledger.read_bytes()).events if running.ledger else {}
        report.data[f"smoke {name} [{setting}]"] = {"ok": ok, "out": out, "events": events}
    report.row("smoke test, cases run to the end", "", f"{len(cases) - failures} of {len(cases)}")
    return failures == 0


def fill(bench: Bench, report: Report, kind: str, limit_mib: int, block_mib: int) -> None:
    """Allocate in one way until refused. The last blocks are small, so that their size does not hide free memory."""
    running = bench.start([BIN / "memory", kind, str(block_mib), str(limit_mib * 2)], Slice(limit_mib))
    first = running.line()
    used = nvml_used(running.process.pid)
    running.tell("go on")
    second = running.finish()
    limit = limit_mib * MIB
    error = None if used is None else (used - limit) / limit
    report.data[f"memory {kind} {block_mib} MiB of {limit_mib} MiB"] = {**first, **second, "nvml": used, "error": error}
    told = "NVML silent" if error is None else f"{error * 100:+.2f} % by NVML"
    if kind == "managed":
        told = "charged in full, on the card only once touched"
    granted, again = first["granted"] / limit * 100, second["again"] / limit * 100
    verdict = f"{granted:.1f} % granted, {told}, code {first['error']}, again {again:.1f} %"
    sizes = "2 MiB" if block_mib == 2 else f"{block_mib}, then 2 MiB"
    report.row(f"memory: {kind}, blocks of {sizes}, limit {limit_mib} MiB", "no limit", verdict)


def memory(bench: Bench, report: Report) -> None:
    kinds = [("alloc", 2), ("alloc", 64), ("pitch", 64), ("managed", 64), ("async", 64), ("pool", 64)]
    kinds += [("vmm", 64), ("vmm_released", 64), ("array", 64), ("graph", 64)]
    for limit_mib in (256, 1024) if DRY else (2048, 8192, 40960):
        for kind, block in kinds:
            if kind == "managed" and limit_mib > 8192:
                continue  # never ask for more managed memory than is certainly free
            guarded(
                report, f"memory {kind} {limit_mib}", lambda k=kind, b=block, m=limit_mib: fill(bench, report, k, m, b)
            )


def killed(bench: Bench, report: Report) -> None:
    """Kill -9 a process that holds the slice; another process of the container then allocates all of it at once."""
    environment, ledger = bench.environment(Slice(2048))
    command = [str(BIN / "memory"), "alloc", "64"]
    again = []
    for _ in range(3):
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        again.append(json.loads(process.stdout.readline())["granted"])
        process.kill()
        process.wait()
    report.row("kill -9, then allocate again (MiB)", "", ", ".join(str(n // MIB) for n in again))
    del ledger


def calls(bench: Bench, report: Report) -> None:
    """Nanoseconds per call: the median of three interleaved runs."""
    settings = {"bare": None, "ours, unlimited": Slice(), "ours, memory": Slice(40960 if not DRY else 4096)}
    settings |= {"ours, cores 100": Slice(cores=100), "ours, cores 99 (not reached)": Slice(cores=99)}
    results: dict[str, list[Json]] = {name: [] for name in settings}
    for names in (list(settings), list(reversed(settings)), list(settings)):
        for name in names:
            results[name].append(bench.run([BIN / "launch", "3000" if DRY else "100000"], settings[name]))
    report.data["calls"] = results
    for call in results["bare"][0]:
        medians = {name: statistics.median(run[call] for run in runs) for name, runs in results.items()}
        bare = medians.pop("bare")
        added = ", ".join(f"{name.removeprefix('ours, ')} {ns - bare:+.0f}" for name, ns in medians.items())
        report.row(f"{call}, ns", f"{bare:.0f}", added)


def torch_rates(bench: Bench, report: Report) -> None:
    """PyTorch's own launch path: steps per second, in interleaved runs."""
    for work in ("small", "decode"):
        rates: dict[str, list[float]] = {"bare": [], "ours": [], "ours, cores 100": []}
        for name in ("bare", "ours", "ours, cores 100") * 5:
            slice_ = {"bare": None, "ours": Slice(40960), "ours, cores 100": Slice(40960, 100)}[name]
            (result,) = together(bench, [Tenant(torch=work, slice=slice_)], 3)
            rates[name].append(rate(result))
        bare = statistics.median(rates["bare"])
        ours = ", ".join(f"{name} {_spread(r, bare)}" for name, r in rates.items() if name != "bare")
        report.data[f"PyTorch {work}"] = rates
        report.row(f"PyTorch {work}, steps/s, median (range) of 5", f"{bare:.1f} {_spread(rates['bare'], bare)}", ours)


def _spread(rates: list[float], bare: float) -> str:
    """Median and range relative to the bare median, in percent."""
    middle, low, high = (f(rates) / bare * 100 - 100 for f in (statistics.median, min, max))
    return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"


def part1(bench: Bench, report: Report) -> None:
    guarded(report, "facts", lambda: report.data.update(facts=bench.run([BIN / "facts"])))
    print(json.dumps(report.data.get("facts"), indent=1), flush=True)
    ours = bench.run([BIN / "facts"], Slice())
    report.data["facts under the limiter"] = ours
    print("under the limiter:", json.dumps(ours), flush=True)
    if not smoke(bench, report):
        print("the smoke test failed; the rest of part 1 still runs", flush=True)
    memory(bench, report)
    guarded(report, "killed", lambda: killed(bench, report))
    guarded(report, "calls", lambda: calls(bench, report))
    if not DRY:
        guarded(report, "PyTorch rates", lambda: torch_rates(bench, report))


# ---- part 2 ---------------------------------------------------------------------------------------------------------


def part2(bench: Bench, report: Report) -> None:
    works = [Tenant(torch="gemm"), Tenant(ns=5e3), Tenant("graph", 5e3), Tenant("sync", 1e6), Tenant(ns=5e6)]
    errors: list[float] = []
    for work in works[: 3 if DRY else None]:
        reference: list[Json] = []

        def measure(work: Tenant = work, reference: list[Json] = reference) -> None:
            reference += together(bench, [work], seconds_of(7))

        guarded(report, f"uncapped {work.name}", measure)
        if not reference:
            continue
        full = rate(reference[0])
        for cap in (25, 50) if DRY else (10, 25, 50, 75, 90, 100):
            guarded(
                report, f"cap {cap} {work.name}", lambda c=cap, w=work, f=full: capped(bench, report, w, c, f, errors)
            )
    if errors:
        report.row("caps 10-90, mean error in points", "", f"{statistics.mean(errors):.2f} (worst {max(errors):.2f})")


def capped(bench: Bench, report: Report, work: Tenant, cap: int, full: float, errors: list[float]) -> None:
    seconds = seconds_of(8)
    (result,) = together(bench, [work.within(Slice(None, cap))], seconds)
    got = rate(result) / full * 100
    bins = [n / full * 100 for n in result["bins"][SETTLE:]]
    gpu = result["gpu_ns"] / 1e7 / seconds
    worst = max((abs(b - cap) for b in bins), default=0.0)
    report.data[f"cap {cap} {work.name}"] = {**result, "achieved": got, "full": full}
    report.row(
        f"cap {cap}: {work.name}, % of full rate",
        "100",
        f"{got:.1f} (GPU time {gpu:.1f}, worst second off by {worst:.1f})",
    )
    if cap < 100:
        errors.append(abs(got - cap))


# ---- part 3 ---------------------------------------------------------------------------------------------------------


def split(
    bench: Bench, report: Report, shares: Sequence[int], works: Sequence[Tenant], solos: dict[str, float]
) -> None:
    """Tenants side by side, bare and in their slices: the share of the work that each did."""
    seconds = seconds_of(14)
    name = f"{'/'.join(map(str, shares))}: {' + '.join(work.name for work in works)}"
    cells = {}
    for label in ("bare", "ours"):
        arbiter = bench.arbiter()
        slices = [Slice(None, share, "weight", arbiter) if label == "ours" else None for share in shares]
        results = together(bench, [work.within(slice_) for work, slice_ in zip(works, slices, strict=True)], seconds)
        parts = [rate(result) / solos[work.name] for result, work in zip(results, works, strict=True)]
        got = [part / sum(parts) * 100 for part in parts]
        error = max(abs(g - s) for g, s in zip(got, shares, strict=True))
        report.data[f"{name} {label}"] = {"results": results, "got": got, "efficiency": sum(parts)}
        cells[label] = f"{'/'.join(f'{g:.1f}' for g in got)} (sum {sum(parts) * 100:.0f} %)"
        if label == "ours":
            cells[label] += f", off by {error:.1f}"
    report.row(name, cells["bare"], cells["ours"])


def wake(bench: Bench, report: Report) -> None:
    """One tenant sleeps during the first half. Measures how soon after waking it gets its share."""
    arbiter = bench.arbiter()
    works = [
        Tenant("stream", 1e6, slice=Slice(None, 50, "weight", arbiter)),
        Tenant("late", 1e6, slice=Slice(None, 50, "weight", arbiter)),
    ]
    results = together(bench, works, seconds_of(12))
    report.data["wake"] = results
    report.row(
        "50/50, second tenant wakes half-way: units per second", "", f"{results[0]['bins']} beside {results[1]['bins']}"
    )


def storm(bench: Bench, report: Report) -> None:
    """Many processes create a context at once."""
    count, cells = (4 if DRY else 32), {}
    for label in ("bare", "ours"):
        environment, _ = bench.environment(Slice(65536 if not DRY else 4096) if label == "ours" else None)
        started = time.monotonic()
        children = [
            subprocess.Popen(
                [str(BIN / "memory"), "alloc", "2", "2"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            for _ in range(count)
        ]
        times = []
        for child in children:
            child.wait(120)
            times.append(time.monotonic() - started)
        cells[label] = f"{max(times):.2f} s"
    report.row(f"{count} processes start and allocate at once, the last after", cells["bare"], cells["ours"])


def part3(bench: Bench, report: Report) -> None:
    gemm, small, long, graph, decode = (
        Tenant(torch="gemm"),
        Tenant(ns=5e3),
        Tenant(ns=5e6),
        Tenant("graph", 5e3),
        Tenant(torch="decode"),
    )
    solos: dict[str, float] = {}
    for work in (gemm, small, long, graph, decode):

        def solo(work: Tenant = work) -> None:
            solos[work.name] = rate(together(bench, [work], seconds_of(6))[0])

        guarded(report, f"solo {work.name}", solo)
    report.data["solos"] = solos
    cases: list[tuple[list[int], list[Tenant]]] = [
        ([30, 70], [gemm, gemm]),
        ([20, 30, 50], [gemm, gemm, gemm]),
        ([30, 70], [gemm, small]),
        ([30, 70], [long, small]),
        ([20, 30, 50], [small, graph, gemm]),
        ([50, 50], [decode, gemm]),
    ]
    for shares, works in cases[: 3 if DRY else None]:
        guarded(report, f"{shares}", lambda s=shares, w=works: split(bench, report, s, w, solos))
    guarded(report, "wake", lambda: wake(bench, report))
    guarded(report, "storm", lambda: storm(bench, report))


def main(part: str) -> int:
    report = Report(part)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if DRY:
            os.environ["FAKE_GPU"] = str(Path(folder) / "gpu")
        bench = Bench(Path(folder))
        try:
            {"1": part1, "2": part2, "3": part3}[part](bench, report)
        finally:
            report.data["seconds"] = time.monotonic() - started
            report.save()
            print(
                f"\n{report.table()}\n\n{len(report.problems)} problems, {time.monotonic() - started:.0f} s", flush=True
            )
            for problem in report.problems:
                print(f"PROBLEM: {problem}", flush=True)
    return 0 if not report.problems else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
