"""A decoder's config as a shape: which layer is of which kind, and what it holds."""

from dataclasses import replace

from kerf.sizing import attention, deepseek_v4, feedforward, gemma4
from kerf.sizing.attention import Heads, read_heads, vector
from kerf.sizing.config import MOST_LAYERS, Config
from kerf.sizing.families import Family
from kerf.sizing.shape import Cache, Kind, Layer, Shape, Split, Tensor
from kerf.wire.errors import WireError

KINDS = {
    "full_attention": Kind.FULL,
    "attention": Kind.FULL,
    "sliding_attention": Kind.SLIDING,
    "chunked_attention": Kind.CHUNKED,
    "linear_attention": Kind.STATE,
    "mamba": Kind.STATE,
    "conv": Kind.STATE,
    "indexed_attention": Kind.LATENT,
    "deepseek_sparse_attention": Kind.LATENT,
    "hybrid": Kind.FULL,
    "minimax_m3_sparse": Kind.FULL,
}
"""layer_types of transformers 5.20.0 and of older files. `moe` and `mlp` (nemotron_h) keep nothing."""
BLOCK_SPARSE = "minimax_m3_sparse"
"""Full attention that chooses blocks of tokens by keys of its own."""
LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
"""hybrid_override_pattern of nemotron_h."""


def decoder_shape(config: Config, name: str, family: Family) -> Shape:
    """The shape of a text decoder. Raises WireError."""
    if name == deepseek_v4.FAMILY:
        return deepseek_v4.shape(config, family)
    heads = read_heads(config, family)
    vocab = config.whole("vocab_size")
    layers = _layers(config, name, family, heads)
    experts = feedforward.expert_count(config, family)
    more = gemma4.embeddings(config, heads.hidden, len(layers)) if name == gemma4.FAMILY else ()
    norm = Tensor("model.norm", heads.hidden, 2 if family.norm_bias else 1)
    head = [norm, Tensor("lm_head", vocab, heads.hidden, Split.VOCAB)]
    if attention.is_on(config, family.head_bias):
        head.append(vector("lm_head.bias", vocab, Split.VOCAB))
    return Shape(
        family=name,
        task="text",
        hidden=heads.hidden,
        vocab=vocab,
        heads=heads.query,
        kv_heads=heads.query if family.latent else heads.kv,
        width=_width(layers),
        embed=(Tensor("model.embed_tokens", vocab, heads.hidden, Split.VOCAB), *more),
        layers=layers,
        head=tuple(head),
        tied=config.flag("tie_word_embeddings", default=family.tied),
        experts=experts,
        latent=family.latent,
        unpacked=attention.unpacked(config) if family.latent else None,
        choose=config.whole("index_topk", default=2048) if family.index else 0,
    )


def _layers(config: Config, name: str, family: Family, heads: Heads) -> tuple[Layer, ...]:
    words = layer_words(config, family)
    sparse = sparse_layers(config, family, len(words))
    indexers = config.words("indexer_types") or ()
    lone = gemma4.borrowers(config, len(words)) if name == gemma4.FAMILY else len(words)
    seen: dict[tuple[str, bool, bool], Layer] = {}
    layers = []
    for i, (word, many) in enumerate(zip(words, sparse, strict=True)):
        # another layer's indexer answers, or its keys and values
        borrows = i >= lone or (i < len(indexers) and indexers[i] == "shared")
        key = (word, many, borrows)
        if key not in seen:
            rules = replace(family, index=False) if borrows else family
            if name == gemma4.FAMILY:
                seen[key] = gemma4.layer(config, rules, heads, KINDS[word], borrows=borrows)
            else:
                seen[key] = _layer(config, rules, heads, word, many)
        layers.append(seen[key])
    return tuple(layers)


def layer_words(config: Config, family: Family) -> list[str]:
    """What each layer is, as words of `layer_types`."""
    pattern = config.text("hybrid_override_pattern")
    if pattern:
        unknown = set(pattern) - set(LETTERS)
        if unknown or len(pattern) > MOST_LAYERS:
            raise WireError(config.field("hybrid_override_pattern"), pattern, "use only the letters M, E, - and *")
        return [LETTERS[letter] for letter in pattern]
    given = config.words("layer_types") or config.words("layers_block_type")
    count = config.maybe("num_hidden_layers", "n_layer", "num_layers", least=1, most=MOST_LAYERS)
    if count is None:
        count = len(given) if given else config.whole("num_hidden_layers", most=MOST_LAYERS)
    if given:
        return _checked(config, list(given), count)
    return _by_rule(config, family, count)


