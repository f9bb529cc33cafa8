"""What LoRA adapters take: vLLM 0.33.0 sets room for all of them aside when it starts (vllm/lora/layers)."""

from kerf.sizing.request import Ask
from kerf.sizing.shape import Layer, Shape, Split, Tensor
from kerf.sizing.term import Term, exact
from kerf.sizing.weights import Ranks, rank_size, stage_layers


def adapters(shape: Shape, ask: Ask, ranks: Ranks) -> list[Term]:
    """The term of the sum; none where no adapters are asked for."""
    if not ask.loras:
        return []
    width = _width(shape, ranks)
    size = 2 * ask.loras * ask.lora_rank * width
    formula = f"2 B x {ask.loras} adapters x rank {ask.lora_rank} x {width:,}"
    return [exact("adapters", size, formula, "vLLM 0.33.0, lora/layers: every linear layer, and the head")]


def _width(shape: Shape, ranks: Ranks) -> int:
    """Inputs and outputs of all linear layers on the fullest rank. `A` has all inputs, `B` the rank's outputs."""
    of_layer: dict[int, int] = {}
    found, start = [], 0
    counts = stage_layers(len(shape.layers), ranks.pp)
    for i, count in enumerate(counts):
        layers = shape.layers[start : start + count]
        for layer in layers:
            if id(layer) not in of_layer:
                of_layer[id(layer)] = _of_layer(layer, ranks)
        head = shape.hidden + shape.vocab if i == len(counts) - 1 else 0
        found.append(sum(of_layer[id(layer)] for layer in layers) + head)
        start += count
    return max(found)


def _of_layer(layer: Layer, ranks: Ranks) -> int:
    total = 0
    for part in layer.tensors:
        if part.linear:
            rows, cols, count = rank_size(part, ranks)
            total += count * (_slices(part) * cols + rows)
    return total


def _slices(part: Tensor) -> int:
    """How many `A` a matrix has: several that vLLM loads as one have one each."""
    if part.split is Split.EXPERT_COLUMN:
        return 2
    return 4 if "in_proj" in part.name else 1
