"""Matrices that ranks cannot share out as they are stored."""

from kerf.sizing.formats import Format, Storage
from kerf.sizing.padding import finer, refines
from kerf.sizing.shape import Split, Tensor
from kerf.sizing.weights import Laid, Ranks, rank_size
from kerf.wire.errors import WireError

DIVIDED = frozenset({Split.COLUMN, Split.ROW, Split.EXPERT_COLUMN, Split.EXPERT_ROW})


def check_blocks(laid: Laid, ranks: Ranks, runtime: str) -> None:
    """An FP8 matrix in blocks can be divided only between blocks, but for experts of vLLM. Raises WireError."""
    fine = refines(laid.quant, runtime)
    for layer, formats in {id(one): one for one in laid.layers}.values():
        for part, form in zip(layer.tensors, formats, strict=True):
            if isinstance(form, Format) and form.whole_input:
                _check_whole(part, ranks)
            if form is None or form.block is None or part.split not in DIVIDED:
                continue
            rows, cols, _ = rank_size(part, ranks)
            whole = (rows == part.rows or rows % form.block[0] == 0) and (
                cols == part.cols or cols % form.block[1] == 0
            )
            if not whole and not (fine and isinstance(form, Format) and finer(part, form, ranks)):
                fix = f"{part.name} ({part.rows:,} x {part.cols:,}) does not divide into blocks of {blocks_of(form)}"
                raise WireError("tp", ranks.tp, f"{fix}; use a smaller one, or expert parallelism")


def _check_whole(part: Tensor, ranks: Ranks) -> None:
    """Refuse what vLLM 0.33.0 and SGLang 0.5.23 cannot load: they count groups as inputs of a rank / inputs of all.

    That is none for a divided input, and for experts, where they divide by the -1 itself, less than none.
    """
    if part.split in {Split.EXPERT_COLUMN, Split.EXPERT_ROW}:
        fix = "neither engine loads experts with one group to an output: use a checkpoint with groups of 128"
        raise WireError("quantization_config.group_size", -1, fix)
    if part.split is Split.ROW and ranks.tp > 1:
        fix = f"{part.name} has one scale for all its inputs (group_size -1), which ranks cannot share out; use 1"
        raise WireError("tp", ranks.tp, fix)


def blocks_of(form: Storage) -> str:
    """The block in words."""
    rows, cols = form.block or (1, 1)
    return str(cols) if rows in {1, cols} else f"{rows} x {cols}"