def _checked(config: Config, words: list[str], count: int) -> list[str]:
    if len(words) != count:
        raise WireError(config.field("layer_types"), f"{len(words)} words", f"write one for each of the {count} layers")
    for word in words:
        if word not in KINDS and word not in {"mlp", "moe"}:
            known = ", ".join(sorted({*KINDS, "mlp", "moe"}))
            raise WireError(config.field("layer_types"), word, f"this kind of layer is not known; known are {known}")
    return words


def _by_rule(config: Config, family: Family, count: int) -> list[str]:
    listed = config.wholes("attn_layer_indices") or config.wholes("full_attn_idxs")
    if family.mixer and listed is not None:
        return ["full_attention" if i in listed else "linear_attention" for i in range(count)]
    chosen = config.part("sparse_attention_config")
    flags = chosen.list("sparse_attention_freq") if chosen is not None else None
    if flags is not None:
        return _checked(config, [BLOCK_SPARSE if one else "full_attention" for one in flags], count)
    flags = config.list("hybrid_layer_pattern")
    if flags is not None:
        return _checked(config, ["sliding_attention" if one else "full_attention" for one in flags], count)
    if family.mixer == "mamba2" and not family.parallel_mixer:
        return ["linear_attention"] * count
    if family.pattern is None:
        first = config.whole("max_window_layers", default=WINDOW_FROM, least=0) if family.window_if else None
        local = "sliding_attention" if read_window(config, family) else "full_attention"
        return [local if i >= (first or 0) else "full_attention" for i in range(count)]
    local, every = family.pattern
    if local != "linear_attention" and read_window(config, family) == 0:
        return ["full_attention"] * count
    every = config.maybe(*EVERY, least=1) or every
    no_rope = config.wholes("no_rope_layers")
    if local == "chunked_attention" and no_rope:
        return _checked(config, [local if one else "full_attention" for one in no_rope], count)
    return [local if (i + 1) % every else "full_attention" for i in range(count)]


WINDOW_FROM = 28
"""max_window_layers of the classes that have it: the layers before that one are full."""
EVERY = ("sliding_window_pattern", "full_attention_interval", "no_rope_layer_interval", "global_attn_every_n_layers")
"""Keys that say that every n-th layer is a full one."""


def read_window(config: Config, family: Family) -> int:
    """The window of the local layers, 0 where there is none."""
    if family.window_if and not config.flag(family.window_if):
        return 0
    key, default = family.window
    if key not in config.values:
        return default or 0
    return config.maybe(key) or 0


def sparse_layers(config: Config, family: Family, count: int) -> list[bool]:
    """Which layers hold experts."""
    if not feedforward.expert_count(config, family):
        return [False] * count
    words = config.words("mlp_layer_types")
    if words is not None and len(words) == count:
        return [word == "sparse" for word in words]
    moe = config.wholes("moe_layers")
    if moe is not None:
        return [i in moe for i in range(count)]
    flags = config.list("moe_layer_freq") if isinstance(config.values.get("moe_layer_freq"), list) else None
    if flags is not None and len(flags) == count:
        return [bool(one) for one in flags]
    step = config.maybe(
        "interleave_moe_layer_step", "decoder_sparse_step", "moe_layer_interval", "moe_layer_freq", least=1
    )
    dense = set(config.wholes("mlp_only_layers") or ())
    first = config.maybe("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers")
    first = first if first is not None else DENSE_FIRST.get(config.text("model_type"), 0)
    offset = 0 if config.has("moe_layer_freq") else 1
    return [i >= first and i not in dense and (i + offset) % (step or 1) == 0 for i in range(count)]


DENSE_FIRST = {"deepseek_v3": 3, "kimi_k2": 3, "deepseek_v32": 3, "glm_moe_dsa": 3, "glm4_moe": 1, "glm4_moe_lite": 1,
               "ernie4_5_moe": 1, "lfm2_moe": 2, "mimo_v2_flash": 1, "afmoe": 1, "exaone_moe": 1,
               "hy_v3": 1}  # fmt: skip
