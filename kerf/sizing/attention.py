"""The attention half of a decoder layer: its matrices and what it keeps per token."""

from dataclasses import dataclass

from kerf.sizing.config import Config
from kerf.sizing.families import Family, Flag
from kerf.sizing.shape import Cache, Kind, Split, State, Tensor
from kerf.wire.errors import WireError

Parts = tuple[tuple[Tensor, ...], tuple[Cache, ...]]
MOST_HEADS = 65536


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention heads of one layer."""

    hidden: int
    query: int
    kv: int
    dim: int
    dim_v: int

    @property
    def query_dim(self) -> int:
        """Width of all queries."""
        return self.query * self.dim


def is_on(config: Config, flag: Flag) -> bool:
    """A family's flag for this config."""
    return flag if isinstance(flag, bool) else config.flag(flag[0], default=flag[1])


def read_heads(config: Config, family: Family) -> Heads:
    """Heads, KV heads and head size. A key that is null and one that is absent differ, as in the classes."""
    hidden = config.whole("hidden_size", "n_embd", "d_model")
    query = config.whole("num_attention_heads", "n_head", most=MOST_HEADS)
    kv = config.maybe("num_key_value_heads", least=1, most=MOST_HEADS)
    if kv is None:
        kv = query if "num_key_value_heads" in config.values or family.kv_heads is None else family.kv_heads
    if family.latent:
        return Heads(hidden, query, query, 1, 1)
    dim = config.maybe("head_dim", "attention_head_dim", least=1)
    if dim is None:
        absent = "head_dim" not in config.values
        dim = family.head_dim if absent and family.head_dim else hidden // query
    if query % kv:
        fix = f"make it divide num_attention_heads ({query})"
        raise WireError(config.field("num_key_value_heads"), kv, fix)
    return Heads(hidden, query, kv, dim, config.whole("v_head_dim", default=dim))


def vector(name: str, size: int, split: Split = Split.WHOLE, units: int = 1) -> Tensor:
    """A bias or a norm."""
    return Tensor(name, size, 1, split, units=units)


def matrix(name: str, rows: int, cols: int, split: Split, units: int = 1) -> Tensor:
    """A linear layer."""
    return Tensor(name, rows, cols, split, linear=True, units=units)


def grouped(config: Config, family: Family, heads: Heads, cache: Cache) -> Parts:
    """Multi-head and grouped-query attention."""
    rows_k, rows_v = heads.kv * heads.dim, heads.kv * heads.dim_v
    gate = 2 if family.gate and config.flag("attn_output_gate", default=True) else 1
    parts = [
        matrix("self_attn.q_proj", gate * heads.query_dim, heads.hidden, Split.COLUMN),
        matrix("self_attn.k_proj", rows_k, heads.hidden, Split.KV, heads.kv),
        matrix("self_attn.v_proj", rows_v, heads.hidden, Split.KV, heads.kv),
        matrix("self_attn.o_proj", heads.hidden, heads.query * heads.dim_v, Split.ROW),
    ]
    if is_on(config, family.qkv_bias):
        parts += [
            vector("self_attn.q_proj.bias", gate * heads.query_dim, Split.COLUMN),
            vector("self_attn.k_proj.bias", rows_k, Split.KV, heads.kv),
            vector("self_attn.v_proj.bias", rows_v, Split.KV, heads.kv),
        ]
    if is_on(config, family.o_bias):
        parts.append(vector("self_attn.o_proj.bias", heads.hidden))
    if family.qk_norm and is_on(config, family.qk_norm_if):
        whole = family.qk_norm != "head"
        parts.append(vector("self_attn.q_norm", heads.query_dim if whole else heads.dim))
        parts.append(vector("self_attn.k_norm", rows_k if whole else heads.dim))
    if family.sinks:
        parts.append(vector("self_attn.sinks", heads.query, Split.COLUMN))
    return tuple(parts), (cache,)


def latent(config: Config, family: Family, heads: Heads) -> Parts:
    """Multi-head latent attention, with an indexer where the family has one."""
    q_lora = config.maybe("q_lora_rank", least=1)
    lora = config.whole("kv_lora_rank")
    nope, rope = config.whole("qk_nope_head_dim"), config.whole("qk_rope_head_dim", least=0)
    value = config.whole("v_head_dim")
    query = heads.query * (nope + rope)
    parts = [
        matrix("self_attn.kv_a_proj_with_mqa", lora + rope, heads.hidden, Split.WHOLE),
        vector("self_attn.kv_a_layernorm", lora),
        matrix("self_attn.kv_b_proj", heads.query * (nope + value), lora, Split.COLUMN),
        matrix("self_attn.o_proj", heads.hidden, heads.query * value, Split.ROW),
    ]
    if q_lora is None:
        parts.append(matrix("self_attn.q_proj", query, heads.hidden, Split.COLUMN))
    else:
        parts.append(matrix("self_attn.q_a_proj", q_lora, heads.hidden, Split.WHOLE))
        parts.append(vector("self_attn.q_a_layernorm", q_lora))
        parts.append(matrix("self_attn.q_b_proj", query, q_lora, Split.COLUMN))
    if config.flag("attention_bias"):
        parts += [
            vector("self_attn.kv_a_proj_with_mqa.bias", lora + rope),
            vector("self_attn.o_proj.bias", heads.hidden),
        ]
        parts += [vector("self_attn.q_a_proj.bias", q_lora)] if q_lora else []
    caches = [Cache(Kind.LATENT, 1, lora + rope)]
    if family.index:
        index_heads, index_dim = config.whole("index_n_heads"), config.whole("index_head_dim")
        parts += [
            matrix("self_attn.indexer.wq_b", index_heads * index_dim, q_lora or heads.hidden, Split.WHOLE),
            matrix("self_attn.indexer.wk", index_dim, heads.hidden, Split.WHOLE),
            Tensor("self_attn.indexer.k_norm", index_dim, 2),
            Tensor("self_attn.indexer.weights_proj", index_heads, heads.hidden),
        ]
        caches.append(Cache(Kind.INDEX, 1, index_dim))
    return tuple(parts), tuple(caches)


