"""Test cases of PyTorch under the limiter, in their own process: `smoke.py CASE,… LIMIT_MIB`. Exits 0 if all pass."""

import gc
import sys
import time
from pathlib import Path

import torch

GIB = 2**30


def fill(step: int) -> tuple[list[torch.Tensor], int, str]:
    """Allocate blocks of `step` bytes until the limit. Returns the blocks, the bytes and the exception."""
    blocks: list[torch.Tensor] = []
    try:
        while len(blocks) * step < 200 * GIB:
            blocks.append(torch.empty(step, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError as error:
        return blocks, len(blocks) * step, type(error).__name__
    return blocks, len(blocks) * step, "nothing"


def memory(limit: int) -> dict[str, object]:
    """Fill the slice, get the right error, free, fill it again."""
    free, total = torch.cuda.mem_get_info()
    blocks, granted, raised = fill(64 << 20)
    del blocks
    gc.collect()
    torch.cuda.empty_cache()
    blocks, again, _ = fill(64 << 20)
    del blocks
    torch.cuda.empty_cache()
    assert total == limit, (total, limit)
    assert raised == "OutOfMemoryError", raised
    assert granted <= limit, (granted, limit)
    assert granted > limit - GIB, (granted, limit)
    assert again >= granted - (64 << 20), (again, granted)
    return {"total": total, "free": free, "granted": granted, "again": again}


def graph(_: int) -> dict[str, object]:
    """Capture and replay a graph, with the pacer active."""
    x = torch.randn(2048, 2048, device="cuda", dtype=torch.bfloat16)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _i in range(3):
            y = x @ x
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        y = x @ x
        for _i in range(20):
            y = torch.relu(y + 1)
    for _i in range(500):
        captured.replay()
    torch.cuda.synchronize()
    assert torch.isfinite(y.float()).all()
    return {"replays": 500}


def triton_kernel(_: int) -> dict[str, object]:
    """Compile and run a Triton kernel."""
    sys.path.insert(0, str(Path(__file__).parent))
    from triton_add import add

    x, y = torch.rand(1 << 20, device="cuda"), torch.rand(1 << 20, device="cuda")
    for _i in range(200):
        z = add(x, y)
    torch.cuda.synchronize()
    assert torch.allclose(z, x + y)
    return {"launches": 200}


def blas(_: int) -> dict[str, object]:
    """The cuBLAS and cuDNN libraries start and work. Reports the limited rate."""
    x = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    image, kernel = torch.randn(8, 64, 64, 64, device="cuda"), torch.randn(64, 64, 3, 3, device="cuda")
    torch.nn.functional.conv2d(image, kernel)
    torch.cuda.synchronize()
    from_s = time.monotonic()
    for _i in range(300):
        x @ x
    torch.cuda.synchronize()
    return {"gemm_per_s": 300 / (time.monotonic() - from_s)}


def _child(rank: int, queue: "torch.multiprocessing.Queue[int]") -> None:
    block = torch.ones(256 << 20, dtype=torch.uint8, device="cuda")
    queue.put(int(block.sum().item()) + rank)


def processes(_: int) -> dict[str, object]:
    """Spawned children share the slice, and a DataLoader's forked workers cause no error."""
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=_child, args=(rank, queue)) for rank in range(2)]
    for child in children:
        child.start()
    sums = sorted(queue.get(timeout=120) for _ in children)
    for child in children:
        child.join(60)
    data = torch.utils.data.DataLoader(torch.arange(4096.0), batch_size=256, num_workers=2)
    total = sum(batch.cuda().sum().item() for batch in data)
    assert sums == [256 << 20, (256 << 20) + 1]
    assert total == 4095 * 4096 / 2
    return {"children": len(sums)}


CASES = {"memory": memory, "graph": graph, "triton": triton_kernel, "blas": blas, "processes": processes}

if __name__ == "__main__":
    limit = int(sys.argv[2]) << 20
    for name in sys.argv[1].split(","):
        started = time.monotonic()
        print(name, CASES[name](limit), f"{time.monotonic() - started:.1f} s", flush=True)
