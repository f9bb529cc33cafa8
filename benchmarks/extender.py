"""`make bench-extender`: the real extender process over real HTTP, 8 cards a node, with a fleet in use.

For each size, start the extender and measure the time to its first answer. Then schedule pods as kube-scheduler does:
filter with every node's name, prioritize the rest, bind to the best. So a few nodes change between any two calls. Each
cycle runs beside one of a handler that decides nothing, on the HTTP stack that Kerf began with (`empty_handler`), and
blocks of cycles in quiet alternate with blocks under a disturbance: pod events, plans, a follower that asks.
Then 1,000 nodes of six vendors and 1,000 of NVIDIA's alone take turns, each fleet with an extender of its own.
The last line is one JSON object: {"runs": [{"nodes", "pods", "p50_ms", "p99_ms", "empty_p50_ms", "empty_p99_ms",
"rss_mb", "start_s", "start_cpu_s", "cpu_ms_per_pod", "p99_events", "p99_plan", "p99_follower"}], "mixed": {"nodes",
"nvidia_answer_ms", "mixed_answer_ms", "answer_ratio"}}. The last three of a run are ratios to the p99 in quiet of the
same run. With `--viewers 10` a run also has {"viewers", "pairs", "none_p50_ms", "viewers_p50_ms", "ratio"}: with so
many pages open against none, the median of ten pairs.
"""

import argparse
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks import disturbances, empty_handler, mixed, viewers
from benchmarks.fake_api_server import SIZES, pending
from benchmarks.http_client import (
    Client,
    await_port,
    compile_all,
    cpu_s,
    free_port,
    peak_mb,
    spawn,
    write_kubeconfig,
)

SHAPES = len(SIZES)
WARM = 48
"""Pods of a mixed fleet, two of each class, that warm its lanes."""
BLOCK = 50
"""Cycles between two changes of what happens beside them."""
Disturb = Callable[[], AbstractContextManager[None]]


def main(argv: list[str] | None = None) -> int:
    """Measure every size and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000x8000,5000x40000", help="NODESxPODS, comma-separated")
    parser.add_argument("--calls", type=int, default=500, help="scheduling cycles a size")
    parser.add_argument("--viewers", type=int, default=0, help="also compare with so many open pages, in ten pairs")
    parser.add_argument("--disturbed", type=int, default=500, help="cycles a size under each disturbance")
    parser.add_argument("--mixed", type=int, default=1_000, help="nodes of the fleet of six vendors; 0 leaves it out")
    parser.add_argument(
        "--offer", choices=("best", "all"), default="best", help="the policy: docs/policies.md says more"
    )
    args = parser.parse_args(argv)
    for name, version in empty_handler.other_versions().items():
        print(f"the yardstick runs on {name} {version}, not {empty_handler.VERSIONS[name]}", file=sys.stderr)
    compile_all()
    runs = []
    for size in args.sizes.split(","):
        nodes, pods = (int(part) for part in size.split("x"))
        runs.append(measure(nodes, pods, args.calls, args.disturbed, args.viewers, args.offer))
        print(json.dumps(runs[-1]), flush=True)
    report = {"runs": runs} | ({"mixed": measure_mixed(args.mixed, args.calls)} if args.mixed else {})
    print(json.dumps(report))
    return 0


@dataclass
class World:
    """The running processes of one size."""

    api: Client
    kerf: Client
    empty: Client
    pid: int
    names: list[str]
    port: int
    orders: list[list[str]]
    numbers: int = 0
    kerf_s: list[float] = field(default_factory=list)
    empty_s: list[float] = field(default_factory=list)


def measure(
    nodes: int, pods: int, calls: int, disturbed: int, viewed: int = 0, offer: str = "best"
) -> dict[str, float]:
    """Measure one size."""
    api_port, port, empty_port, page_port = free_port(), free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        started: list[subprocess.Popen[bytes]] = [
            spawn("benchmarks.fake_api_server", "--port", api_port, "--nodes", nodes, "--pods", pods),
            spawn("benchmarks.empty_handler", "--port", empty_port),
        ]
        try:
            await_port(api_port)
            await_port(empty_port)
            kubeconfig = write_kubeconfig(Path(folder), api_port)
            begin = time.perf_counter()
            page = ("--page", f"127.0.0.1:{page_port}") if viewed else ()
            bind = ("--bind", f"127.0.0.1:{port}")
            config = ("--config", write_policy(Path(folder), offer))
            extender = spawn("scheduler", "--kubeconfig", kubeconfig, *bind, "--log-level", "error", *config, *page)
            started.append(extender)
            names = [f"node-{i:05}" for i in range(nodes)]
            world = World(
                Client(api_port), Client(port), Client(empty_port), extender.pid, names, port, orders_of(names)
            )
            await_first_answer(world.kerf, names)
            start = {"start_s": round(time.perf_counter() - begin, 2), "start_cpu_s": round(cpu_s(world.pid), 2)}
            found = {"nodes": nodes, "pods": pods, **measured(world, calls, disturbed), **start}
            return found | (viewers.ratios(page_port, viewed, lambda: block(world, calls)) if viewed else {})
        finally:
            for process in started:
                process.kill()
                process.wait()


def write_policy(folder: Path, offer: str) -> Path:
    """A policy file that says what kube-scheduler chooses from."""
    path = folder / "policy.json"
    spec = {"offer": offer}
    path.write_text(json.dumps({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": spec}))
    return path


def measure_mixed(nodes: int, calls: int) -> dict[str, float]:
    """Medians of filter + prioritize on a fleet of six vendors and on one of NVIDIA's alone, in turns."""
    names = [f"node-{i:05}" for i in range(nodes)]
    orders = orders_of(names)
    times: dict[int, list[float]] = {1: [], len(mixed.WORDS): []}
    clients: dict[int, Client] = {}
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for kinds in times:
                api_port, port = free_port(), free_port()
                flags = ("--port", api_port, "--nodes", nodes, "--pods", 0, "--kinds", kinds)
                started.append(spawn("benchmarks.fake_api_server", *flags))
                await_port(api_port)
                (home := Path(folder) / str(kinds)).mkdir()
                where = ("--kubeconfig", write_kubeconfig(home, api_port), "--bind", f"127.0.0.1:{port}")
                started.append(spawn("scheduler", *where, "--log-level", "error"))
                clients[kinds] = Client(port)
                await_first_answer(clients[kinds], names)
            for number in range(calls + WARM):
                for kinds, client in clients.items():
                    schedule(client, mixed.pod(number, kinds), orders[number % len(orders)], times[kinds])
        finally:
            for process in started:
                process.kill()
                process.wait()
    ours, others = (statistics.median(each[WARM:]) * 1000 for each in times.values())
    found = {"nvidia_answer_ms": round(ours, 3), "mixed_answer_ms": round(others, 3)}
    return {"nodes": nodes, **found, "answer_ratio": round(others / ours, 2)}


