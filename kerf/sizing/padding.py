"""What kernels add to experts: 4-bit ones are padded to whole tiles, 8-bit blocks that ranks cut get finer scales."""

from math import gcd

from kerf.sizing.formats import MXFP4, NVFP4, Format, Storage
from kerf.sizing.quant import Quant
from kerf.sizing.request import VLLM
from kerf.sizing.shape import Layer, Split, Tensor
from kerf.sizing.term import Term
from kerf.sizing.weights import Laid, Ranks, rank_size, stage_layers

INNER, OUTER = 128, 256
"""Multiples to which an expert's own width and the model's are padded, by the kernel that pads most."""
FINEST = 32
"""The smallest block that scales are refined to."""
EXPERTS = frozenset({Split.EXPERT_COLUMN, Split.EXPERT_ROW})


def refines(quant: Quant, runtime: str) -> bool:
    """Whether experts in 8-bit blocks may be cut within a block: vLLM 0.33.0's refine_fp8_moe_block_shape."""
    return runtime == VLLM and quant.name == "fp8 block"


def finer(part: Tensor, form: Format, ranks: Ranks) -> int:
    """The block that divides a rank's experts and the stored blocks; 0 where none of use does."""
    rows, cols, _ = rank_size(part, ranks)
    own = rows // 2 if part.split is Split.EXPERT_COLUMN else cols
    wide = cols if part.split is Split.EXPERT_COLUMN else rows
    block = form.block or (1, 1)
    found = gcd(*block, own, wide)
    return found if part.split in EXPERTS and found >= FINEST else 0


def padding(laid: Laid, ranks: Ranks, runtime: str) -> list[Term]:
    """The term of the sum, on the fullest stage; none where nothing is padded."""
    fine = refines(laid.quant, runtime)
    sizes = {id(one): _of_layer(*one, ranks, fine=fine) for one in {id(one): one for one in laid.layers}.values()}
    start, most = 0, 0
    for count in stage_layers(len(laid.layers), ranks.pp):
        most = max(most, sum(sizes[id(one)] for one in laid.layers[start : start + count]))
        start += count
    if not most:
        return []
    formula = f"widths to multiples of {INNER} and {OUTER}, or finer scales"
    source = "vLLM 0.33.0, fused_moe/oracle; SGLang 0.5.23, quantization/mxfp4.py"
    return [Term("padding of experts", 0, most, formula, source)]


def _of_layer(layer: Layer, formats: tuple[Storage | None, ...], ranks: Ranks, *, fine: bool) -> int:
    pairs = zip(layer.tensors, formats, strict=True)
    return sum(_of(part, form, ranks, fine=fine) for part, form in pairs if part.split in EXPERTS)


def _of(part: Tensor, form: Storage | None, ranks: Ranks, *, fine: bool) -> int:
    if not isinstance(form, Format):
        return 0
    rows, cols, count = rank_size(part, ranks)
    if form in {MXFP4, NVFP4}:
        up = part.split is Split.EXPERT_COLUMN
        wide = (_to(rows, 2 * INNER), _to(cols, OUTER)) if up else (_to(rows, OUTER), _to(cols, INNER))
        return count * (form.stored(*wide) - form.stored(rows, cols))
    if not fine or form.block is None or not (block := finer(part, form, ranks)) or block in form.block:
        return 0
    blocks = -(-rows // block) * -(-cols // block)
    return count * blocks * form.scale_bytes


def _to(size: int, step: int) -> int:
    return -(-size // step) * step
