"""The sum: weights, cache and overheads of one card, the slice that holds them, and the engine's arguments for it."""

from collections.abc import Callable
from dataclasses import dataclass

from kerf.sizing import arguments
from kerf.sizing.adapters import adapters
from kerf.sizing.blocks import check_blocks
from kerf.sizing.cache import NOTHING, Plan, own_block, pool_of
from kerf.sizing.cards import card_named, is_older
from kerf.sizing.config import Config, parse_config
from kerf.sizing.context import Context, check_length, read_context
from kerf.sizing.groups import Load
from kerf.sizing.overheads import overheads
from kerf.sizing.padding import padding
from kerf.sizing.pools import plan_pool
from kerf.sizing.quant import AT_LOAD, PLAIN, Gguf, Quant, parse_quant, whole_first
from kerf.sizing.read import read_shape, text_part
from kerf.sizing.request import SGLANG, TP_CHOICES, Ask, checked, release_of
from kerf.sizing.shape import Shape, Split
from kerf.sizing.taught import corrected
from kerf.sizing.term import Term, exact
from kerf.sizing.unsized import NEEDS_HOPPER, UNSERVED
from kerf.sizing.weights import Laid, Ranks, Stage, check_ranks, lay_out, rank_size, stages
from kerf.values.learned import Lesson, Setup, Taught
from kerf.wire.errors import WireError

MIB = 2**20
GGUF_NOTE = (
    "vLLM 0.33.0 reads GGUF only where its image has vllm-gguf-plugin; both engines want --tokenizer or a config.json "
    "beside the file where they do not know the architecture."
)


