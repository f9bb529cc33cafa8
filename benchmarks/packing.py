"""How full the production placement code packs a fleet. Replays openb traces (Alibaba's cluster-trace-gpu-v2023).

    python -m benchmarks.packing --traces DIR [--names default,gpuspec20] [--seeds 42-44] [--churn 0.97] [--sim PATH]

DIR holds openb_node_list_gpu_node.csv and openb_pod_list_NAME.csv files; `benchmarks.openb_variants` makes further
traces. FGD (`benchmarks.fgd`) replays the same pods beside Kerf, and a table compares them. The protocol is that of the
FGD paper (USENIX ATC'23): permute the nodes, shuffle the trace's pods, and draw again until the pods ask for 130 % of
all GPUs. Pods arrive one by one, never leave, and are dropped if they do not fit. Under churn, pods arrive at a given
share of the capacity and have exponentially distributed lifetimes. This file checks every answer against its own
accounts. Then placements on 1,000 nodes of six vendors' cards and on 1,000 of NVIDIA's alone take turns
(`benchmarks.mixed`). The last line is one JSON object. `--sim` also runs the given fgdsim.py on the same engine and
compares.
"""

import argparse
import csv
import heapq
import importlib.util
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import mixed
from benchmarks.fgd import Fgd
from benchmarks.openb import Engine
from benchmarks.repacking import RepackEngine

FULL = 1000  # thousandths of a GPU
TUNE = 1.3
POPULAR_PERCENT = 95
CHURN_ARRIVALS = 40_000


@dataclass(frozen=True, slots=True)
class TraceNode:
    """A node of a trace: CPU in thousandths, memory in MiB."""

    index: int
    name: str
    cpu: int
    mem: int
    gpus: int
    model: str


@dataclass(frozen=True, slots=True)
class TracePod:
    """A pod of a trace: `gpu_milli` of each of `num_gpu` GPUs."""

    seq: int
    name: str
    cpu: int
    mem: int
    num_gpu: int
    gpu_milli: int
    spec: tuple[str, ...]

    @property
    def size(self) -> int:
        """Thousandths of a GPU, over all its GPUs."""
        return self.num_gpu * self.gpu_milli

    @property
    def kind(self) -> tuple[int, int, int, tuple[str, ...]]:
        """The key of its class in the target workload."""
        return self.cpu, self.num_gpu, self.gpu_milli, self.spec


@dataclass(slots=True)
class Books:
    """The replay's own accounts of the cluster, independent of any engine."""

    nodes: list[TraceNode]
    cpu: list[int] = field(init=False)
    mem: list[int] = field(init=False)
    gpu: list[list[int]] = field(init=False)
    used: int = 0

    def __post_init__(self) -> None:
        self.cpu = [node.cpu for node in self.nodes]
        self.mem = [node.mem for node in self.nodes]
        self.gpu = [[FULL] * node.gpus for node in self.nodes]

    @property
    def capacity(self) -> int:
        """Thousandths of a GPU in the fleet."""
        return FULL * sum(node.gpus for node in self.nodes)

    def fits(self, pod: TracePod, n: int) -> bool:
        """Whether the pod fits on a node."""
        if self.cpu[n] < pod.cpu or self.mem[n] < pod.mem:
            return False
        if not pod.num_gpu:
            return True
        room = sum(free >= pod.gpu_milli for free in self.gpu[n]) >= pod.num_gpu
        return room and (not pod.spec or self.nodes[n].model in pod.spec)

    def take(self, pod: TracePod, n: int, gpus: list[int]) -> None:
        """Count a placement. Raises AssertionError if it breaks a rule."""
        assert self.fits(pod, n), ("does not fit", pod, n)
        assert len(set(gpus)) == len(gpus) == pod.num_gpu, ("number of GPUs", pod, gpus)
        assert all(self.gpu[n][i] >= pod.gpu_milli for i in gpus), ("GPU is full", pod, n, gpus)
        self._book(pod, n, gpus, 1)

    def give(self, pod: TracePod, n: int, gpus: list[int]) -> None:
        """Stop counting a placement."""
        self._book(pod, n, gpus, -1)

    def _book(self, pod: TracePod, n: int, gpus: list[int], sign: int) -> None:
        self.cpu[n] -= sign * pod.cpu
        self.mem[n] -= sign * pod.mem
        for i in gpus:
            self.gpu[n][i] -= sign * pod.gpu_milli
        self.used += sign * pod.size


