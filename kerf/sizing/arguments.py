"""The engine's arguments for a slice. Sizes are plain integers: `32k` is 32,000 to vLLM and `32K` is 32,768."""

from dataclasses import dataclass

from kerf.sizing.overheads import CONTEXT_MIB, step_tokens
from kerf.sizing.request import SGLANG, Ask
from kerf.sizing.weights import Ranks

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Served:
    """What the arguments depend on."""

    ask: Ask
    ranks: Ranks
    max_len: int
    kv_dtype: str
    kv_bytes: int
    slice_mib: int
    generates: bool
    static: int
    """Bytes of weights and cache."""
    block: int = 0
    """Tokens of a block of the cache, where vLLM has to be given them."""


def render(served: Served) -> tuple[str, ...]:
    """The arguments, without the model's name and the port."""
    return _sglang(served) if served.ask.runtime == SGLANG else _vllm(served)


def utilization(slice_mib: int) -> str:
    """The share of the slice that is surely free when vLLM starts: all but the CUDA context, rounded down.

    vLLM 0.33.0 refuses to start where less than this is free, even with --kv-cache-memory-bytes, and its default of
    0.92 is more than a small slice has beside a context of up to 600 MiB.
    """
    percent = max(1, (slice_mib - CONTEXT_MIB[1]) * 100 // slice_mib)
    return f"{percent / 100:.2f}"


def _vllm(served: Served) -> tuple[str, ...]:
    ask, ranks = served.ask, served.ranks
    tokens = step_tokens(ask, served.max_len, generates=served.generates)
    args = [
        "--max-model-len", str(served.max_len),
        "--max-num-seqs", str(ask.concurrency),
        "--max-num-batched-tokens", str(tokens),
        "--gpu-memory-utilization", utilization(served.slice_mib),
    ]  # fmt: skip
    if served.generates:
        args += ["--kv-cache-memory-bytes", str(served.kv_bytes)]
        if ask.kv_dtype != "auto":
            args += ["--kv-cache-dtype", ask.kv_dtype]
        if served.block:
            args += ["--block-size", str(served.block)]
    else:
        args += ["--runner", "pooling"]
    if ask.loras:
        args += ["--enable-lora", "--max-loras", str(ask.loras), "--max-lora-rank", str(ask.lora_rank)]
    if ask.quantization and ask.quantization != "none":
        args += ["--quantization", ask.quantization]
    if ranks.tp > 1:
        # CUDA IPC between slices fails.
        args += ["--tensor-parallel-size", str(ranks.tp), "--disable-custom-all-reduce"]
    if ranks.pp > 1:
        args += ["--pipeline-parallel-size", str(ranks.pp)]
    return (*args, "--enable-expert-parallel") if ranks.ep > 1 else tuple(args)


def _sglang(served: Served) -> tuple[str, ...]:
    ask, ranks = served.ask, served.ranks
    free = (served.slice_mib - CONTEXT_MIB[0]) * MIB
    fraction = min(0.99, -(-served.static * 1000 // free) / 1000)
    args = [
        "--context-length", str(served.max_len),
        "--max-running-requests", str(ask.concurrency),
        "--chunked-prefill-size", str(ask.batched_tokens),
        "--cuda-graph-max-bs-decode", str(ask.concurrency),
        "--mem-fraction-static", f"{fraction:.3f}",
        "--enable-metrics",
    ]  # fmt: skip
    if served.generates:
        args += ["--max-total-tokens", str(served.max_len * ask.concurrency)]
        if ask.kv_dtype != "auto":
            args += ["--kv-cache-dtype", ask.kv_dtype]
    else:
        args.append("--is-embedding")
    if ask.quantization and ask.quantization != "none":
        args += ["--quantization", ask.quantization]
    if ranks.tp > 1:
        args += ["--tp-size", str(ranks.tp), "--disable-custom-all-reduce"]
    if ranks.pp > 1:
        args += ["--pp-size", str(ranks.pp)]
    return (*args, "--ep-size", str(ranks.ep)) if ranks.ep > 1 else tuple(args)