@dataclass(frozen=True, slots=True)
class Model:
    """What is known of a model: its shape, how it is stored, and how long it can read."""

    config: Config
    shape: Shape
    quant: Quant
    context: Context
    laid: Laid
    stored: int | None = None
    """Bytes of all weights where the files themselves say so."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one server needs. Sizes are per card; `terms` add up to the slice."""

    model: Model
    ask: Ask
    ranks: Ranks
    max_len: int
    stage: Stage
    plan: Plan
    terms: tuple[Term, ...]
    slice_mib: int
    kv_bytes: int
    args: tuple[str, ...]
    notes: tuple[str, ...] = ()
    lesson: Lesson | None = None
    """What was learned and decides about everything beside weights and cache."""

    @property
    def weights_bytes(self) -> int:
        """On the fullest card."""
        return self.terms[0].high

    @property
    def weights_mib(self) -> int:
        """The same in MiB, rounded up."""
        return -(-self.weights_bytes // MIB)

    @property
    def cores(self) -> int:
        """Percent of each card's SMs: its share of the card's memory in steps of 5. 0, best effort, without a card."""
        limit = limit_of(self.ask)
        if limit is None:
            return 0
        share = -(-self.slice_mib * 20 // limit) * 5
        return 100 if self.slice_mib * 10 > limit * 9 else min(95, max(10, share))

    @property
    def kv_tokens(self) -> int:
        """Tokens of all requests at full length."""
        return self.max_len * self.ask.concurrency if self.plan.block_bytes else 0


def read_model(document: object, stored: int | None = None) -> Model:
    """A model from its config.json and, where known, the bytes of its files. Raises WireError."""
    config = parse_config(document)
    shape, quant = read_shape(document), parse_quant(config)
    if quant.weights not in {None, shape.params}:
        fix = f"a {shape.family} of this config has {shape.params:,}: the files hold something that is not known"
        raise WireError("quantization_config.weights", quant.weights, fix)
    found = Model(config, shape, quant, read_context(config), lay_out(shape, quant), stored)
    if shape.experts and model_top_k(found) > shape.experts:
        fix = f"use at most the {shape.experts} experts of a layer"
        raise WireError("num_experts_per_tok", model_top_k(found), fix)
    return found


def estimate(model: Model, ask: Ask, taught: Taught | None = None) -> Estimate:
    """The estimate for an ask, corrected by lessons about the model on the ask's card. Raises WireError.

    Where it names no tensor parallelism, the smallest that fits.
    """
    ask = checked(ask)
    limit = limit_of(ask)
    _check_served(model, ask)
    quant = _stored_as(model, ask)
    laid = model.laid if quant is model.quant else lay_out(model.shape, quant)
    refusal: WireError | None = None
    nearest: Estimate | None = None
    for tp in _splits(ask, limit):
        try:
            found = _sum(model, laid, ask, (Ranks(tp, ask.pp, tp if ask.ep > 1 or ask.spread else 1), taught))
        except WireError as error:
            refusal = refusal or error
            continue
        if limit is None or found.slice_mib <= limit:
            return found
        nearest = found
    if nearest is not None:
        raise _too_large(nearest, limit or 0)
    assert refusal is not None
    raise refusal


def _splits(ask: Ask, limit: int | None) -> tuple[int, ...]:
    """The tensor parallelism that is asked for, or what is tried. Experts that are shared out say it as well."""
    if ask.tp is not None or ask.ep > 1:
        return (ask.tp or ask.ep,)
    return TP_CHOICES if limit is not None else (1,)


def _check_served(model: Model, ask: Ask) -> None:
    if model.shape.family in UNSERVED:
        raise WireError("model_type", model.shape.family, UNSERVED[model.shape.family])
    if model.shape.choose and ask.card and is_older(ask.card):
        raise WireError("card", ask.card, NEEDS_HOPPER)
    if ask.runtime == SGLANG and isinstance(model.quant, Gguf) and model.quant.files > 1:
        fix = "SGLang 0.5.23 reads one file alone: merge them with llama.cpp's llama-gguf-split --merge"
        raise WireError("model", f"{model.quant.files} GGUF files", fix)


def limit_of(ask: Ask) -> int | None:
    """MiB that a slice may have at most, None where no card is named. Raises WireError."""
    if ask.card_mib is not None:
        return ask.card_mib
    return card_named(ask.card).usable if ask.card else None


def _too_large(found: Estimate, limit: int) -> WireError:
    """The refusal of the split that came nearest, with what would run."""
    longest = longest_context(found, limit)
    hint = f"--max-len {longest} would fit; " if longest else ""
    more = "use more or larger cards, or fewer requests at once"
    fix = f"the card has {limit:,} MiB at --tp {found.ranks.tp}: {hint}{more}"
    return WireError("slice", f"{found.slice_mib:,} MiB", fix)


def longest_context(found: Estimate, limit: int) -> int:
    """The longest context, in steps of 1,024, whose slice a card of `limit` MiB holds; 0 where none does."""
    others = found.slice_mib - found.kv_bytes // MIB
    plan_for = _planner(found.model, found.ask, found.ranks)
    low, high = 0, found.max_len // 1024
    while low < high:
        middle = (low + high + 1) // 2
        plan = plan_for(_load(found.model, found.ask, found.ranks, middle * 1024))
        fits = others + 1 + plan.pool_bytes(found.ask.concurrency) // MIB <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * 1024


def _load(model: Model, ask: Ask, ranks: Ranks, max_len: int) -> Load:
    return Load(max_len, ask.concurrency, (ranks.pp + 1) * ask.batched_tokens, _kv_dtype(model, ask))


def _planner(model: Model, ask: Ask, ranks: Ranks) -> Callable[[Load], Plan]:
    if ask.runtime == SGLANG:
        return lambda load: plan_pool(model.shape, ranks, load)
    if not model.shape.generates:
        return lambda _: NOTHING
    return pool_of(model.shape, ranks, _kv_dtype(model, ask)).plan


def _sum(model: Model, laid: Laid, ask: Ask, split: tuple[Ranks, Taught | None]) -> Estimate:
    shape, (ranks, taught) = model.shape, split
    check_ranks(shape, ranks)
    check_blocks(laid, ranks, ask.runtime)
    max_len = ask.max_len if ask.max_len is not None else model.context.default
    check_length(model.context, max_len)
    stage = max(stages(shape, laid, 2, ranks), key=lambda one: one.total)
    load = _load(model, ask, ranks, max_len)
    plan = _planner(model, ask, ranks)(load)
    kv = plan.pool_bytes(ask.concurrency)
    ranges = (
        *overheads(shape, ask, ranks, load, model_top_k(model)),
        *_unpacked(laid, shape, ranks),
        *padding(laid, ranks, ask.runtime),
    )
    learned = corrected(ranges, taught, _setup(ask, ranks), max_len)
    terms = [_weights(model, ask, stage, ranks), _rope(model.context), *_cache(plan, ask, kv)]
    terms += [*adapters(shape, ask, ranks), *learned.terms]
    slice_mib = -(-sum(term.high for term in terms) // MIB)
    fixed, block = sum_fixed(terms), own_block(shape)
    served = arguments.Served(ask, ranks, max_len, load.kv_dtype, kv, slice_mib, shape.generates, fixed, block)
    args = arguments.render(served)
    notes = (*_notes(model), *_doubts(model, ask, stage, ranks), *learned.notes)
    return Estimate(model, ask, ranks, max_len, stage, plan, tuple(terms), slice_mib, kv, args, notes, learned.lesson)


def _setup(ask: Ask, ranks: Ranks) -> Setup:
    """What is asked for, in the words of a lesson."""
    return Setup(
        "",
        ask.runtime,
        release_of(ask.runtime, ask.version),
        ask.card,
        ask.concurrency,
        ask.batched_tokens,
        ranks.tp,
        ranks.pp,
        ranks.ep,
        ask.quantization,
        ask.kv_dtype,
    )


def sum_fixed(terms: list[Term]) -> int:
    """Bytes that are known: weights, tables, cache and adapters. SGLang counts them as static."""
    return sum(term.high for term in terms if term.name in {"weights", "position table", "KV cache", "adapters"})


def _stored_as(model: Model, ask: Ask) -> Quant:
    if not ask.quantization:
        return model.quant
    if model.quant is not PLAIN and ask.quantization != "none":
        fix = f"leave it out: the checkpoint is stored as {model.quant.name} already"
        raise WireError("quantization", ask.quantization, fix)
    return model.quant if ask.quantization == "none" else AT_LOAD[ask.quantization]


def _kv_dtype(model: Model, ask: Ask) -> str:
    if ask.kv_dtype != "auto":
        return ask.kv_dtype
    return model.quant.kv_dtype or "auto"


def _weights(model: Model, ask: Ask, stage: Stage, ranks: Ranks) -> Term:
    if model.stored is not None and ranks.cards == 1 and not ask.quantization and _are_whole(model.stored, stage):
        return exact("weights", model.stored, "sum of the files' tensors", "safetensors or GGUF headers")
    parts = ", ".join(f"{name} {size / MIB:,.0f}" for name, size in stage.terms)
    return exact(
        "weights", stage.total, f"{parts} MiB", f"{model.shape.family} of transformers 5.20.0, {model.quant.name}"
    )


def _are_whole(stored: int, stage: Stage) -> bool:
    """Whether files hold what their config needs. Embedding models lack a head, which is less than a quarter."""
    return stored * 4 >= stage.total * 3


def _unpacked(laid: Laid, shape: Shape, ranks: Ranks) -> list[Term]:
    """GGUF types without a kernel that multiplies by them: a step turns a whole matrix into 16-bit numbers first."""
    if not isinstance(laid.quant, Gguf):
        return []
    parts = [pair for layer, formats in laid.layers for pair in zip(layer.tensors, formats, strict=True)]
    parts += [(part, laid.quant.format_of(part.name, part)) for part in shape.head if part.split is Split.VOCAB]
    sizes = [2 * rank_size(part, ranks)[0] * rank_size(part, ranks)[1] for part, form in parts if whole_first(form)]
    if not sizes:
        return []
    source = "vllm-gguf-plugin 0.0.5, SGLang 0.5.23: fused_mul_mat_gguf"
    return [Term("unpacked matrix", 0, max(sizes), "2 B x the largest matrix of an IQ type", source)]


def _rope(context: Context) -> Term:
    table = context.table
    formula = f"{table.number} B x {table.rows:,} x {table.width}"
    return exact("position table", table.size, formula, "vLLM 0.33.0's get_rope")


def _cache(plan: Plan, ask: Ask, size: int) -> list[Term]:
    if plan == NOTHING:
        return []
    each = f"{plan.request_blocks:,} blocks x {plan.block_bytes:,} B"
    return [
        exact(
            "KV cache",
            size,
            f"{ask.concurrency} requests x {each} + 1 block",
            f"planner of {ask.runtime} {ask.version}",
        )
    ]


def model_top_k(model: Model) -> int:
    """Experts per token."""
    text = text_part(model.config)
    return text.maybe("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts", "num_experts_per_token") or 0


def _notes(model: Model) -> tuple[str, ...]:
    notes = ["The slice is the upper end: every range counts with its largest value."]
    if isinstance(model.quant, Gguf):
        notes.append(GGUF_NOTE)
    if model.shape.towers:
        notes.append("Towers are charged whole to every card.")
    return tuple(notes)


def _doubts(model: Model, ask: Ask, stage: Stage, ranks: Ranks) -> list[str]:
    """A note where files say less than any model of their config holds."""
    if model.stored is None or ranks.cards > 1 or ask.quantization or _are_whole(model.stored, stage):
        return []
    said = f"The files say {-(-model.stored // MIB):,} MiB of weights, and their config needs {stage.total / MIB:,.0f}"
    return [f"{said}: the config counts. Are some missing, or is a quantization_config?"]
