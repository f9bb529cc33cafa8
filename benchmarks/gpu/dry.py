"""works.py on the fake driver, for `run.sh 8 --dry-run`: the same arguments and answers, kernels of a given length.

The works differ in what a step launches and whether it is waited for, as those of works.py do. `tp` is a pair of
processes whose kernels wait for each other.
"""

import ctypes
import json
import os
import random
import subprocess
import sys
import time

CUDA = ctypes.CDLL("libcuda.so.1")
US = 1000
WORKS = {"decode": (60, 20 * US), "graph": (1, 900 * US), "gemm": (1, 1400 * US), "tiny": (50, 5 * US)}
"""Kernels of a step, and how long each takes."""
WAITED = {"decode", "graph"}


def open_card(device: int) -> None:
    context = ctypes.c_void_p()
    assert CUDA.cuInit(0) == 0
    assert CUDA.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    assert CUDA.cuCtxSetCurrent(context) == 0


def launch(ns: int) -> None:
    sizes = (ctypes.c_uint(1),) * 6
    assert CUDA.cuLaunchKernel(ctypes.c_void_p(ns), *sizes, ctypes.c_uint(0), None, None, None) == 0


def wait() -> None:
    assert CUDA.cuCtxSynchronize() == 0


def wait_for_start() -> float:
    print(json.dumps({"ready": 1}), flush=True)
    start = float(sys.stdin.readline())
    time.sleep(max(0.0, start - time.monotonic()))
    return start


def say(work: int, seconds: float, latencies: list[float], **more: list[float]) -> None:
    millis = {f"{name}_ms": [one * 1e3 for one in many] for name, many in {"latencies": latencies, **more}.items()}
    print(json.dumps({"work": work, "seconds": seconds, **millis}), flush=True)


def step(work: str) -> None:
    kernels, ns = WORKS[work]
    for _ in range(kernels):
        launch(ns)
    if work in WAITED:
        wait()


def loop(work: str, seconds: float) -> None:
    start, latencies, done = wait_for_start(), list[float](), 0
    while (now := time.monotonic()) < start + seconds:
        step(work)
        done += 1
        latencies += [time.monotonic() - now] if work in WAITED else []
    say(done, seconds, latencies)


def chat(seconds: float, seed: int) -> None:
    draw, start = random.Random(seed), wait_for_start()
    arrival, latencies, served = start, list[float](), list[float]()
    while (arrival := arrival + draw.expovariate(8)) < start + seconds:
        time.sleep(max(0.0, arrival - time.monotonic()))
        began = time.monotonic()
        for _ in range(5):
            step("decode")
        latencies.append(time.monotonic() - arrival)
        served.append(time.monotonic() - began)
    say(len(latencies), seconds, latencies, served=served)


def rank(device: int, group: int, seconds: float) -> None:
    open_card(device)
    start, latencies = wait_for_start() if device == 0 else time.monotonic(), list[float]()
    while (now := time.monotonic()) < start + seconds:
        launch(50 * US)
        launch(30 * US | group << 40)
        latencies.append(time.monotonic() - now)
    if device == 0:
        say(len(latencies), seconds, latencies)
    sys.stdout.flush()
    os._exit(0)  # the other rank's last collective may wait for ever


def main(work: str, seconds: float, seed: int, windows: int = 1) -> None:
    if work == "tp" and "KERF_TP_RANK" in os.environ:
        rank(int(os.environ["KERF_TP_RANK"]), seed % 7 + 1, seconds)
    if work == "tp":
        command = [sys.executable, __file__, "tp", str(seconds + 3), str(seed)]
        second = subprocess.Popen(command, env={**os.environ, "KERF_TP_RANK": "1"}, stdout=subprocess.DEVNULL)
        command[3] = str(seconds)
        subprocess.run(command, env={**os.environ, "KERF_TP_RANK": "0"}, check=True)
        second.kill()
        return
    open_card(0)
    for window in range(windows):
        chat(seconds, seed + window) if work == "chat" else loop(work, seconds)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *map(int, sys.argv[4:5]))