def measured(world: World, calls: int, disturbed: int) -> dict[str, float]:
    """Answers beside the empty handler's, memory, and answers under each disturbance."""
    cycle(world, 2 * SHAPES)  # the first pods of each class warm its lane, as in any running scheduler
    world.kerf_s.clear()
    world.empty_s.clear()
    before = cpu_s(world.pid)
    cycle(world, calls)
    cpu_ms = (cpu_s(world.pid) - before) / calls * 1000
    kerf, empty = sorted(world.kerf_s), sorted(world.empty_s)
    found = {
        "p50_ms": round(kerf[len(kerf) // 2] * 1000, 2),
        "p99_ms": round(kerf[int(len(kerf) * 0.99)] * 1000, 2),
        "empty_p50_ms": round(empty[len(empty) // 2] * 1000, 2),
        "empty_p99_ms": round(empty[int(len(empty) * 0.99)] * 1000, 2),
        "cpu_ms_per_pod": round(cpu_ms, 2),
        "rss_mb": peak_mb(world.pid),
    }
    follower = Client(world.port)
    kinds: dict[str, Disturb] = {
        "p99_events": lambda: disturbances.pod_events(world.api),
        "p99_plan": lambda: disturbances.plans(world.api),
        "p99_follower": lambda: disturbances.follower(follower, world.names),
    }
    for name, disturb in kinds.items() if disturbed else ():
        found[name] = round(p99_ratio(world, disturb, disturbed), 2)
    return found


def block(world: World, calls: int) -> float:
    """The median of some cycles, in milliseconds."""
    world.kerf_s.clear()
    cycle(world, calls, empty=False)
    return statistics.median(world.kerf_s) * 1000


def p99_ratio(world: World, disturb: Disturb, calls: int) -> float:
    """The p99 under a disturbance, divided by the p99 of the blocks in quiet between."""
    quiet: list[float] = []
    under: list[float] = []
    for _ in range(max(1, calls // BLOCK)):
        for beside, times in ((disturbances.nothing, quiet), (disturb, under)):
            world.kerf_s.clear()
            with beside():
                cycle(world, BLOCK, empty=False)
            times.extend(world.kerf_s)
    return sorted(under)[int(len(under) * 0.99)] / sorted(quiet)[int(len(quiet) * 0.99)]


def cycle(world: World, calls: int, *, empty: bool = True) -> None:
    """Schedule pods one by one; the seconds of filter + prioritize, without the bind, of both servers."""
    for _ in range(calls):
        pod, names = pending(world.numbers), world.orders[world.numbers % len(world.orders)]
        world.numbers += 1
        if empty:
            schedule(world.empty, pod, names, world.empty_s)
        schedule(world.kerf, pod, names, world.kerf_s)


def orders_of(names: list[str]) -> list[list[str]]:
    """Orders as kube-scheduler sends them: it begins elsewhere with every pod, and workers finish in any order."""
    rng = random.Random(1)
    found = []
    for _ in range(7):
        start = rng.randrange(len(names))
        order = names[start:] + names[:start]
        for at in range(0, len(order) - 1, 3):
            other = min(at + rng.randrange(70), len(order) - 1)
            order[at], order[other] = order[other], order[at]
        found.append(order)
    return found


def schedule(client: Client, pod: dict[str, dict[str, str]], names: list[str], times: list[float]) -> None:
    """One pod at one server. Where filter leaves one node, kube-scheduler takes it and asks no more."""
    begin = time.perf_counter()
    best, *others = fits = orjson.loads(client.post("/filter", {"Pod": pod, "NodeNames": names}))["NodeNames"]
    if others:
        scores = orjson.loads(client.post("/prioritize", {"Pod": pod, "NodeNames": fits}))
        best = max(scores, key=lambda entry: entry["Score"])["Host"]
    times.append(time.perf_counter() - begin)
    meta = pod["metadata"]
    bind = {"PodNamespace": "default", "PodName": meta["name"], "PodUID": meta["uid"], "Node": best}
    answer = orjson.loads(client.post("/bind", bind))
    if answer["Error"]:
        raise SystemExit(f"bind failed: {answer['Error']}")


def await_first_answer(client: Client, names: list[str]) -> None:
    """Wait until filter answers."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        try:
            client.post("/filter", {"Pod": pending(0), "NodeNames": names})
            return
        except (OSError, ValueError, http.client.HTTPException):
            client.close()
            time.sleep(0.02)
    raise SystemExit("the extender did not answer within 600 s")


if __name__ == "__main__":
    sys.exit(main())
