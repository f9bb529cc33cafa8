"""DeepSeek V4: attention over a window and compressed tokens, streams instead of one residual, experts by hash.

Read from vLLM 0.33.0's vllm/models/deepseek_v4 and transformers 5.20.0's modeling_deepseek_v4.py. Names of matrices are
those of the published files.
"""

from dataclasses import replace

from kerf.sizing.attention import Heads, Parts, matrix, vector
from kerf.sizing.config import MOST_LAYERS, Config
from kerf.sizing.families import Family
from kerf.sizing.shape import Cache, Kind, Layer, Shape, Split, Tensor
from kerf.wire.errors import WireError

FAMILY = "deepseek_v4"
WORDS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
"""layer_types, and the tokens that one compressed key stands for; 0: the layer has its window alone."""
_KNOWN_RATES = f"vLLM 0.33.0 knows {', '.join(map(str, WORDS.values()))}"
INDEX_WIDTH = 128
SPARSE, HEAVY = 4, 128
BLOCK, WINDOW_BLOCK = 256, 64
"""Tokens of a block: of compressed keys, and of the window."""
STATE_BLOCKS = {SPARSE: 4, HEAVY: 8}
"""The same for what the compressor keeps of tokens that are not compressed yet."""
KEY_WIDTH, ROPE_WIDTH, KEY_BYTES, ALIGNED = 512, 64, 584, 576
"""Numbers of a key, those of them that turn with the position and keep 16 bits, bytes of a key as packed
(fp8_ds_mla), and what a page is padded to a multiple of."""
CACHE_TYPES = frozenset({"auto", "fp8", "fp8_e4m3", "fp8_ds_mla"})
"""What --kv-cache-dtype may say: the packed keys are the same for all of them."""
QUERY_HEADS = 64
"""FlashMLA's kernel takes 64 heads or 128, so fewer are padded."""
WIDE = 4
"""Bytes of numbers that stay at 32 bits."""


def ratios(config: Config) -> tuple[int, ...]:
    """What each layer compresses by, from either spelling. Raises WireError."""
    count = config.whole("num_hidden_layers", default=43, most=MOST_LAYERS)
    words = config.words("layer_types")
    field = config.field("compress_ratios" if words is None else "layer_types")
    if words is not None:
        found = tuple(_rate(config, word) for word in words)
    else:
        found = config.wholes("compress_ratios") or _interleaved(count)
    if len(found) < count:
        raise WireError(field, f"{len(found)} entries", f"write one for each of the {count} layers")
    for one in found[:count]:
        if one not in WORDS.values():
            raise WireError(field, one, _KNOWN_RATES)
    return found[:count]


def _rate(config: Config, word: str) -> int:
    if word not in WORDS:
        raise WireError(config.field("layer_types"), word, f"known for this family are {', '.join(WORDS)}")
    rates = config.part("compress_rates")
    found = rates.whole(word, default=WORDS[word], least=0) if rates is not None else WORDS[word]
    if rates is not None and found not in WORDS.values():
        raise WireError(rates.field(word), found, _KNOWN_RATES)
    return found


def _interleaved(count: int) -> tuple[int, ...]:
    """The class's own: two heavy ones, then both kinds in turn."""
    return (HEAVY, HEAVY, *(SPARSE if i % 2 else HEAVY for i in range(count - 2)))[:count]