def unpacked(config: Config) -> tuple[int, int, int]:
    """What latent attention unpacks, for Shape.unpacked."""
    nope, rope, value = (
        config.whole("qk_nope_head_dim"),
        config.whole("qk_rope_head_dim", least=0),
        config.whole("v_head_dim"),
    )
    once = nope + value
    return config.whole("kv_lora_rank") + rope, once, once + nope + rope


def block_index(config: Config, hidden: int) -> Parts:
    """What MiniMax M3 chooses blocks of tokens by: queries with a head to each KV head, and one key."""
    part = config.part("sparse_attention_config") or Config({}, config.field("sparse_attention_config"))
    heads = part.maybe("sparse_num_index_heads", least=1) or config.whole("index_n_heads", default=4, most=MOST_HEADS)
    dim = part.maybe("sparse_index_dim", least=1) or config.whole("index_head_dim", default=128)
    parts = (
        matrix("self_attn.index_q_proj", heads * dim, hidden, Split.KV, heads),
        matrix("self_attn.index_k_proj", dim, hidden, Split.WHOLE),
        Tensor("self_attn.index_norms", dim, 2),
    )
    return parts, (Cache(Kind.KEYS, 1, dim),)


def mixer(config: Config, family: Family, hidden: int) -> Parts:
    """The layer without attention: a state instead of keys and values."""
    return MIXERS[family.mixer](config, hidden)


def _gated_delta(config: Config, hidden: int) -> Parts:
    heads_k, heads_v = config.whole("linear_num_key_heads"), config.whole("linear_num_value_heads")
    dim_k, dim_v = config.whole("linear_key_head_dim"), config.whole("linear_value_head_dim")
    kernel = config.whole("linear_conv_kernel_dim", default=4)
    keys, values = heads_k * dim_k, heads_v * dim_v
    parts = (
        matrix("linear_attn.in_proj_qkvz", 2 * keys + 2 * values, hidden, Split.COLUMN),
        matrix("linear_attn.in_proj_ba", 2 * heads_v, hidden, Split.COLUMN),
        Tensor("linear_attn.conv1d", 2 * keys + values, kernel, Split.COLUMN),
        Tensor("linear_attn.dt_bias", heads_v, 2, Split.COLUMN),  # and A_log
        vector("linear_attn.norm", dim_v),
        matrix("linear_attn.out_proj", hidden, values, Split.ROW),
    )
    width = 4 if config.text("mamba_ssm_dtype", default="") == "float32" else 2
    state = State(2 * keys + values, kernel - 1, heads_v, dim_k * dim_v, ssm_bytes=width)
    return parts, (Cache(Kind.STATE, state=state),)


def _mamba2(config: Config, hidden: int) -> Parts:
    heads = config.whole("mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    dim = config.maybe("mamba_head_dim", "mamba_d_head", least=1)
    inner = config.maybe("mamba_d_ssm", least=1) or (
        heads * dim if dim else config.whole("mamba_expand", default=2) * hidden
    )
    dim = dim or inner // heads
    groups, size = config.whole("n_groups", "mamba_n_groups"), config.whole("ssm_state_size", "mamba_d_state")
    kernel = config.whole("conv_kernel", "mamba_d_conv", default=4)
    conv = inner + 2 * groups * size
    parts = [
        matrix("mixer.in_proj", inner + conv + heads, hidden, Split.COLUMN),
        Tensor("mixer.conv1d", conv, kernel, Split.COLUMN),
        Tensor("mixer.dt_bias", heads, 3, Split.COLUMN),  # and A_log and D
        matrix("mixer.out_proj", hidden, inner, Split.ROW),
    ]
    if config.flag("use_conv_bias", "mamba_conv_bias", default=True):
        parts.append(vector("mixer.conv1d.bias", conv, Split.COLUMN))
    if config.flag("mamba_rms_norm", default=config.text("model_type") != "falcon_h1"):
        parts.append(vector("mixer.norm", inner, Split.COLUMN))
    if config.flag("mamba_proj_bias", default=False):
        parts += [
            vector("mixer.in_proj.bias", inner + conv + heads, Split.COLUMN),
            vector("mixer.out_proj.bias", hidden),
        ]
    wide = config.text("mamba_ssm_cache_dtype", default="") == "float32"
    state = State(conv, kernel - 1, heads, dim * size, groups, size, ssm_bytes=4 if wide else 2)
    return tuple(parts), (Cache(Kind.STATE, state=state),)


def _short_conv(config: Config, hidden: int) -> Parts:
    kernel = config.whole("conv_L_cache", default=3)
    parts = [
        matrix("conv.in_proj", 3 * hidden, hidden, Split.COLUMN),
        Tensor("conv.conv", hidden, kernel, Split.COLUMN),
        matrix("conv.out_proj", hidden, hidden, Split.ROW),
    ]
    if config.flag("conv_bias"):
        parts += [vector("conv.in_proj.bias", 3 * hidden, Split.COLUMN), vector("conv.bias", 2 * hidden)]
    return tuple(parts), (Cache(Kind.STATE, state=State(hidden, kernel - 1)),)


MIXERS = {"gdn": _gated_delta, "mamba2": _mamba2, "conv": _short_conv}
