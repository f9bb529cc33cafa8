"""What the benchmark's parts share: slices, running programs, tenants that run together, the report."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from kerf.wire.limiter import CardLimit, LedgerSpec, Policy, parse_ledger, render_arbiter, render_ledger  # noqa: E402

MIB, GIB = 2**20, 2**30
DRY = os.environ.get("KERF_BENCH_DRY") == "1"
OUT = Path(os.environ.get("OUT") or "bench-out")
BIN = Path(os.environ["KERF_BENCH_BIN"])
LIBRARY = Path(os.environ["KERF_LIBRARY"])
UUID = os.environ.get("KERF_BENCH_UUID", "0")

Json = dict[str, Any]


@dataclass
class Slice:
    """A container's slice; `memory` is in MiB. None instead of a slice means bare."""

    memory: int | None = None
    cores: int | None = None
    policy: Policy = "cap"
    arbiter: Path | None = None


@dataclass
class Report:
    """Rows of the table and their data."""

    part: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    data: Json = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def row(self, metric: str, bare: str, ours: str) -> None:
        self.rows.append((metric, bare, ours))
        print(f"  {metric}: bare {bare} | ours {ours}", flush=True)
        self.save()

    def problem(self, text: str) -> None:
        self.problems.append(text)
        print(f"  PROBLEM: {text}", flush=True)

    def save(self) -> None:
        OUT.mkdir(parents=True, exist_ok=True)
        content = {"part": self.part, "rows": self.rows, "data": self.data, "problems": self.problems}
        (OUT / f"part{self.part}.json").write_text(json.dumps(content, indent=1))

    def table(self) -> str:
        lines = ["| metric | bare | ours |", "| --- | ---: | ---: |"]
        lines += [f"| {metric} | {bare} | {ours} |" for metric, bare, ours in self.rows]
        return "\n".join(lines)


class Bench:
    """Runs programs, bare or in a slice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def environment(
        self, slice_: Slice | None, extra: dict[str, str] | None = None
    ) -> tuple[dict[str, str], Path | None]:
        """The environment for one container, with a new ledger."""
        environment = {**os.environ, **(extra or {})}
        if slice_ is None:
            return environment, None
        self.count += 1
        path = self.folder / f"ledger{self.count}"
        memory = None if slice_.memory is None else slice_.memory * MIB
        card = CardLimit(UUID, memory, slice_.cores, str(slice_.arbiter or ""))
        path.write_bytes(render_ledger(LedgerSpec(cards=(card,), policy=slice_.policy)))
        environment |= {"LD_PRELOAD": str(LIBRARY), "KERF_LEDGER": str(path)}
        return environment, path

    def arbiter(self) -> Path:
        """A new arbiter for the node."""
        self.count += 1
        path = self.folder / f"arbiter{self.count}"
        path.write_bytes(render_arbiter())
        return path

    def start(
        self, command: Sequence[str | Path], slice_: Slice | None, extra: dict[str, str] | None = None
    ) -> "Running":
        """Start a program; its standard error goes to a log."""
        environment, ledger = self.environment(slice_, extra)
        self.count += 1
        log = self.folder / f"log{self.count}"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [str(part) for part in command],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        return Running(process, log, ledger)

    def run(self, command: Sequence[str | Path], slice_: Slice | None = None, timeout: float = 120) -> Json:
        """Run a program to its end. Returns its last line as JSON, and the ledger's events."""
        running = self.start(command, slice_)
        return running.finish(timeout)


@dataclass
class Running:
    """A running program."""

    process: "subprocess.Popen[str]"
    log: Path
    ledger: Path | None

    def line(self) -> Json:
        """The next line of its output."""
        assert self.process.stdout
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError(f"no answer, exit {self.process.wait()}: {self.tail()}")
        return dict(json.loads(text))

    def tell(self, text: str) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()

    def finish(self, timeout: float = 120) -> Json:
        try:
            out, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise RuntimeError(f"still running after {timeout} s: {self.tail()}") from None
        if self.process.returncode or not out.strip():
            raise RuntimeError(f"exit {self.process.returncode}: {out[-500:]} {self.tail()}")
        result = dict(json.loads(out.strip().splitlines()[-1]))
        if self.ledger:
            view = parse_ledger(self.ledger.read_bytes())
            result["events"] = view.events
            result["gpu_ns"] = view.cards[0].busy_ns
        return result

    def tail(self) -> str:
        return self.log.read_text()[-1500:]


def guarded(report: Report, what: str, action: Callable[[], None]) -> None:
    """Report a failed measurement and continue with the next."""
    try:
        action()
    except (RuntimeError, OSError, ValueError, KeyError, AssertionError, subprocess.SubprocessError) as error:
        report.problem(f"{what}: {error}")


def nvml_used(pid: int) -> int | None:
    """Bytes that a process holds according to NVML; None if NVML does not report it."""
    if DRY:
        return None
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
        if process.pid == pid and process.usedGpuMemory:
            return int(process.usedGpuMemory)
    return None


@dataclass
class Tenant:
    """A load: `torch` names a PyTorch load, `mode` and `ns` a synthetic one."""

    mode: str = "stream"
    ns: float = 1e6
    torch: str = ""
    slice: Slice | None = None

    @property
    def name(self) -> str:
        return self.torch or f"{self.mode} {self.ns / 1000:g} us"

    def command(self, seconds: float, iterations_per_ms: float) -> list[str | Path]:
        if self.torch and not DRY:
            return [sys.executable, HERE / "tenant.py", self.torch, str(seconds)]
        mode, ns = (
            ("stream", {"gemm": 1.4e6, "small": 5e3, "copy": 7e5, "decode": 5e5}[self.torch])
            if self.torch
            else (self.mode, self.ns)
        )
        iterations = max(1, round(iterations_per_ms * ns / 1e6))
        return [BIN / "busy", mode, str(ns), "0", str(seconds), str(iterations), "wait"]

    def within(self, slice_: Slice | None) -> "Tenant":
        return Tenant(self.mode, self.ns, self.torch, slice_)


_PER_MS: list[float] = []


def iterations_per_ms(bench: Bench) -> float:
    if not _PER_MS:
        _PER_MS.append(float(bench.run([BIN / "facts"])["iterations_per_ms"]))
    return _PER_MS[0]


def together(bench: Bench, tenants: Sequence[Tenant], seconds: float) -> list[Json]:
    """Start all of them at the same instant."""
    per_ms = iterations_per_ms(bench)
    running = [bench.start(tenant.command(seconds, per_ms), tenant.slice) for tenant in tenants]
    for one in running:
        one.line()
    start = time.monotonic() + 0.5
    for one in running:
        one.tell(f"{start:.6f}")
    return [one.finish(seconds + 60) for one in running]


SETTLE = 2  # seconds to drop at the beginning


def rate(result: Json) -> float:
    """Work per second, without the first seconds."""
    bins = result["bins"][SETTLE if len(result["bins"]) > 2 * SETTLE else 1 :]
    return statistics.mean(bins)


def seconds_of(wanted: float) -> float:
    return max(4.0, wanted * 0.3) if DRY else wanted