def shape(config: Config, family: Family) -> Shape:
    """The shape of the whole decoder. Raises WireError."""
    if config.maybe("vision_n_layers"):
        fix = "its vision tower is not read yet"
        raise WireError(config.field("vision_n_layers"), config.values["vision_n_layers"], fix)
    hidden, vocab = config.whole("hidden_size"), config.whole("vocab_size")
    query, dim = config.whole("num_attention_heads"), _packed(config, "head_dim", KEY_WIDTH)
    _packed(config, "qk_rope_head_dim", ROPE_WIDTH)
    heads = Heads(hidden, query, 1, dim, 0)
    streams = config.whole("hc_mult", default=4)
    layers = _layers(config, family, heads, streams)
    embed = Tensor("embed", vocab, hidden, Split.VOCAB)
    first = Tensor("layers.0.hc_attn_fn_broadcast", (2 + streams) * streams, hidden, width=WIDE, copied=True)
    head = (
        vector("norm", hidden),
        Tensor("hc_head", streams, streams * hidden + 1, width=WIDE),
        Tensor("hc_head.scale", 1, width=WIDE),
        Tensor("lm_head", vocab, hidden, Split.VOCAB),
    )
    wide = [part.rows for part in layers[0].tensors if part.linear and part.split is Split.COLUMN]
    return Shape(
        family=FAMILY, task="text", hidden=hidden, vocab=vocab, heads=query, kv_heads=query, width=sum(wide),
        embed=(embed, first), layers=layers, head=head, tied=config.flag("tie_word_embeddings", default=family.tied),
        experts=config.whole("n_routed_experts", default=256), latent=True,
        groups=config.whole("o_groups", default=8),
        choose=config.whole("index_topk", default=512),
        flat=2 * streams * hidden + 2 * dim * (QUERY_HEADS if query <= QUERY_HEADS else 2 * QUERY_HEADS),
    )  # fmt: skip


def _packed(config: Config, key: str, width: int) -> int:
    """A width that the engines' packed keys have. Raises WireError for any other."""
    found = config.whole(key, default=width)
    if found != width:
        raise WireError(config.field(key), found, f"the engines' packed keys of this family have {width}")
    return found


def _layers(config: Config, family: Family, heads: Heads, streams: int) -> tuple[Layer, ...]:
    kinds = tuple(zip(ratios(config), _by_hash(config), strict=False))
    seen: dict[tuple[int, bool], Layer] = {}
    for key in kinds:
        if key not in seen:
            rate = key[0]
            parts, caches = _attention(config, heads, rate)
            parts += (*_experts(config, family, heads.hidden, by_hash=key[1]), *_streams(heads.hidden, streams))
            seen[key] = Layer((*parts, Tensor("norms", heads.hidden, count=2)), caches)
    return tuple(seen[key] for key in kinds)


def _by_hash(config: Config) -> tuple[bool, ...]:
    """Whether each layer's experts are chosen by the token alone, from either spelling. Raises WireError."""
    count, words = config.whole("num_hidden_layers", default=43, most=MOST_LAYERS), config.words("mlp_layer_types")
    if words is None:
        hashed = config.whole("num_hash_layers", default=3, least=0)
        return tuple(i < hashed for i in range(count))
    field = config.field("mlp_layer_types")
    if unknown := next((word for word in words if word not in {"moe", "hash_moe"}), None):
        raise WireError(field, unknown, "known for this family are moe, hash_moe")
    if len(words) < count:
        raise WireError(field, f"{len(words)} entries", f"write one for each of the {count} layers")
    return tuple(word == "hash_moe" for word in words[:count])


