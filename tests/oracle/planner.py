"""`make oracle`: bytes of KV per request from vLLM's own planner, with each model's layers as transformers names them.

The planner runs on specs alone, so no GPU is needed. Blocks are 16 tokens (64 for latent attention), as on a GPU; the
block that recurrent layers need comes from vLLM's own state shapes.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch
from parameters import from_row
from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator
from vllm.v1.core import kv_cache_planning as planning
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheLayout,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowMLASpec,
    SlidingWindowSpec,
)

LENGTHS = (4096, 32768)
IN_FLIGHT = (2048, 4096, 16384)
TPS = (1, 2, 4)


def settings(length: int, in_flight: int, cache) -> SimpleNamespace:
    """What the planner reads of a server's settings."""
    return SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=length, supports_kv_cache_grouping=False),
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False, max_num_encoder_input_tokens=0),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1),
        cache_config=cache,
        attention_config=SimpleNamespace(hisparse_config=None),
        speculative_config=None,
        max_in_flight_tokens=in_flight,
    )


def caching(*, packed: bool) -> SimpleNamespace:
    """DeepSeek V4's indexer takes blocks alone that hold all layers' pages side by side."""
    layout = next(one for one in KVCacheLayout if one.is_block_outermost is packed)
    return SimpleNamespace(
        get_resolved_kv_cache_layout=lambda: layout,
        num_gpu_blocks_override=None,
        mamba_cache_mode="align",
        prefix_cache_retention_interval=None,
    )


def specs(config, tp: int) -> dict:
    """One spec for each layer that keeps something."""
    text = config.get_text_config()
    if text.model_type == "deepseek_v4":
        return compressed(text)
    if getattr(text, "kv_lora_rank", None):
        width = text.kv_lora_rank + text.qk_rope_head_dim
        one = MLAAttentionSpec(block_size=64, num_kv_heads=1, head_size=width, dtype=torch.bfloat16)
        return {f"layers.{i}": one for i in range(text.num_hidden_layers)}
    words = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    # Full layers of Gemma 4 have wider and fewer heads.
    own = text.per_layer_config if text.model_type == "gemma4_text" else None
    heads = 0 if own else max(1, (text.num_key_value_heads or text.num_attention_heads) // tp)
    dim = 0 if own else getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    block, state = 16, None
    if {"linear_attention", "mamba"} & set(words):
        state = recurrent(text, tp)
        block = 16 * max(1, -(-state.page_size_bytes // (16 * 4 * heads * dim)))
    found = {}
    for i, word in enumerate(words):
        if own:
            heads, dim = max(1, own[i].num_key_value_heads // tp), own[i].head_dim
        common = {"block_size": block, "num_kv_heads": heads, "head_size": dim, "dtype": torch.bfloat16}
        if word in {"full_attention", "attention"}:
            found[f"layers.{i}"] = FullAttentionSpec(**common)
        elif word == "sliding_attention":
            found[f"layers.{i}"] = SlidingWindowSpec(**common, sliding_window=text.sliding_window)
        elif word == "chunked_attention":
            found[f"layers.{i}"] = ChunkedLocalAttentionSpec(**common, attention_chunk_size=text.attention_chunk_size)
        elif word in {"linear_attention", "mamba"}:
            page = block * 4 * heads * dim
            found[f"layers.{i}"] = MambaSpec(
                block_size=block,
                shapes=state.shapes,
                dtypes=state.dtypes,
                mamba_cache_mode="align",
                page_size_padded=page,
            )
    return found


def compressed(text) -> dict:
    """The caches of DeepSeek V4's layers, as vllm/models/deepseek_v4 asks for them (fp8_ds_mla)."""
    packed = {"num_kv_heads": 1, "max_tp_shards": 1, "alignment": 576}
    keys = {"head_size": 512, "dtype": torch.uint8, "state_content_bytes": 584, "model_version": "deepseek_v4",
            "cache_dtype_str": "fp8_ds_mla", **packed}  # fmt: skip
    found = {}
    for i, word in enumerate(text.layer_types):
        name, rate = f"layers.{i}.attn", text.compress_rates.get(word, 0)
        found[f"{name}.swa_cache"] = SlidingWindowMLASpec(block_size=64, sliding_window=text.sliding_window, **keys)
        if not rate:
            continue
        overlap = 2 if rate == 4 else 1
        waiting = {"block_size": 4 if rate == 4 else 8, "sliding_window": overlap * rate, "dtype": torch.float32}
        found[name] = MLAAttentionSpec(block_size=256, tokens_per_state=rate, **keys)
        found[f"{name}.state"] = SlidingWindowMLASpec(head_size=2 * overlap * 512, **waiting, **packed)
        if rate == 4:
            index = {"block_size": 256, "tokens_per_state": 4, "head_size": 132, "dtype": torch.uint8, **packed}
            found[f"{name}.indexer"] = MLAAttentionSpec(**index)
            found[f"{name}.indexer.state"] = SlidingWindowMLASpec(
                head_size=4 * text.index_head_dim, **waiting, **packed
            )
    return found


def recurrent(text, tp: int) -> MambaSpec:
    """The state of one recurrent layer."""
    make = MambaStateShapeCalculator
    if getattr(text, "linear_num_value_heads", None):
        heads = (text.linear_num_key_heads, text.linear_num_value_heads)
        sizes = (text.linear_key_head_dim, text.linear_value_head_dim)
        shapes = make.gated_delta_net_state_shape(tp, *heads, *sizes, text.linear_conv_kernel_dim)
        wide = getattr(text, "mamba_ssm_dtype", None) == "float32"
    else:
        shapes = make.mamba2_state_shape(
            tp_world_size=tp, intermediate_size=text.mamba_num_heads * text.mamba_head_dim, n_groups=text.n_groups,
            num_heads=text.mamba_num_heads, head_dim=text.mamba_head_dim, state_size=text.ssm_state_size,
            conv_kernel=text.conv_kernel,
        )  # fmt: skip
        wide = getattr(text, "mamba_ssm_cache_dtype", None) == "float32"
    return MambaSpec(block_size=16, shapes=shapes, dtypes=(torch.bfloat16, torch.float32 if wide else torch.bfloat16))


def per_request(config, tp: int, length: int, in_flight: int) -> int:
    """Bytes that one request of this length takes of the pool."""
    packed = config.get_text_config().model_type == "deepseek_v4"
    options = settings(length, in_flight, caching(packed=packed))
    groups = planning.get_kv_cache_groups(options, specs(config, tp))
    return planning._max_memory_usage_bytes_from_groups(planning.DefaultKVCacheConfigBuilder(), options, groups)


def main(catalogue: Path, out: Path) -> None:
    found = {"package": f"vllm {version('vllm')}", "rows": []}
    for path in sorted(catalogue.glob("*.json")):
        row = json.loads(path.read_text())
        kind = row["config"]["model_type"]
        if row["task"] in {"embedding", "rerank"} or kind in {
            "whisper",
            "deepseek_v32",
            "glm_moe_dsa",
            "mimo_v2_flash",
        }:
            continue
        config = from_row(row["config"])
        for tp in TPS:
            for length in LENGTHS:
                for in_flight in IN_FLIGHT:
                    found["rows"].append([path.stem, tp, length, in_flight, per_request(config, tp, length, in_flight)])
    out.write_text(json.dumps(found, separators=(",", ":")).replace("],[", "],\n[") + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
