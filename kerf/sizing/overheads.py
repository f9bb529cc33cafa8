"""What a server takes beside weights and cache, each as a range with its source. The estimate takes the upper end."""

from kerf.sizing.groups import Load
from kerf.sizing.request import SGLANG, Ask
from kerf.sizing.shape import Shape
from kerf.sizing.term import Term
from kerf.sizing.weights import Ranks
from kerf.sizing.workspace import workspace

MIB = 2**20
CONTEXT_MIB = (300, 600)
"""One process's CUDA context. H100, driver 580.159.04: 514 to 518 MiB; reports of vLLM in HAMi slices: 300 to 600."""
NON_TORCH_MIB = (51, 666)
"""Memory outside PyTorch's allocator: 0.05 to 0.65 GiB in vLLM's public logs, communication excluded."""
NCCL_MIB = {1: 0, 2: 342, 4: 392, 8: 392}
"""aiconfigurator-core 0.12.0's table of NCCL buffers by tensor parallelism; the largest for what it does not list."""
GRAPH_MIB = 37
"""One captured batch size: 2.4 GiB, the most seen in vLLM's public logs, over its 67 default sizes."""
GRAPH_LOW_MIB = 5
"""0.36 GiB, the least seen, over the same 67."""
SGLANG_LATENT_MIB = 1536
"""What SGLang 0.5.23 sets aside for the graphs of chunks under latent attention (not V4's), however many."""
IMAGE_TOKENS = 16_384
"""The largest picture that vLLM 0.33.0 profiles a vision tower with, in patches after merging."""


def overheads(shape: Shape, ask: Ask, ranks: Ranks, load: Load, top_k: int) -> list[Term]:
    """Every term beside weights and cache."""
    context = Term(
        "CUDA context", CONTEXT_MIB[0] * MIB, CONTEXT_MIB[1] * MIB, "one process", "measured on H100; HAMi reports"
    )
    if ask.runtime == SGLANG:
        return [_sglang_reserve(shape, ask, ranks, load), *_tower(shape), context]
    terms = [
        _activations(shape, ask, ranks, load, top_k),
        *workspace(shape, ask, ranks, load),
        *_tower(shape),
        *(_graphs(load, 2 if ask.loras else 1) if shape.generates else []),
        Term("non-torch", NON_TORCH_MIB[0] * MIB, NON_TORCH_MIB[1] * MIB, "one process", "vLLM's public logs"),
    ]
    if ranks.cards > 1:
        size = NCCL_MIB.get(ranks.tp, 392) or NCCL_MIB[2]
        terms.append(Term("NCCL", 0, size * MIB, f"{ranks.cards} cards", "aiconfigurator-core 0.12.0"))
    return [*terms, context]


def step_tokens(ask: Ask, max_len: int, *, generates: bool) -> int:
    """Tokens of one step of vLLM. A model that generates nothing reads a whole text in one."""
    return ask.batched_tokens if generates else max(ask.batched_tokens, max_len)


def _activations(shape: Shape, ask: Ask, ranks: Ranks, load: Load, top_k: int) -> Term:
    """The widest layer for all tokens of a step, the residuals, and 32-bit logits with their copy."""
    tokens = step_tokens(ask, load.max_len, generates=shape.generates)
    width = -(-shape.width // ranks.tp) + shape.flat + 4 * shape.hidden + top_k * shape.hidden
    logits = 2 * 4 * ask.concurrency * shape.vocab
    high = 2 * tokens * width + logits
    formula = f"2 B x {tokens:,} tokens x {width:,} + 8 B x {ask.concurrency:,} x {shape.vocab:,} logits"
    return Term("activations", high // 2, high, formula, "widest layer; vLLM's logs show 0.22 to 1.42 GiB")


def _tower(shape: Shape) -> list[Term]:
    """Activations of the tower for one picture of the largest size."""
    blocks = [part for part in shape.towers if part.name.endswith(".mlp.up")]
    if not blocks:
        return []
    hidden, wide = blocks[0].cols, blocks[0].rows
    tokens = 1500 if shape.task == "speech" else 4 * IMAGE_TOKENS
    high = 2 * tokens * (4 * hidden + 2 * wide)
    formula = f"2 B x {tokens:,} patches x {4 * hidden + 2 * wide:,}"
    return [
        Term("tower activations", high // 4, high, formula, "one item of the largest size (vLLM 0.33.0 profiles it)")
    ]


def capture_sizes(sequences: int) -> list[int]:
    """Batch sizes that vLLM 0.33.0 captures for so many sequences."""
    most = min(2 * sequences, 512)
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, most + 1, 16)]
    return [size for size in sizes if size <= most]


def _graphs(load: Load, times: int) -> list[Term]:
    """`times`: with adapters vLLM 0.33.0 captures each size with and without them (cudagraph_specialize_lora)."""
    count = times * len(capture_sizes(load.concurrency))
    formula = f"{count} captured sizes x {GRAPH_MIB} MiB"
    return [Term("CUDA graphs", count * GRAPH_LOW_MIB * MIB, count * GRAPH_MIB * MIB, formula, "vLLM's public logs")]


def _sglang_reserve(shape: Shape, ask: Ask, ranks: Ranks, load: Load) -> Term:
    """SGLang's own formula for activations, graphs and the rest, for the arguments that `render` writes."""
    chunk = max(ask.batched_tokens, 2048)
    most = min(ask.batched_tokens, load.max_len * load.concurrency)
    graphs = SGLANG_LATENT_MIB if shape.unpacked else 8 * len(sglang_chunks(most))
    mib = 512 + 1.5 * chunk + ranks.cards / 8 * 1024 + 2 * ask.concurrency + graphs
    formula = f"512 + 1.5 x {chunk:,} + {ranks.cards} / 8 x 1024 + 2 x {ask.concurrency} + {graphs:,} MiB"
    return Term("reserve", int(mib * MIB) // 2, int(mib * MIB), formula, "SGLang 0.5.23, arg_groups/memory_hook.py")


def sglang_chunks(most: int) -> list[int]:
    """Lengths of chunks for which SGLang 0.5.23 captures graphs, up to the longest chunk."""
    sizes = [*range(4, 33, 4), *range(48, 257, 16), *range(288, 513, 32), *range(576, 1025, 64)]
    sizes += [*range(1280, 4097, 256), *range(4608, most + 1, 512)]
    return [size for size in sizes if size <= most]