def _attention(config: Config, heads: Heads, rate: int) -> Parts:
    hidden, dim = heads.hidden, heads.dim
    q_lora, groups = config.whole("q_lora_rank", default=1024), config.whole("o_groups", default=8)
    middle = groups * config.whole("o_lora_rank", default=1024)
    if heads.query % groups:
        raise WireError(config.field("o_groups"), groups, f"make it divide num_attention_heads ({heads.query})")
    parts: tuple[Tensor, ...] = (
        matrix("attn.wq_a", q_lora, hidden, Split.WHOLE),
        matrix("attn.wkv", dim, hidden, Split.WHOLE),
        vector("attn.q_norm", q_lora),
        vector("attn.kv_norm", dim),
        matrix("attn.wq_b", heads.query * dim, q_lora, Split.COLUMN),
        matrix("attn.wo_a", middle, heads.query * dim // groups, Split.COLUMN),
        matrix("attn.wo_b", hidden, middle, Split.ROW),
        Tensor("attn.attn_sink", heads.query, width=WIDE),
    )
    window = config.whole("sliding_window", default=128)
    caches: tuple[Cache, ...] = (_page(Kind.SLIDING, WINDOW_BLOCK, WINDOW_BLOCK * KEY_BYTES, window),)
    if not rate:
        return parts, caches
    parts += _compressor("attn.compressor", hidden, dim, rate)
    caches += (_page(Kind.LATENT, BLOCK, BLOCK // rate * KEY_BYTES), _state(dim, rate))
    if rate == SPARSE:
        made, kept = _indexer(config, hidden, q_lora)
        parts, caches = parts + made, caches + kept
    return parts, caches


def _indexer(config: Config, hidden: int, q_lora: int) -> Parts:
    """What chooses the compressed keys that a token attends to."""
    count, dim = config.whole("index_n_heads", default=64), config.whole("index_head_dim", default=INDEX_WIDTH)
    parts = (
        matrix("attn.indexer.wq_b", count * dim, q_lora, Split.WHOLE),
        Tensor("attn.indexer.weights_proj", count, hidden),
        *_compressor("attn.indexer.compressor", hidden, dim, SPARSE),
    )
    key = dim + dim // 128 * 4
    return parts, (_page(Kind.INDEX, BLOCK, BLOCK // SPARSE * key), _state(dim, SPARSE))


def _compressor(where: str, hidden: int, dim: int, rate: int) -> tuple[Tensor, ...]:
    """Two projections that no quantiser packs, and a table of positions. Sparse ones overlap: twice the width."""
    wide = 2 * dim if rate == SPARSE else dim
    return (
        Tensor(f"{where}.wkv", 2 * wide, hidden),  # and wgate
        vector(f"{where}.norm", dim),
        Tensor(f"{where}.ape", rate, wide, width=WIDE),
    )


def _page(kind: Kind, block: int, size: int, window: int = 0) -> Cache:
    return Cache(kind, window=window, block=block, page=-(-size // ALIGNED) * ALIGNED)


def _state(dim: int, rate: int) -> Cache:
    """Keys and scores of tokens that are not compressed yet, at 32 bits: vLLM counts them as a window."""
    overlap = 2 if rate == SPARSE else 1
    block = STATE_BLOCKS[rate]
    return _page(Kind.SLIDING, block, block * 2 * overlap * dim * WIDE, overlap * rate)


def _experts(config: Config, family: Family, hidden: int, *, by_hash: bool) -> tuple[Tensor, ...]:
    count, size = config.whole("n_routed_experts", default=256), config.whole(*family.expert_dim, default=2048)
    shared = size * config.whole("n_shared_experts", default=1, least=0)
    chosen = config.whole("num_experts_per_tok", default=6)
    route = (
        Tensor("ffn.gate.tid2eid", config.whole("vocab_size"), chosen, width=8, copied=True)
        if by_hash
        else Tensor("ffn.gate.bias", count, width=WIDE, copied=True)
    )
    parts = (
        Tensor("ffn.experts.up", 2 * size, hidden, Split.EXPERT_COLUMN, linear=True, count=count),
        Tensor("ffn.experts.down", hidden, size, Split.EXPERT_ROW, linear=True, count=count),
        Tensor("ffn.gate", count, hidden),
        route,
    )
    if not shared:
        return parts
    return (
        *parts,
        matrix("ffn.shared_experts.w1", shared, hidden, Split.COLUMN),
        matrix("ffn.shared_experts.w3", shared, hidden, Split.COLUMN),
        matrix("ffn.shared_experts.w2", hidden, shared, Split.ROW),
    )


def _streams(hidden: int, streams: int) -> tuple[Tensor, ...]:
    """How a layer mixes its streams before and after attention and experts: a matrix, an offset and three scales."""
    mixed = (2 + streams) * streams
    one = Tensor("hc", mixed, streams * hidden + 1, width=WIDE, count=2)
    return one, replace(one, name="hc.scale", rows=3, cols=1)
