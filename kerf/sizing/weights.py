"""Bytes of weights on one card: what each rank and each pipeline stage holds."""

from collections import Counter
from dataclasses import dataclass

from kerf.sizing.formats import Storage
from kerf.sizing.quant import Quant
from kerf.sizing.shape import Layer, Shape, Split, Tensor
from kerf.wire.errors import WireError

VOCAB_PAD = 64
"""vLLM 0.33.0 and SGLang 0.5.23 pad the vocabulary to a multiple of this."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """How a model is spread: tensor, pipeline and expert parallelism."""

    tp: int = 1
    pp: int = 1
    ep: int = 1

    @property
    def cards(self) -> int:
        """Cards in all; expert parallelism uses the same ones."""
        return self.tp * self.pp


@dataclass(frozen=True, slots=True)
class Stage:
    """Weights of one pipeline stage on one rank, in bytes, by what they are."""

    terms: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(size for _, size in self.terms)


@dataclass(frozen=True, slots=True)
class Laid:
    """Layers with the format of each matrix. Alike ones are one object: a model has few kinds of them."""

    layers: tuple[tuple[Layer, tuple[Storage | None, ...]], ...]
    quant: Quant


def lay_out(shape: Shape, quant: Quant) -> Laid:
    """Which matrix of which layer is stored how. Raises WireError."""
    seen: dict[tuple[int, tuple[Storage | None, ...]], tuple[Layer, tuple[Storage | None, ...]]] = {}
    found = []
    for i, layer in enumerate(shape.layers):
        formats = tuple(quant.format_of(f"layers.{i}.{part.name}", part) for part in layer.tensors)
        found.append(seen.setdefault((id(layer), formats), (layer, formats)))
    return Laid(tuple(found), quant)


def check_ranks(shape: Shape, ranks: Ranks) -> None:
    """Refuse a split that no engine can make. Raises WireError."""
    if shape.heads % ranks.tp:
        fix = f"use a number that divides the {shape.heads} attention heads"
        raise WireError("tp", ranks.tp, fix)
    for heads in {cache.heads for layer in shape.layers for cache in layer.caches if cache.dim_v}:
        if heads % ranks.tp and ranks.tp % heads:
            fix = f"use a number that divides the {heads} KV heads or is a multiple of them"
            raise WireError("tp", ranks.tp, fix)
    if shape.groups and shape.groups % ranks.tp:
        raise WireError("tp", ranks.tp, f"use a number that divides the {shape.groups} groups of heads (o_groups)")
    if ranks.pp > len(shape.layers):
        raise WireError("pp", ranks.pp, f"use at most {len(shape.layers)} stages, one per layer")
    if ranks.ep > 1 and not shape.experts:
        raise WireError("ep", ranks.ep, "leave it at 1: the model has no experts")
    if ranks.ep > max(1, shape.experts):
        raise WireError("ep", ranks.ep, f"use at most {shape.experts}, the number of experts")


def stage_layers(layers: int, pp: int) -> list[int]:
    """Layers of each pipeline stage, as vLLM 0.33.0 shares them out: the rest goes to stages before the last."""
    parts = [layers // pp] * pp
    for i in range(2, layers % pp + 2):
        parts[-i] += 1
    return parts


def rank_size(part: Tensor, ranks: Ranks) -> tuple[int, int, int]:
    """Rows, columns and number of one rank's share."""
    rows, cols, count, tp = part.rows, part.cols, part.count, ranks.tp
    match part.split:
        case Split.COLUMN:
            rows = -(-rows // tp)
        case Split.ROW:
            cols = -(-cols // tp)
        case Split.KV:
            rows = rows // part.units * max(1, part.units // tp)
        case Split.VOCAB:
            padded = -(-rows // VOCAB_PAD) * VOCAB_PAD
            rows = -(-padded // tp)
        case Split.EXPERT_COLUMN | Split.EXPERT_ROW if ranks.ep > 1:
            count = -(-count // ranks.ep)
        case Split.EXPERT_COLUMN:
            rows = -(-rows // tp)
        case Split.EXPERT_ROW:
            cols = -(-cols // tp)
        case _:
            pass
    return rows, cols, count


def part_bytes(part: Tensor, form: Storage | None, width: int, ranks: Ranks) -> int:
    """Bytes of one rank's share."""
    rows, cols, count = rank_size(part, ranks)
    return count * (rows * cols * (part.width or width) if form is None else form.stored(rows, cols))


def stages(shape: Shape, laid: Laid, width: int, ranks: Ranks) -> list[Stage]:
    """Weights of every pipeline stage on one rank. `width`: bytes of a number that is not quantised."""
    found = []
    start = 0
    counts = stage_layers(len(shape.layers), ranks.pp)
    for i, count in enumerate(counts):
        terms: dict[str, int] = {}
        last = i == len(counts) - 1
        if i == 0:
            _add(terms, "embeddings", shape.embed, laid.quant, width, ranks)
            towers = sum(part_bytes(part, None, width, ranks) for part in shape.towers)  # whatever the text part has
            terms |= {"towers and projectors": towers} if towers else {}
        for number, (layer, formats) in _alike(laid.layers[start : start + count]):
            for part, form in zip(layer.tensors, formats, strict=True):
                label = _label(part.name)
                terms[label] = terms.get(label, 0) + number * part_bytes(part, form, width, ranks)
        if last:
            head = (
                shape.head if not shape.tied or len(counts) > 1 else tuple(p for p in shape.head if p.name != "lm_head")
            )
            _add(terms, "norm and head", head, laid.quant, width, ranks)
        start += count
        found.append(Stage(tuple(terms.items())))
    return found


Kinds = tuple[tuple[Layer, tuple[Storage | None, ...]], ...]


def _alike(layers: Kinds) -> list[tuple[int, tuple[Layer, tuple[Storage | None, ...]]]]:
    counts = Counter(id(one) for one in layers)
    return [(counts[key], one) for key, one in {id(one): one for one in layers}.items()]


def _add(terms: dict[str, int], label: str, parts: tuple[Tensor, ...], quant: Quant, width: int, ranks: Ranks) -> None:
    size = sum(part_bytes(part, quant.format_of(part.name, part), width, ranks) for part in parts)
    if size:
        terms[label] = terms.get(label, 0) + size


def _label(name: str) -> str:
    if ".experts." in name:
        return "experts"
    if name.startswith(
        ("self_attn", "attn", "linear_attn", "mixer", "conv", "layer.query", "layer.key", "layer.value", "layer.out")
    ):
        return "attention"
    return "feed-forward" if "mlp" in name or name.startswith(("layer.", "ffn.")) else "norms"
