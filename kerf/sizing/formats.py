"""How one matrix is stored: its numbers and what lies beside them (scales, zero points, tables).

Sizes were counted on tensors that compressed-tensors 0.17.0 made (docs/models.md has the table).
"""

from dataclasses import dataclass

from kerf.sizing.ggml import Blocks


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of matrix is stored. `group` 0 is one scale per row, -1 one per matrix."""

    bits: int
    group: int = -1
    scale_bytes: int = 2
    zeros: bool = False
    block: tuple[int, int] | None = None
    """Rows and columns that share one scale."""
    extra: int = 0
    """Bytes beside each matrix: a shape pair, a global scale."""
    order: bool = False
    """A 4-byte table entry per column (GPTQ's g_idx)."""
    packed: bool = True
    """Rows padded to whole 32-bit words."""
    whole_input: bool = False
    """One scale for all inputs of an output, which ranks cannot share out (AWQ's group_size -1)."""

    def stored(self, rows: int, cols: int) -> int:
        """Bytes of one matrix."""
        if self.bits in {4, 2, 3} and self.packed:
            per_word = 32 // self.bits
            body = rows * -(-cols // per_word) * 4
        else:
            body = -(-rows * cols * self.bits // 8)
        if self.block:
            scales = -(-rows // self.block[0]) * -(-cols // self.block[1])
        elif self.group < 0:
            scales = 1
        else:
            scales = rows * (-(-cols // self.group) if self.group else 1)
        zeros = -(-rows * self.bits // 32) * 4 * (scales // rows or 1) if self.zeros and self.group >= 0 else 0
        return body + scales * self.scale_bytes + zeros + self.extra + (4 * cols if self.order else 0)


Storage = Format | Blocks
"""How one matrix is stored; None stands for 16 bits."""
FP8 = Format(8, -1, 4)
FP8_ROWS = Format(8, 0, 4)
INT8_ROWS = Format(8, 0, 4)
MXFP4 = Format(4, 32, 1)
MXFP8 = Format(8, 32, 1)
NVFP4 = Format(4, 16, 1, extra=8)
NF4 = Format(4, 64, 4, packed=False)
"""bitsandbytes 4-bit: a 32-bit scale to 64 values; nested scales are smaller, so this is the upper end."""
