"""Inference tenants in PyTorch: `works.py WORK SECONDS SEED [WINDOWS]`. Says {"ready": 1}, reads its start time, works.

It does so WINDOWS times (1), so that programs which are all there can work in turns.
chat: Poisson requests, 8 a second, one prefill and 24 decode steps each; decode: a small transformer, each step waited
for; graph: the same step as a CUDA graph; paged: decode steps with gathered key and value pages; spec: bursts of six
draft steps and one verification, waited for; gemm: bf16 products of 8192 back to back; tiny: elementwise kernels that
are not waited for; tp: two ranks on two cards, a product and an all-reduce of 4 MiB each step.

The last line is {"work": N, "seconds": S, "latencies_ms": [...]}: steps done, and how long each request (chat, spec) or
step took. A chat adds "served_ms": the same without the wait for the requests before.
"""

import collections
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed

LAYERS, WIDTH, HEADS, CONTEXT = 12, 1024, 16, 512
Step = Callable[[], None]


class Block(torch.nn.Module):
    """One transformer layer that decodes against a cache of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.out = torch.nn.Linear(WIDTH, WIDTH)
        self.up = torch.nn.Linear(WIDTH, 4 * WIDTH)
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH)
        self.first, self.second = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        q, _, _ = self.qkv(self.first(x)).chunk(3, dim=-1)
        q = q.view(rows, length, HEADS, -1).transpose(1, 2)
        seen = torch.nn.functional.scaled_dot_product_attention(q, keys, values)
        x = x + self.out(seen.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.down(torch.nn.functional.gelu(self.up(self.second(x))))


class Model:
    """A small language model's kernels: no weights worth having, the shapes of real ones."""

    def __init__(self, rows: int = 8) -> None:
        self.blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS)).to("cuda", torch.bfloat16).eval()
        shape = (rows, HEADS, CONTEXT, WIDTH // HEADS)
        self.keys, self.values = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        self.token = torch.randn(rows, 1, WIDTH, device="cuda", dtype=torch.bfloat16)
        self.prompt = torch.randn(1, CONTEXT, WIDTH, device="cuda", dtype=torch.bfloat16)
        self.pages = torch.randint(0, CONTEXT // 16, (CONTEXT // 16,), device="cuda")

    def run(self, x: torch.Tensor, rows: int | None = None) -> torch.Tensor:
        with torch.inference_mode():
            for block in self.blocks:
                x = block(x, self.keys[:rows], self.values[:rows])
            return x

    def paged(self) -> torch.Tensor:
        """A decode step that gathers the cache by pages of 16 tokens, as paged attention does."""
        with torch.inference_mode():
            x, shape = self.token, self.keys.shape
            for block in self.blocks:
                keys, values = (
                    cache.view(shape[0], HEADS, -1, 16, shape[3]).index_select(2, self.pages).view(shape)
                    for cache in (self.keys, self.values)
                )
                x = block(x, keys, values)
            return x


def waited(step: Callable[[], object]) -> Step:
    def run() -> None:
        step()
        torch.cuda.synchronize()

    return run


def decode() -> Step:
    model = Model()
    return waited(lambda: model.run(model.token))


def paged() -> Step:
    return waited(Model().paged)


def graph() -> Step:
    model, stream, captured = Model(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        model.run(model.token)
    torch.cuda.synchronize()
    with torch.cuda.graph(captured):
        model.run(model.token)
    return waited(captured.replay)


def spec() -> Step:
    draft, target = Model(rows=1), Model()

    def burst() -> None:
        for _ in range(6):
            draft.run(draft.token)
        target.run(target.token)

    return waited(burst)


def gemm() -> Step:
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(x)

    def step() -> None:
        torch.mm(x, y, out=out)

    return step


def tiny() -> Step:
    x = torch.ones(1 << 16, device="cuda")

    def step() -> None:
        for _ in range(50):
            x.add_(1.0)

    return step


WORKS: dict[str, Callable[[], Step]] = {
    "decode": decode, "paged": paged, "graph": graph, "spec": spec, "gemm": gemm, "tiny": tiny,
}  # fmt: skip
WAITED = {"decode", "paged", "graph", "spec"}


def wait_for_start() -> float:
    torch.cuda.synchronize()
    print(json.dumps({"ready": 1}), flush=True)
    start = float(sys.stdin.readline())
    while time.monotonic() < start:
        time.sleep(0.0005)
    return start


def say(work: int, seconds: float, latencies: list[float], **more: list[float]) -> None:
    lists = {name: [round(one * 1e3, 3) for one in values] for name, values in {"latencies": latencies, **more}.items()}
    millis = {f"{name}_ms": values for name, values in lists.items()}
    print(json.dumps({"work": work, "seconds": seconds, **millis}), flush=True)


def chat(seconds: float, seed: int, windows: int) -> None:
    """Requests come by a clock of their own; one is served at a time, its wait counts."""
    model = Model()
    step = waited(lambda: model.run(model.token))

    def request() -> None:
        model.run(model.prompt, rows=1)
        torch.cuda.synchronize()
        for _ in range(24):
            step()

    for _ in range(10):
        request()
    for window in range(windows):
        draw, start = random.Random(seed + window), wait_for_start()
        arrival, latencies, served = start, list[float](), list[float]()
        while (arrival := arrival + draw.expovariate(8)) < start + seconds:
            time.sleep(max(0.0, arrival - time.monotonic()))
            if time.monotonic() > start + seconds:
                break
            began = time.monotonic()
            request()
            latencies.append(time.monotonic() - arrival)
            served.append(time.monotonic() - began)
        say(len(latencies), seconds, latencies, served=served)


def loop(work: str, seconds: float, windows: int) -> None:
    """Steps one after the other; those that are not waited for run at most 16 ahead."""
    step = WORKS[work]()
    for _ in range(30):
        step()
    for _ in range(windows):
        start, latencies = wait_for_start(), list[float]()
        ahead, done = collections.deque[torch.cuda.Event](), 0
        while (now := time.monotonic()) < start + seconds:
            step()
            if work in WAITED:
                done += 1
                latencies.append(time.monotonic() - now)
                continue
            event = torch.cuda.Event()
            event.record()
            ahead.append(event)
            if len(ahead) > 16:
                ahead.popleft().synchronize()
                done += 1
        say(done, seconds, latencies)


def join(rank: int, port: str) -> Step:
    """This rank's step in its pair: a product and an all-reduce of 4 MiB."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.cuda.set_device(rank)
    distributed.init_process_group("nccl", rank=rank, world_size=2)
    x = torch.randn(2048, 1024, device="cuda", dtype=torch.bfloat16)
    y = torch.randn(1024, 1024, device="cuda", dtype=torch.bfloat16)
    out = torch.empty(2048, 1024, device="cuda", dtype=torch.bfloat16)

    def step() -> None:
        torch.mm(x, y, out=out)
        distributed.all_reduce(out)

    return step


def start_together(rank: int) -> float:
    """The start time, which rank 0 reads and passes on by a file."""
    path = Path(os.environ["KERF_TP_START"])
    if rank == 0:
        part = path.with_suffix(".part")
        part.write_text(repr(wait_for_start()))
        part.replace(path)
    while not path.exists():
        time.sleep(0.001)
    start = float(path.read_text())
    while time.monotonic() < start:
        time.sleep(0.0005)
    return start


def run_rank(rank: int, port: str, seconds: float) -> None:
    """One rank of a tensor-parallel pair; at most eight steps ahead, both ranks stop at the same step."""
    step, stop = join(rank, port), torch.zeros(1, device="cuda")
    for _ in range(30):
        step()
    torch.cuda.synchronize()
    distributed.barrier()
    start = start_together(rank)
    ahead, latencies, last, turn = collections.deque[torch.cuda.Event](), list[float](), time.monotonic(), 0
    while turn % 50 or stop.item() == 0:
        step()
        event = torch.cuda.Event()
        event.record()
        ahead.append(event)
        if len(ahead) > 8:
            ahead.popleft().synchronize()
            now = time.monotonic()
            latencies.append(now - last)
            last = now
        turn += 1
        if turn % 50 == 0:
            stop.fill_(float(rank == 0 and time.monotonic() > start + seconds))
            distributed.all_reduce(stop)
    if rank == 0:
        say(len(latencies), time.monotonic() - start, latencies)
    sys.stdout.flush()
    os._exit(0)  # the other pair may still run; no need to take NCCL apart


def run_pair(seconds: float, seed: int) -> None:
    """Both ranks as processes of this container."""
    environment = {**os.environ, "KERF_TP_START": f"/tmp/kerf-tp-{os.getpid()}"}
    command = [sys.executable, __file__, "tp", str(seconds), str(seed)]
    second = subprocess.Popen(
        command, env={**environment, "KERF_TP_RANK": "1"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    subprocess.run(command, env={**environment, "KERF_TP_RANK": "0"}, check=True)
    second.wait()


def main(work: str, seconds: float, seed: int, windows: int = 1) -> None:
    if work == "chat":
        chat(seconds, seed, windows)
    elif work == "tp" and "KERF_TP_RANK" in os.environ:
        run_rank(int(os.environ["KERF_TP_RANK"]), str(20000 + seed * 7 % 20000), seconds)
    elif work == "tp":
        run_pair(seconds, seed)
    else:
        loop(work, seconds, windows)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *map(int, sys.argv[4:5]))
