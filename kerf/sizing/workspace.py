"""What vLLM 0.33.0 sets aside to compute attention over latents, by what it reserves in its own profile run.

Ordinary attention needs nothing of note, but for FlashInfer's buffer on Blackwell.
"""

from kerf.sizing import deepseek_v4
from kerf.sizing.cards import cards_named
from kerf.sizing.groups import Load
from kerf.sizing.request import Ask
from kerf.sizing.shape import Kind, Shape
from kerf.sizing.term import Term
from kerf.sizing.weights import Ranks

MIB = 2**20
PREFIX_ROWS = 64 * 1024
"""Tokens of earlier text that are unpacked at once (determine_chunked_prefill_workspace_size)."""
LATENT_BLOCK = 64
LONG = 256 * 1024
"""Contexts up to this get five times their length as a workspace, longer ones twice."""
INDEX_ROWS = 576 * 2 // 132
"""Keys of the indexer in the place of one unpacked latent."""
LOGITS = 512 * MIB
"""VLLM_SPARSE_INDEXER_MAX_LOGITS_MB."""
FLASHINFER = 394 * MIB
BLACKWELL = frozenset({"B200"})
CHUNK = 4
"""Requests of DeepSeek V4 whose keys are unpacked at once (PREFILL_CHUNK_SIZE)."""


def workspace(shape: Shape, ask: Ask, ranks: Ranks, load: Load) -> list[Term]:
    """Terms of the sum; none for ordinary attention on cards whose kernels need no buffer."""
    return [*_buffer(shape, ask), *_latent(shape, ask, ranks, load)]


def _buffer(shape: Shape, ask: Ask) -> list[Term]:
    """FlashInfer's, which vLLM takes first on Blackwell."""
    if not shape.generates or not any(card.name in BLACKWELL for card in cards_named(ask.card)):
        return []
    return [
        Term("FlashInfer buffer", 0, FLASHINFER, "one buffer", "vLLM 0.33.0, VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE")
    ]


def _latent(shape: Shape, ask: Ask, ranks: Ranks, load: Load) -> list[Term]:
    if shape.family == deepseek_v4.FAMILY:
        size, formula = _compressed(shape, ask, load)
        source = "vLLM 0.33.0, models/deepseek_v4/nvidia/flashmla.py and sparse_attn_indexer.py"
        return [Term("attention workspace", size // 2, size, formula, source)]
    if shape.unpacked is None:
        return []
    size, formula = _unpacked(shape, ranks, load)
    if shape.choose:
        more, said = _sparse(shape, ask, ranks, load)
        size, formula = size + more, f"{formula}; {said}"
    source = "vLLM 0.33.0, layers/attention/mla_attention.py and backends/mla"
    return [Term("attention workspace", size // 2, size, formula, source)]


def _unpacked(shape: Shape, ranks: Ranks, load: Load) -> tuple[int, str]:
    """Latents of earlier tokens, what they are unpacked to, and keys a second time. vLLM reserves it without those."""
    assert shape.unpacked is not None, "latent attention says what it unpacks"
    latent, once, twice = shape.unpacked
    rows = min(max(8 * load.max_len, 4 * load.concurrency * LATENT_BLOCK), PREFIX_ROWS)
    earlier = min(rows, load.concurrency * load.max_len)
    heads = -(-shape.heads // ranks.tp)
    size = 2 * (rows * latent + heads * max(rows * once, earlier * twice))
    return size, f"2 B x {rows:,} earlier tokens x ({latent} + {heads} heads x {once})"


def _sparse(shape: Shape, ask: Ask, ranks: Ranks, load: Load) -> tuple[int, str]:
    """Unpacked latents or keys of the indexer, queries for the kernel, and the indexer's scores."""
    assert shape.unpacked is not None, "sparse attention keeps latents"
    latent, _, _ = shape.unpacked
    rows = _gathered(load)
    heads = -(-max(64, -(-shape.heads // ranks.tp)) // 64) * 64
    kept = 2 * rows * latent
    keys = INDEX_ROWS * rows * _key(shape)
    queries = 2 * ask.batched_tokens * heads * 4 * latent
    size = max(kept + queries, keys) + LOGITS + 4 * ask.batched_tokens * shape.choose
    return size, f"{rows:,} tokens x {latent} x 2 B, queries, 512 MiB of scores"


def _compressed(shape: Shape, ask: Ask, load: Load) -> tuple[int, str]:
    """The same of DeepSeek V4, where a key stands for four tokens."""
    rows = CHUNK * (-(-load.max_len // deepseek_v4.SPARSE) + shape.choose + ask.batched_tokens)
    kept = 2 * rows * deepseek_v4.KEY_WIDTH
    keys = INDEX_ROWS * _gathered(load) // deepseek_v4.SPARSE * _key(shape)
    chosen = 4 * ask.batched_tokens * (3 * shape.choose + 2 * load.max_len // deepseek_v4.HEAVY)
    size = max(kept, keys) + LOGITS + chosen
    return size, f"the larger of 2 B x {rows:,} keys x {deepseek_v4.KEY_WIDTH} and {keys:,} B, 512 MiB of scores"


def _gathered(load: Load) -> int:
    """Tokens that are unpacked for sparse attention at once. A longer context never gets fewer here."""
    return max(5 * min(load.max_len, LONG), 2 * load.max_len)


def _key(shape: Shape) -> int:
    """Bytes of a key of the indexer, with its scale."""
    found = [one.dim for layer in shape.layers for one in layer.caches if one.kind is Kind.INDEX]
    return (max(found, default=0) or deepseek_v4.INDEX_WIDTH) + 4