"""Dense layers at the start, of the class, for files that do not say."""


def _layer(config: Config, family: Family, heads: Heads, word: str, sparse: bool) -> Layer:
    if config.text("model_type") == "nemotron_h":
        return _one_thing(config, family, heads, word)
    parts: list[Tensor] = []
    caches: tuple[Cache, ...] = ()
    kind = KINDS[word]
    if kind is Kind.STATE or family.parallel_mixer:
        if not family.mixer:
            raise WireError(config.field("layer_types"), word, "this family's linear layers are not known")
        made, caches = attention.mixer(config, family, heads.hidden)
        parts += made
    if kind is not Kind.STATE:
        made, kept = _attend(config, family, heads, kind)
        parts, caches = parts + list(made), caches + kept
    if word == BLOCK_SPARSE:
        made, kept = attention.block_index(config, heads.hidden)
        parts, caches = parts + list(made), caches + kept
    parts += _feed(config, family, heads.hidden, sparse)
    parts += [vector("mlp.act_fn", family.activation)] if family.activation else []
    norms = Tensor("norms", heads.hidden, 2 if family.norm_bias else 1, count=family.norms)
    return Layer((*parts, norms), caches)


def _one_thing(config: Config, family: Family, heads: Heads, word: str) -> Layer:
    """A layer of nemotron_h is a mixer, an attention or a feed-forward network, each with one norm."""
    caches: tuple[Cache, ...] = ()
    parts: tuple[Tensor, ...]
    if word == "moe":
        parts = tuple(feedforward.experts(config, family, heads.hidden))
    elif word == "mlp":
        parts = tuple(feedforward.dense(config, family, heads.hidden, config.whole("intermediate_size")))
    elif KINDS[word] is Kind.STATE:
        parts, caches = attention.mixer(config, family, heads.hidden)
    else:
        parts, caches = _attend(config, family, heads, Kind.FULL)
    return Layer((*parts, vector("norm", heads.hidden)), caches)


def _attend(config: Config, family: Family, heads: Heads, kind: Kind) -> attention.Parts:
    if family.latent:
        return attention.latent(config, family, heads)
    local = kind in {Kind.SLIDING, Kind.CHUNKED}
    window = read_window(config, family) if local else 0
    if local and not window:
        raise WireError(config.field(family.window[0]), None, "write the window of the local layers")
    if kind is Kind.SLIDING and config.has("swa_num_key_value_heads"):
        heads = replace(
            heads,
            query=config.whole("swa_num_attention_heads", default=heads.query),
            kv=config.whole("swa_num_key_value_heads"),
            dim=config.whole("swa_head_dim", default=heads.dim),
            dim_v=config.whole("swa_v_head_dim", default=heads.dim_v),
        )
    made, kept = attention.grouped(config, family, heads, Cache(kind, heads.kv, heads.dim, heads.dim_v, window))
    sink = kind is Kind.SLIDING and config.flag("add_swa_attention_sink_bias")
    return (*made, vector("self_attn.sinks", heads.query, Split.COLUMN)) if sink else made, kept


def _feed(config: Config, family: Family, hidden: int, sparse: bool) -> list[Tensor]:
    if sparse:
        return feedforward.experts(config, family, hidden)
    if family.mixer == "mamba2" and family.experts and config.has("shared_intermediate_size"):
        return feedforward.dense(config, family, hidden, config.whole("shared_intermediate_size"))
    key = family.dense_mlp if config.has(family.dense_mlp) else "intermediate_size"
    return feedforward.dense(config, family, hidden, _adjusted(config, config.whole(key, "n_inner")))


def _adjusted(config: Config, size: int) -> int:
    """lfm2 writes the width before its own adjustment."""
    if config.text("model_type") != "lfm2" or not config.flag("block_auto_adjust_ff_dim", default=True):
        return size
    size = int(2 * size / 3)
    size = int(config.real("block_ffn_dim_multiplier", 1.0) * size)
    step = config.whole("block_multiple_of", default=256)
    return step * -(-size // step)


def _width(layers: tuple[Layer, ...]) -> int:
    """The most that one token needs at once in a layer: what the widest pair of matrices writes."""
    widths = [
        sum(part.rows for part in layer.tensors if part.linear and part.split in {Split.COLUMN, Split.KV})
        for layer in layers
    ]
    return max(widths, default=1)
