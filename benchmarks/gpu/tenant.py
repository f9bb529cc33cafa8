"""A PyTorch tenant: `tenant.py WORK SECONDS`. Prints {"ready": 1}, reads its start time, works and counts.

gemm: bf16 matrix products of 8192; small: elementwise operations of a few microseconds; decode: a tiny language
model's loop, one token at a time; copy: device copies of 1 GiB.
"""

import collections
import json
import sys
import time
from collections.abc import Callable

import torch


def gemm() -> Callable[[], None]:
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(x)

    def step() -> None:
        torch.mm(x, y, out=out)

    return step


def small() -> Callable[[], None]:
    x = torch.ones(1 << 16, device="cuda")

    def step() -> None:
        for _ in range(100):
            x.add_(1.0)

    return step


def copy() -> Callable[[], None]:
    x, y = (torch.empty(1 << 30, dtype=torch.uint8, device="cuda") for _ in range(2))

    def step() -> None:
        y.copy_(x)

    return step


def decode() -> Callable[[], None]:
    layers = [torch.nn.TransformerEncoderLayer(1024, 16, 4096, batch_first=True) for _ in range(8)]
    model = torch.nn.Sequential(*layers).to("cuda", torch.bfloat16).eval()
    x = torch.randn(8, 128, 1024, device="cuda", dtype=torch.bfloat16)

    def step() -> None:
        with torch.inference_mode():
            model(x)
        torch.cuda.synchronize()  # the next token needs this one

    return step


WORKS = {"gemm": gemm, "small": small, "copy": copy, "decode": decode}


def main(work: str, seconds: float) -> None:
    """Count finished steps per second."""
    step, pending, bins = WORKS[work](), collections.deque[torch.cuda.Event](), [0] * (int(seconds) + 2)
    for _ in range(20):
        step()
    torch.cuda.synchronize()
    print(json.dumps({"ready": 1}), flush=True)
    start = float(sys.stdin.readline())
    while time.monotonic() < start:
        time.sleep(0.0005)
    from_s = time.monotonic()
    latencies: list[float] = []
    while (now := time.monotonic()) < from_s + seconds:
        step()
        event = torch.cuda.Event()
        event.record()
        pending.append(event)
        if len(pending) > 8:
            pending.popleft().synchronize()
            bins[int(time.monotonic() - from_s)] += 1
        latencies.append(time.monotonic() - now)
    latencies.sort()
    p99 = latencies[int(len(latencies) * 0.99)] * 1e3
    print(json.dumps({"bins": bins[: int(seconds)], "done": sum(bins), "seconds": seconds, "p99_ms": p99}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
