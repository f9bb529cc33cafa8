"""Whether models fit the slices that `kerf model estimate` gives them: run.sh 6.

Each row of the catalogue gets random weights and runs in a slice of exactly the estimate's size under libkerf: its
weights, a KV cache as large as the engine's, a step of all its tokens, single steps, and CUDA graphs of them. The
ledger says what the container held at most, the CUDA context included. transformers replaces the engine, so this
checks the sum of weights, cache, activations and context, not an engine's own extra buffers.

A row is {"model", "slice_mib", "peak_mib", "share", "fits"}; the last line sums up.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

MODELS = (
    "qwen2.5-0.5b", "qwen3-0.6b", "qwen3-1.7b", "qwen3-8b", "smollm3-3b", "llama-3.1-8b", "phi-4", "gemma-2-2b",
    "gemma-3-4b-text", "bge-reranker-v2-m3", "jina-embeddings-v3",
    "modernbert-base",
)  # fmt: skip
MAX_LEN, CONCURRENCY, TOKENS = 4096, 4, 2048
SHORT = 256
"""Tokens of transformers' own cache, which it reads as a whole at each step. The rest of the engine's is a pool."""
MIB = 2**20
Built: TypeAlias = Any
"""What transformers makes."""


def measure() -> int:
    """Estimate and run each model in a container of its own."""
    from lab import OUT, Bench, Slice

    from kerf.catalogue import shipped
    from kerf.sizing.request import Ask

    rows = []
    names = os.environ.get("KERF_BENCH_MODELS", "").split(",") if os.environ.get("KERF_BENCH_MODELS") else MODELS
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for name in names:
            found = shipped().estimate(name, Ask(max_len=MAX_LEN, concurrency=CONCURRENCY, batched_tokens=TOKENS))
            row: dict[str, Any] = {"model": name, "slice_mib": found.slice_mib, "weights_mib": found.weights_mib}
            try:
                seen = bench.run(
                    [sys.executable, HERE / "models.py", name, str(found.kv_bytes)], Slice(found.slice_mib), timeout=240
                )
                row |= {key: seen[key] for key in ("params", "torch_mib", "peak_mib", "denied")}
                row["share"] = round(seen["peak_mib"] / found.slice_mib, 3)
                row["fits"] = seen["denied"] == 0
            except RuntimeError as error:
                row |= {"fits": False, "error": str(error)[-400:]}
            rows.append(row)
            print(json.dumps(row), flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "part6.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    families = sorted({shipped().find(row["model"]).config["model_type"] for row in rows if row["fits"]})
    print(json.dumps({"models": len(rows), "fit": sum(row["fits"] for row in rows), "families": families}))
    return 0 if all(row["fits"] for row in rows) else 1


def serve(name: str, kv_bytes: int) -> dict[str, Any]:
    """Build, fill the cache, run steps and graphs. What the container held at most, from its own ledger."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from kerf.catalogue import shipped
    from kerf.wire.limiter import parse_ledger

    document = dict(shipped().find(name).config)
    config = CONFIG_MAPPING[document["model_type"]].from_dict(document)
    generates = kv_bytes > 0
    auto = transformers.AutoModelForCausalLM if generates else transformers.AutoModel
    with torch.device("meta"):
        model = auto.from_config(config, dtype=torch.bfloat16).eval()
    model = model.to_empty(device="cuda")  # an engine reads its weights in place, so nothing is held twice
    model.tie_weights()
    torch.cuda.empty_cache()
    with torch.inference_mode():
        for part in model.parameters():
            part.uniform_(-0.02, 0.02)
        (_decode if generates else _encode)(model, config, kv_bytes)
    torch.cuda.synchronize()
    card = parse_ledger(Path(os.environ["KERF_LEDGER"]).read_bytes()).cards[0]
    return {
        "params": sum(part.numel() for part in model.parameters()),
        "torch_mib": torch.cuda.max_memory_reserved() // MIB,
        "peak_mib": -(-card.peak_bytes // MIB),
        "denied": card.denied,
    }


def _encode(model: Built, config: Built, _kv_bytes: int) -> None:
    import torch

    length = min(TOKENS // CONCURRENCY, config.max_position_embeddings - 2)
    for _ in range(3):
        model(input_ids=torch.randint(5, 1000, (CONCURRENCY, length), device="cuda"))


def _decode(model: Built, config: Built, kv_bytes: int) -> None:
    """A cache of the engine's size, a step of all tokens, single steps, and graphs for each batch size."""
    import torch
    from transformers import StaticCache

    tokens = torch.randint(5, 1000, (CONCURRENCY, TOKENS // CONCURRENCY), device="cuda")
    before = torch.cuda.memory_allocated()
    cache = StaticCache(
        config=config, max_batch_size=CONCURRENCY, max_cache_len=SHORT, device="cuda", dtype=torch.bfloat16
    )
    model(input_ids=tokens[:, : SHORT // 2], past_key_values=cache, use_cache=True, logits_to_keep=1)
    short = torch.cuda.memory_allocated() - before
    pool = torch.empty(max(0, kv_bytes - short), dtype=torch.uint8, device="cuda")
    model(input_ids=tokens, use_cache=False, logits_to_keep=1)
    at = torch.tensor([SHORT // 2], device="cuda")
    one = torch.randint(5, 1000, (CONCURRENCY, 1), device="cuda")

    def step() -> Built:
        return model(input_ids=one, past_key_values=cache, cache_position=at, use_cache=True).logits

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graphs = []
    for _ in range(3):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=graphs[0].pool() if graphs else None):
            step()
        graph.replay()
        graphs.append(graph)
    torch.cuda.synchronize()
    del pool


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(serve(sys.argv[1], int(sys.argv[2]))))
    else:
        sys.exit(measure())
