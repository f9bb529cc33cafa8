"""Models that read a text at once and keep nothing (embeddings, rerankers), and Whisper."""

from kerf.sizing.attention import matrix
from kerf.sizing.config import MOST_LAYERS, Config
from kerf.sizing.shape import Cache, Kind, Layer, Shape, Split, Tensor
from kerf.sizing.towers import whisper_encoder


def _block(where: str, hidden: int, size: int, *, gated: bool = False) -> list[Tensor]:
    parts = [matrix(f"{where}.{name}", hidden, hidden, Split.COLUMN) for name in ("query", "key", "value")]
    parts.append(matrix(f"{where}.out", hidden, hidden, Split.ROW))
    parts.append(matrix(f"{where}.up", size * (2 if gated else 1), hidden, Split.COLUMN))
    return [*parts, matrix(f"{where}.down", hidden, size, Split.ROW)]


def bert_shape(config: Config, name: str) -> Shape:
    """BERT, RoBERTa, XLM-RoBERTa and jina_embeddings_v3, which has no position table."""
    hidden, size = config.whole("hidden_size"), config.whole("intermediate_size")
    vocab, positions = config.whole("vocab_size"), config.whole("max_position_embeddings", default=512)
    layer = Layer((
        *_block("layer", hidden, size),
        Tensor("layer.biases", 5 * hidden + size),
        Tensor("layer.norms", hidden, 4),
    ))  # fmt: skip
    embed = [
        Tensor("embeddings.word_embeddings", vocab, hidden, Split.VOCAB),
        Tensor("embeddings.token_type_embeddings", config.whole("type_vocab_size", default=2), hidden),
        Tensor("embeddings.norm", hidden, 2),
    ]
    if name != "jina_embeddings_v3":
        embed.append(Tensor("embeddings.position_embeddings", positions, hidden))
    head = (Tensor("pooler.dense", hidden, hidden + 1),)
    return _encoder(config, name, layer, tuple(embed), head)


def modernbert_shape(config: Config, name: str) -> Shape:
    """ModernBERT. Its first layer has no norm before attention."""
    hidden, size = config.whole("hidden_size"), config.whole("intermediate_size")
    norm = 2 if config.flag("norm_bias") else 1
    parts = _block("layer", hidden, size, gated=True)
    if config.flag("attention_bias"):
        parts.append(Tensor("layer.attn.bias", hidden, 4))
    if config.flag("mlp_bias"):
        parts.append(Tensor("layer.mlp.bias", 2 * size + hidden))
    layer = Layer((*parts, Tensor("layer.norms", hidden, 2 * norm)))
    first = Layer((*parts, Tensor("layer.norms", hidden, norm)))
    embed = (
        Tensor("embeddings.tok_embeddings", config.whole("vocab_size"), hidden, Split.VOCAB),
        Tensor("embeddings.norm", hidden, norm),
    )
    return _encoder(config, name, layer, embed, (Tensor("final_norm", hidden, norm),), first)


def _encoder(
    config: Config,
    name: str,
    layer: Layer,
    embed: tuple[Tensor, ...],
    head: tuple[Tensor, ...],
    first: Layer | None = None,
) -> Shape:
    layers = config.whole("num_hidden_layers", most=MOST_LAYERS)
    architectures = config.words("architectures") or ()
    ranks = any(word.endswith("ForSequenceClassification") for word in architectures)
    return Shape(
        family=name,
        task="rerank" if ranks else "embedding",
        hidden=config.whole("hidden_size"),
        vocab=config.whole("vocab_size"),
        heads=config.whole("num_attention_heads"),
        kv_heads=config.whole("num_attention_heads"),
        width=3 * config.whole("hidden_size") + 2 * config.whole("intermediate_size"),
        embed=embed,
        layers=(first or layer, *(layer for _ in range(layers - 1))),
        head=head,
        prefix="encoder.layer",
    )


def whisper_shape(config: Config, name: str) -> Shape:
    """Whisper: an encoder, and a decoder that keeps its own tokens and the encoder's."""
    hidden, size, vocab = config.whole("d_model"), config.whole("decoder_ffn_dim"), config.whole("vocab_size")
    heads = config.whole("decoder_attention_heads")
    if hidden % heads:
        heads = 1
    dim = hidden // heads
    block = [*_block("layer", hidden, size), *_block("layer.encoder_attn", hidden, 1)[:4]]
    layer = Layer(
        (
            *block,
            Tensor("layer.biases", 2 * 3 * hidden + size + hidden),  # keys have none
            Tensor("layer.norms", hidden, 6),
        ),
        (Cache(Kind.FULL, heads, dim, dim), Cache(Kind.CROSS, heads, dim, dim)),
    )
    return Shape(
        family=name,
        task="speech",
        hidden=hidden,
        vocab=vocab,
        heads=heads,
        kv_heads=heads,
        width=3 * hidden + 2 * size,
        embed=(Tensor("decoder.embed_tokens", vocab, hidden, Split.VOCAB),),
        layers=(layer,) * config.whole("decoder_layers", most=MOST_LAYERS),
        head=(
            Tensor("decoder.embed_positions", config.whole("max_target_positions", default=448), hidden),
            Tensor("decoder.layer_norm", hidden, 2),
            Tensor("lm_head", vocab, hidden, Split.VOCAB),
        ),
        towers=tuple(whisper_encoder("encoder", config)),
        tied=config.flag("tie_word_embeddings", default=True),
        encoder_len=config.whole("max_source_positions", default=1500),
        prefix="model.decoder.layers",
    )


ENCODERS = {
    "bert": bert_shape,
    "roberta": bert_shape,
    "xlm-roberta": bert_shape,
    "jina_embeddings_v3": bert_shape,
    "modernbert": modernbert_shape,
    "whisper": whisper_shape,
}
"""By `model_type`."""
