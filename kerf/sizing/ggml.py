"""GGUF's storage types, in blocks of values, and which file tensor holds which matrix of a shape.

Both engines keep matrices as they are in the file, embeddings and head included. Matrices that one kernel reads (query,
key and value; gate and up) become one, and every row gets the width of the widest: vllm-gguf-plugin 0.0.5 and SGLang
0.5.23 pad them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blocks:
    """One type: so many values of a row are stored in so many bytes."""

    name: str
    values: int
    size: int
    engines: bool = True
    """Whether the engines compute with it."""
    whole: bool = False
    """Whether a step turns a whole matrix into 16-bit numbers first: there is no kernel that multiplies by it."""

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that cannot be parted."""
        return 1, self.values

    @property
    def wide(self) -> float:
        """Bytes of a value."""
        return self.size / self.values

    def stored(self, rows: int, cols: int) -> int:
        """Bytes of one matrix."""
        return rows * -(-cols // self.values) * self.size


TYPES: dict[int, Blocks] = {
    0: Blocks("F32", 1, 4),
    1: Blocks("F16", 1, 2),
    2: Blocks("Q4_0", 32, 18),
    3: Blocks("Q4_1", 32, 20),
    6: Blocks("Q5_0", 32, 22),
    7: Blocks("Q5_1", 32, 24),
    8: Blocks("Q8_0", 32, 34),
    9: Blocks("Q8_1", 32, 40),
    10: Blocks("Q2_K", 256, 84),
    11: Blocks("Q3_K", 256, 110),
    12: Blocks("Q4_K", 256, 144),
    13: Blocks("Q5_K", 256, 176),
    14: Blocks("Q6_K", 256, 210),
    15: Blocks("Q8_K", 256, 292, engines=False),
    16: Blocks("IQ2_XXS", 256, 66, whole=True),
    17: Blocks("IQ2_XS", 256, 74, whole=True),
    18: Blocks("IQ3_XXS", 256, 98, whole=True),
    19: Blocks("IQ1_S", 256, 50, whole=True),
    20: Blocks("IQ4_NL", 32, 18, whole=True),
    21: Blocks("IQ3_S", 256, 110, whole=True),
    22: Blocks("IQ2_S", 256, 82, whole=True),
    23: Blocks("IQ4_XS", 256, 136, whole=True),
    24: Blocks("I8", 1, 1, engines=False),
    25: Blocks("I16", 1, 2, engines=False),
    26: Blocks("I32", 1, 4, engines=False),
    27: Blocks("I64", 1, 8, engines=False),
    28: Blocks("F64", 1, 8, engines=False),
    29: Blocks("IQ1_M", 256, 56, whole=True),
    30: Blocks("BF16", 1, 2),
    34: Blocks("TQ1_0", 256, 54, engines=False),
    35: Blocks("TQ2_0", 256, 66, engines=False),
    39: Blocks("MXFP4", 32, 17, engines=False),
    40: Blocks("NVFP4", 64, 36, engines=False),
    41: Blocks("Q1_0", 128, 18, engines=False),
}
"""By their number in a file: gguf 0.19.0's table. What engines compute with: both engines' lists of kernels."""
BY_NAME = {one.name: one for one in TYPES.values()}

TOGETHER = (("attn_q", "attn_k", "attn_v"), ("ffn_gate", "ffn_up"), ("ffn_gate_shexp", "ffn_up_shexp"))
"""What the engines lay into one matrix."""
EXPERTS = ("ffn_gate_exps", "ffn_up_exps")
"""What they lay into one too, but cannot where the types differ."""
MATRICES: dict[str, tuple[str, ...]] = {
    "self_attn.q_proj": ("attn_q", "attn_qkv"),
    "self_attn.k_proj": ("attn_k", "attn_qkv"),
    "self_attn.v_proj": ("attn_v", "attn_qkv"),
    "self_attn.o_proj": ("attn_output",),
    "mlp.gate_proj": ("ffn_gate", "ffn_up"),
    "mlp.up_proj": ("ffn_up",),
    "mlp.down_proj": ("ffn_down",),
    "mlp.experts.up": EXPERTS,
    "mlp.experts.down": ("ffn_down_exps",),
    "mlp.gate": ("ffn_gate_inp",),
    "mlp.shared_experts.gate_proj": ("ffn_gate_shexp",),
    "mlp.shared_experts.up_proj": ("ffn_up_shexp",),
    "mlp.shared_experts.down_proj": ("ffn_down_shexp",),
    "mlp.shared_expert_gate": ("ffn_gate_inp_shexp",),
}
"""Our name of a layer's matrix to the file's, the first that is there. Some families write two matrices as one."""


def type_of(name: str, types: Mapping[str, str]) -> Blocks | None:
    """The type of a matrix by our name (`layers.3.mlp.up_proj`), None where the file has no such tensor."""
    if name in {"model.embed_tokens", "lm_head"}:
        head = types.get("output", "") if name == "lm_head" else ""
        return _widest([head or types.get("token_embd", "")])
    _, number, rest = name.split(".", 2) if name.startswith("layers.") else ("", "", name)
    found = next((one for one in MATRICES.get(rest, ()) if f"blk.{number}.{one}" in types), None)
    if found is None:
        return None
    group = next((each for each in (*TOGETHER, EXPERTS) if found in each), (found,))
    return _widest(types.get(f"blk.{number}.{one}", "") for one in group)


def _widest(names: Iterable[str]) -> Blocks | None:
    return max((BY_NAME[name] for name in names if name in BY_NAME), key=lambda one: one.wide, default=None)


def split_experts(types: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Layers whose two halves of one expert matrix have different types, which no engine loads."""
    gate, up = EXPERTS
    for name, first in types.items():
        other = types.get(name.removesuffix(gate) + up) if name.endswith(gate) else None
        if other is not None and other != first:
            yield name, first, other