class Run:
    """An engine, the accounts, and the outcome of every pod."""

    def __init__(self, engine: Engine | Fgd, nodes: list[TraceNode], pods: list[TracePod], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        order = self.rng.permutation(len(nodes))
        self.nodes = [replace(nodes[j], index=i) for i, j in enumerate(order.tolist())]
        self.books = Books(self.nodes)
        self.engine = engine
        engine.reset(self.nodes, popular(pods), seed)
        self.live: dict[int, tuple[TracePod, int, list[int]]] = {}
        self.refused = self.moves = 0
        self.latencies: list[float] = []

    def place(self, pod: TracePod) -> bool:
        """Let the engine place a pod. Returns whether it did."""
        start = time.perf_counter()
        answer: Any = self.engine.place(pod)
        self.latencies.append(time.perf_counter() - start)
        if answer is None:
            self.refused += any(self.books.fits(pod, n) for n in range(len(self.nodes)))
            return False
        self._move(answer[2] if len(answer) > 2 else [])
        self.books.take(pod, answer[0], answer[1])
        self.live[pod.seq] = (pod, answer[0], answer[1])
        return True

    def leave(self, seq: int) -> None:
        """End a pod."""
        placed = self.live.pop(seq)
        self.books.give(*placed)
        self.engine.release(*placed)

    def _move(self, moves: list[tuple[int, int, list[int]]]) -> None:
        for seq, _, _ in moves:
            self.books.give(*self.live[seq])
        for seq, node, gpus in moves:
            self.live[seq] = (self.live[seq][0], node, gpus)
            self.books.take(*self.live[seq])
        self.moves += len(moves)

    def p50_ms(self) -> float:
        """Median time of one placement."""
        return round(float(np.median(self.latencies)) * 1000, 3)


def fill(engine: Engine | Fgd, nodes: list[TraceNode], pods: list[TracePod], seed: int) -> dict[str, Any]:
    """Pods arrive until they ask for 130 % of the GPUs. Returns the percent allocated at 100 and 130 percent."""
    run = Run(engine, nodes, pods, seed)
    capacity = run.books.capacity
    arrived = 0
    curve: dict[int, list[float]] = {}
    for pod in arrivals(pods, capacity, run.rng):
        run.place(pod)
        arrived += pod.size
        curve.setdefault(round(100 * arrived / capacity), []).append(100 * run.books.used / capacity)
    at = {k: round(float(np.mean(curve[k])), 2) for k in (100, 130)}
    return {"seed": seed, "at_100": at[100], "at_130": at[130], "refused": run.refused, "p50_ms": run.p50_ms()}


def churn(engine: Engine, nodes: list[TraceNode], pods: list[TracePod], seed: int, load: float) -> dict[str, Any]:
    """Pods come and go at an offered load. Returns the share of GPUs that was refused after a third of the run."""
    run = Run(engine, nodes, pods, seed)
    rate = load * run.books.capacity / np.mean([pod.size for pod in pods])
    clock = 0.0
    ends: list[tuple[float, int]] = []
    asked = lost = 0
    failed: Counter[str] = Counter()
    for i in range(CHURN_ARRIVALS):
        clock += run.rng.exponential(1.0 / rate)
        while ends and ends[0][0] <= clock:
            run.leave(heapq.heappop(ends)[1])
        pod = replace(pods[int(run.rng.integers(len(pods)))], seq=i)
        life = run.rng.exponential(1.0)
        placed = run.place(pod)
        if placed:
            heapq.heappush(ends, (clock + life, i))
        if i > CHURN_ARRIVALS // 3:
            asked += pod.size
            lost += 0 if placed else pod.size
            failed["" if placed else "cpu" if not pod.num_gpu else "gpu"] += 1
    return {
        "seed": seed,
        "lost_percent": round(100 * lost / asked, 2),
        "moved_percent": round(100 * run.moves / CHURN_ARRIVALS, 2),
        "failed": failed["cpu"] + failed["gpu"],
        "refused": run.refused,
        "p50_ms": run.p50_ms(),
    }


def arrivals(pods: list[TracePod], capacity: int, rng: np.random.Generator) -> list[TracePod]:
    """The whole trace in random order, then draws from it (or random losses) until TUNE times the capacity."""
    order = [pods[i] for i in rng.permutation(len(pods)).tolist()]
    total = sum(pod.size for pod in order)
    limit = TUNE * capacity
    if total > limit:
        while total > limit:
            total -= order.pop(int(rng.integers(len(order)))).size
    else:
        while True:
            pod = pods[int(rng.integers(len(pods)))]
            if total + pod.gpu_milli > limit:
                break
            order.append(pod)
            total += pod.size
    return [replace(pod, seq=i) for i, pod in enumerate(order)]


def popular(pods: list[TracePod]) -> list[tuple[TracePod, float]]:
    """The paper's target workload: the most popular classes that cover 95 % of the pods, with their shares."""
    counts = Counter(pod.kind for pod in pods)
    example = {pod.kind: pod for pod in pods}
    ranked = sorted(counts.items(), key=lambda e: (e[1], e[0][0], e[0][2], e[0][1], e[0][3]), reverse=True)
    chosen, covered = [], 0
    for kind, count in ranked:
        if covered * 100 >= POPULAR_PERCENT * len(pods):
            break
        chosen.append((kind, count))
        covered += count
    return [(example[kind], count / covered) for kind, count in chosen]


def read_nodes(path: Path) -> list[TraceNode]:
    """The fleet of a trace."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        TraceNode(i, row["sn"], int(row["cpu_milli"]), int(row["memory_mib"]), int(row["gpu"]), row["model"])
        for i, row in enumerate(rows)
    ]


def read_pods(path: Path) -> list[TracePod]:
    """The pods of a trace."""
    with path.open(newline="") as file:
        return [_pod(row) for row in csv.DictReader(file)]


def _pod(row: dict[str, str]) -> TracePod:
    count = int(row["num_gpu"])
    share = min(int(row["gpu_milli"]), FULL) if count else 0
    spec = tuple(sorted({model for model in (row.get("gpu_spec") or "").split("|") if model}))
    return TracePod(-1, row["name"], int(row["cpu_milli"]), int(row["memory_mib"]), count, share, spec)


def compare(sim: ModuleType, folder: Path, name: str, mine: list[dict[str, Any]]) -> float:
    """The largest difference, in points, between this file's figures and fgdsim.py's on the same engine."""
    nodes = sim.load_nodes(str(folder / "openb_node_list_gpu_node.csv"))
    pods, _ = sim.load_pods(str(folder / f"openb_pod_list_{name}.csv"))
    worst = 0.0
    for run in mine:
        theirs = sim.replay(Engine(), nodes, pods, TUNE, run["seed"])["alloc"]
        worst = max(worst, abs(theirs[100] - run["at_100"]), abs(theirs[130] - run["at_130"]))
    return round(worst, 2)


def load_sim(path: Path) -> ModuleType:
    """fgdsim.py as a module."""
    spec = importlib.util.spec_from_file_location("fgdsim", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mean(runs: list[dict[str, Any]], key: str) -> float:
    """Mean of a figure over runs."""
    return round(float(np.mean([run[key] for run in runs])), 2)


def compared(kerf: list[dict[str, Any]], fgd: list[dict[str, Any]]) -> dict[str, float]:
    """The report's figures of a trace, with FGD's."""
    figures = {key: mean(kerf, key) for key in ("at_100", "at_130", "p50_ms")}
    figures |= {f"fgd_{key}": mean(fgd, key) for key in ("at_100", "at_130")}
    figures["refused"] = sum(run["refused"] for run in kerf)
    return figures


def table(traces: dict[str, dict[str, float]]) -> str:
    """Percent of the GPUs allocated once pods have asked for 100 % and 130 % of them."""
    lines = ["| trace | FGD at 100 / 130 % | Kerf at 100 / 130 % | difference |", "|---|---|---|---|"]
    for name, of in traces.items():
        gain = " / ".join(f"{of[key] - of[f'fgd_{key}']:+.2f}" for key in ("at_100", "at_130"))
        fgd, kerf = (f"{of[f'{who}at_100']:.2f} / {of[f'{who}at_130']:.2f}" for who in ("fgd_", ""))
        lines.append(f"| {name} | {fgd} | {kerf} | {gain} |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--traces", type=Path, required=True, help="folder with the openb CSV files")
    parser.add_argument("--names", default="", help="traces to replay, comma-separated; default: all in the folder")
    parser.add_argument("--seeds", default="42-43", help="first-last")
    parser.add_argument("--churn", type=float, default=0.97, help="offered load as a share of capacity; 0 skips churn")
    parser.add_argument("--sim", type=Path, help="fgdsim.py, to compare with")
    parser.add_argument("--no-mixed", action="store_true", help="leave out the placements on a fleet of six vendors")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    folder: Path = arguments.traces
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    found = sorted(path.stem.removeprefix("openb_pod_list_") for path in folder.glob("openb_pod_list_*.csv"))
    nodes = read_nodes(folder / "openb_node_list_gpu_node.csv")
    report: dict[str, Any] = {"traces": {}}
    for name in arguments.names.split(",") if arguments.names else found:
        pods = read_pods(folder / f"openb_pod_list_{name}.csv")
        runs, theirs = [], []
        for seed in seeds:
            theirs.append(fill(Fgd(), nodes, pods, seed))
            print(f"{name:12} fgd  {json.dumps(theirs[-1])}", flush=True)
            runs.append(fill(Engine(), nodes, pods, seed))
            print(f"{name:12} kerf {json.dumps(runs[-1])}", flush=True)
        figures = compared(runs, theirs)
        if arguments.sim:
            figures["differs_from_sim"] = compare(load_sim(arguments.sim), folder, name, runs)
        report["traces"][name] = figures
    if arguments.churn and "default" in report["traces"]:
        pods = read_pods(folder / "openb_pod_list_default.csv")
        for label, engine in (("churn", Engine), ("churn_with_moves", RepackEngine)):
            runs = []
            for seed in seeds:
                runs.append(churn(engine(), nodes, pods, seed, arguments.churn))
                print(f"{label} {json.dumps(runs[-1])}", flush=True)
            keys = ("lost_percent", "moved_percent", "p50_ms")
            report[label] = {"load": arguments.churn, **{key: mean(runs, key) for key in keys}}
            report[label]["refused"] = sum(run["refused"] for run in runs)
    if not arguments.no_mixed:
        report["mixed"] = mixed.measure()
        print(f"mixed fleet {json.dumps(report['mixed'])}", flush=True)
    print(table(report["traces"]))
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
