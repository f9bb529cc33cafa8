"""Gemma 4's layers: wider heads where attention is full, experts beside a dense network, a table of its own per layer.

Read from transformers 5.20.0's modeling_gemma4.py. vLLM 0.33.0 loads the keys of `attention_k_eq_v` layers twice, so a
card holds values that the files do not have.
"""

from dataclasses import replace

from kerf.sizing import attention, feedforward
from kerf.sizing.attention import Heads, matrix, vector
from kerf.sizing.config import Config
from kerf.sizing.families import Family
from kerf.sizing.shape import Cache, Kind, Layer, Split, Tensor
from kerf.wire.errors import WireError

FAMILY = "gemma4_text"
PER_LAYER = 256
"""hidden_size_per_layer_input of the class, for files without it."""
GLOBAL_DIM = 512


def borrowers(config: Config, count: int) -> int:
    """The first of the last layers, which use keys and values of an earlier one."""
    return count - config.whole("num_kv_shared_layers", default=0, least=0, most=count)


def layer(config: Config, family: Family, heads: Heads, kind: Kind, *, borrows: bool) -> Layer:
    """One layer. Raises WireError."""
    wide = kind is not Kind.SLIDING
    alike = wide and config.flag("attention_k_eq_v")
    if wide:
        heads = _wide(config, heads, alike=alike)
    window = 0 if wide else config.whole("sliding_window", default=family.window[1])
    cache = Cache(kind, heads.kv, heads.dim, heads.dim_v, window)
    parts, caches = attention.grouped(config, family, heads, cache)
    if borrows:
        parts = tuple(part for part in parts if not part.name.startswith(("self_attn.k_", "self_attn.v_")))
    elif alike:
        parts = tuple(replace(part, copied=part.name.startswith("self_attn.v_")) for part in parts)
    size = config.whole("intermediate_size") * (2 if borrows and config.flag("use_double_wide_mlp") else 1)
    more = [*feedforward.dense(config, family, heads.hidden, size), *_experts(config, family, heads.hidden)]
    more += _per_layer(config, heads.hidden)
    return Layer((*parts, *more, Tensor("norms", heads.hidden, count=4)), () if borrows else caches)


def _wide(config: Config, heads: Heads, *, alike: bool) -> Heads:
    """The heads of full layers, as people write them or as transformers 5 saves them. Raises WireError."""
    saved = config.part("per_layer_config")
    if saved is None or not saved.values:
        own = config.maybe("num_global_key_value_heads", least=1) if alike else None
        dim = config.whole("global_head_dim", default=GLOBAL_DIM)
        return replace(heads, kv=own or heads.kv, dim=dim, dim_v=dim)
    kinds = {
        (part.whole("num_key_value_heads", default=heads.kv), part.whole("head_dim", default=heads.dim))
        for key in saved.values
        if (part := saved.part(str(key))) is not None
    }
    if len(kinds) != 1:
        raise WireError(saved.where, f"{len(kinds)} kinds of layers", "one kind of full attention is known")
    kv, dim = kinds.pop()
    return replace(heads, kv=kv, dim=dim, dim_v=dim)


def _experts(config: Config, family: Family, hidden: int) -> list[Tensor]:
    if not config.flag("enable_moe_block"):
        return []
    count = feedforward.expert_count(config, family)
    scales = [vector("mlp.gate.scale", hidden), vector("mlp.gate.per_expert_scale", count)]
    return [*feedforward.experts(config, family, hidden), *scales, Tensor("moe.norms", hidden, count=3)]


def _per_layer(config: Config, hidden: int) -> list[Tensor]:
    size = per_layer(config)
    if not size:
        return []
    return [
        matrix("per_layer_input_gate", size, hidden, Split.WHOLE),
        matrix("per_layer_projection", hidden, size, Split.WHOLE),
        vector("post_per_layer_input_norm", hidden),
    ]


def per_layer(config: Config) -> int:
    """The width of each layer's own embedding, 0 where there is none."""
    found = config.maybe("hidden_size_per_layer_input")
    return PER_LAYER if found is None else found


def embeddings(config: Config, hidden: int, layers: int) -> tuple[Tensor, ...]:
    """What is beside the common embedding: one table for all layers, and its projection."""
    size = per_layer(config) * layers
    if not size:
        return ()
    vocab = config.whole("vocab_size_per_layer_input", default=262_144)
    return (
        Tensor("model.embed_tokens_per_layer", vocab, size, Split.VOCAB),
        matrix("model.per_layer_model_projection", size, hidden, Split.WHOLE),
        vector("model.per_layer_projection_norm", per_layer(config)),
    )
