"""How long a context a config allows, by the rule of vLLM 0.33.0, which SGLang 0.5.23 shares for the cases here."""

from dataclasses import dataclass

from kerf.sizing import deepseek_v4, gemma4
from kerf.sizing.config import Config
from kerf.sizing.encoders import ENCODERS
from kerf.sizing.families import FAMILIES
from kerf.sizing.read import family_of, text_part
from kerf.wire.errors import WireError

LENGTH_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
UNSCALED = {
    "su",
    "longrope",
    "llama3",
    "yarn",
    "deepseek_yarn",
    "deepseek_llama_scaling",
    "default",
    "mrope",
    "proportional",
}
"""Rope types whose factor does not lengthen the context: max_position_embeddings has it already."""


OFFSET = frozenset({"roberta", "xlm-roberta"})
"""Families whose first token has the position behind pad_token_id, so no token has the first rows of their tables."""
PICTURE_ROWS = 4
"""Rows to a position with parts for time, height and width (MRotaryEmbedding); Qwen3-VL and later have one."""


@dataclass(frozen=True, slots=True)
class Table:
    """Tables of positions that vLLM keeps, as long as the model can read, whatever length is asked for."""

    rows: int
    width: int
    number: int = 2
    """Bytes of a number."""

    @property
    def size(self) -> int:
        """Bytes of all."""
        return self.rows * self.width * self.number


@dataclass(frozen=True, slots=True)
class Context:
    """`most` can be asked for; `default` is what an engine takes on its own."""

    most: int
    default: int
    table: Table


def read_context(top: Config) -> Context:
    """The context lengths of a model. Raises WireError."""
    text = text_part(top) if top.text("model_type") not in ENCODERS else top
    found = next((n for key in LENGTH_KEYS if (n := text.maybe(key, least=1)) is not None), None)
    if found is None:
        found = _class_default(top, text)
    if top.text("model_type") in OFFSET:
        found = max(1, found - top.whole("pad_token_id", default=1, least=0) - 1)
    longest, original = found, found
    for rope in _ropes(text):
        kind = rope.text("rope_type", "type", default="default")
        if kind not in UNSCALED and "gemma3" not in text.text("model_type"):
            longest = int(found * max(1.0, rope.real("factor", 1.0)))
            original = longest
        if kind in {"longrope", "su"}:
            original = text.maybe("original_max_position_embeddings", least=1) or found
    return Context(longest, min(original, longest), _table(text, found, longest))


def check_length(context: Context, asked: int) -> None:
    """Raises WireError where more is asked than the model can read."""
    if asked > context.most:
        fix = f"use at most {context.most}: vLLM refuses more than max_position_embeddings gives"
        raise WireError("max-len", asked, fix)


def _class_default(top: Config, text: Config) -> int:
    if top.text("model_type") in ENCODERS:
        return 512
    name, _ = family_of(top, text)
    return FAMILIES[name].max_len


def _ropes(text: Config) -> list[Config]:
    """rope_scaling (transformers 4), rope_parameters (5), or one table for each kind of layer."""
    part = text.part("rope_parameters") or text.part("rope_scaling")
    if part is None:
        return []
    tables = [
        inner for key in part.values if isinstance(part.values[key], dict) and (inner := part.part(key)) is not None
    ]
    return tables or [part]


def _table(text: Config, written: int, longest: int) -> Table:
    """By vLLM 0.33.0's get_rope: yarn's has its original length times its factor, longrope has two.

    Positions of pictures have four times the rows, and those of latent attention with yarn 32-bit numbers.
    """
    latent = text.has("kv_lora_rank") or text.text("model_type") == deepseek_v4.FAMILY
    rows, number = longest, 2
    for rope in _ropes(text):
        kind = rope.text("rope_type", "type", default="default")
        original = rope.maybe("original_max_position_embeddings", least=1) or written
        if "yarn" in kind:
            rows = max(rows, int(original * max(1.0, rope.real("factor", 1.0))))
            number = 4 if latent else 2
        if kind in {"longrope", "su"}:
            rows = max(rows, written + (text.maybe("original_max_position_embeddings", least=1) or original))
        if rope.has("mrope_section") and not text.text("model_type").startswith(("qwen3_vl", "qwen3_5")):
            rows = max(rows, PICTURE_ROWS * written)
    return Table(rows, _rotary(text), number)


def _rotary(text: Config) -> int:
    """The width of all tables: each kind of layer with frequencies of its own has one (vLLM 0.33.0's get_rope)."""
    heads = text.maybe("num_attention_heads", "n_head", least=1) or 1
    hidden = text.maybe("hidden_size", "n_embd", "d_model", least=1) or 0
    dim = text.maybe("qk_rope_head_dim", "head_dim", least=1) or hidden // heads
    if text.text("model_type") == deepseek_v4.FAMILY:
        return 2 * dim  # of the window and of compressed keys
    if text.text("model_type") == gemma4.FAMILY:
        return dim + text.whole("global_head_dim", default=gemma4.GLOBAL_DIM)  # proportional ones are zero-padded
    ropes = _ropes(text)
    own = text.real("partial_rotary_factor", 1.0)
    factors = [min(1.0, max(0.0, rope.real("partial_rotary_factor", own))) for rope in ropes] or [own]
    if text.text("model_type").startswith("gemma3") and len(factors) == 1:  # as transformers 4 wrote it
        factors.append(1.0)
    return sum(int(dim * factor) for factor in factors)
