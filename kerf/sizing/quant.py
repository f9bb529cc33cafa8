"""How a checkpoint stores its weights: which matrix has which format, by the methods that vLLM 0.33.0 reads."""

import re
from collections.abc import Mapping

from kerf.sizing.config import Config
from kerf.sizing.formats import FP8, FP8_ROWS, INT8_ROWS, MXFP4, MXFP8, NF4, NVFP4, Format, Storage
from kerf.sizing.ggml import BY_NAME, Blocks, type_of
from kerf.sizing.names import Names, bare
from kerf.sizing.shape import Split, Tensor
from kerf.wire.errors import WireError

MOST_PATTERNS = 20_000


class Quant:
    """A model's storage. `kept` names matrices that stay at 16 bits; `rules` give single ones a format of their own."""

    def __init__(
        self,
        name: str,
        default: Format | None,
        kept: tuple[str, ...] = (),
        rules: Mapping[str, Format | None] | None = None,
        *,
        experts_only: bool = False,
        kv_dtype: str = "",
    ) -> None:
        self.name = name
        self.kv_dtype = kv_dtype
        """What the checkpoint says of the KV cache."""
        self.weights: int | None = None
        """How many weights the files hold, where they say so."""
        self._default, self._experts_only = default, experts_only
        self._kept, self._rules = Names(kept), dict(rules or {})
        self._ruled = Names(self._rules)

    def format_of(self, name: str, tensor: Tensor) -> Storage | None:
        """The format of one matrix by its full name, None at 16 bits."""
        if not tensor.linear or tensor.split is Split.VOCAB or (self._default is None and not self._rules):
            return None
        if self._experts_only and tensor.split not in {Split.EXPERT_COLUMN, Split.EXPERT_ROW}:
            return None
        if self._kept.find(name) is not None:
            return None
        rule = self._ruled.find(name)
        return self._rules.get(rule, self._default) if rule is not None else self._default


class Gguf(Quant):
    """A GGUF file's own table: every matrix has the type that the file has for it, embeddings and head too."""

    def __init__(self, types: Mapping[str, str], weights: int, files: int) -> None:
        kinds = sorted(set(types.values()), key=lambda kind: -list(types.values()).count(kind))
        super().__init__(f"GGUF {' and '.join(kinds[:3])}", None)
        self.weights, self.files = weights, files
        self._types = types

    def format_of(self, name: str, tensor: Tensor) -> Storage | None:
        """The type in the file. Raises WireError for a matrix that the file does not have."""
        found = type_of(name, self._types)
        if found is None and (tensor.linear or tensor.split is Split.VOCAB):
            raise WireError("quantization_config.types", name, "the file has no tensor for this matrix of the family")
        return found


def whole_first(form: Storage | None) -> bool:
    """Whether a step unpacks the whole matrix before it multiplies by it."""
    return isinstance(form, Blocks) and form.whole


PLAIN = Quant("16-bit", None)


def parse_quant(top: Config) -> Quant:
    """A config's quantization_config. Raises WireError where the method is not known."""
    part = top.part("quantization_config") or top.part("compression_config")
    if part is not None and top.text("model_type") == "deepseek_v4" and part.text("quant_method") in DEEPSEEK_V4:
        return _deepseek_v4(part, top.text("expert_dtype", default="fp4"))
    if part is None:
        text = next((inner for key in ("text_config", "llm_config") if (inner := top.part(key)) is not None), None)
        part = text.part("quantization_config") if text is not None else None
    return PLAIN if part is None else parse_method(part)


def parse_method(part: Config) -> Quant:
    """One quantization_config. Raises WireError."""
    inner = part.part("quantization") or part
    method = part.text("quant_method") or ("modelopt" if inner.has("quant_algo") else "")
    parse = METHODS.get(method.lower())
    if parse is None:
        fix = f"this quantisation is not known, so its weights would be a guess; known are {', '.join(METHODS)}"
        raise WireError(part.field("quant_method"), method or None, fix)
    return parse(inner)


def _patterns(part: Config, *keys: str) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    for key in keys:
        found += part.words(key) or ()
    if len(found) > MOST_PATTERNS:
        raise WireError(part.field(keys[0]), len(found), f"list at most {MOST_PATTERNS} names")
    return found


def _fp8(part: Config) -> Quant:
    kept = _patterns(part, "modules_to_not_convert", "ignored_layers", "ignore")
    block = part.wholes("weight_block_size")
    if part.text("quant_algo") == "MIXED_PRECISION":
        return _modelopt(part)
    if block is None:
        return Quant("fp8", FP8, kept)
    if len(block) != 2 or min(block) < 1:
        raise WireError(part.field("weight_block_size"), list(block), "write two positive whole numbers")
    width = 1 if part.text("scale_fmt") == "ue8m0" else 4
    return Quant("fp8 block", Format(8, scale_bytes=width, block=(block[0], block[1])), kept)


def _deepseek_v4(part: Config, experts: str) -> Quant:
    """8-bit blocks, whose scales have 8 bits where experts have 4 (vLLM 0.33.0's DeepseekV4FP8Config)."""
    if experts not in {"fp4", "fp8"}:
        raise WireError("expert_dtype", experts, "vLLM 0.33.0 knows fp4 and fp8")
    kept = _patterns(part, "ignored_layers") or _patterns(part, "modules_to_not_convert")
    narrow = experts == "fp4"
    plain = Format(8, scale_bytes=1 if narrow else 4, block=(128, 128))
    chosen = NVFP4 if part.text("moe_quant_algo").upper() == "NVFP4" else MXFP4
    rules: dict[str, Format | None] = {"ffn.experts": chosen} if narrow else {}
    return Quant(f"fp8 block, {experts} experts", plain, kept, rules)


def _mxfp8(part: Config) -> Quant:
    """As MiniMax writes it: one 8-bit scale to 32 numbers (vLLM 0.33.0's ModelOptMxFp8Config)."""
    return Quant("mxfp8", MXFP8, _patterns(part, "ignored_layers", "modules_to_not_convert"))


def _fbgemm(part: Config) -> Quant:
    return Quant("fbgemm_fp8", FP8_ROWS, _patterns(part, "modules_to_not_convert"))


def _awq(part: Config) -> Quant:
    bits = _bits(part, "bits", part.whole("bits", "w_bit", default=4, most=8))
    whole = -1 in {part.values.get("group_size"), part.values.get("q_group_size")}
    group = 0 if whole else part.whole("q_group_size", "group_size", default=128)
    kept = _patterns(part, "modules_to_not_convert")
    return Quant(f"awq int{bits}", Format(bits, group, zeros=True, whole_input=whole), kept)


def _gptq(part: Config) -> Quant:
    bits = _bits(part, "bits", part.whole("bits", default=4, most=8))
    raw = part.values.get("group_size", 128)
    group = 0 if raw == -1 else part.whole("group_size", default=128)
    kept = _patterns(part, "modules_to_not_convert", "modules_in_block_to_quantize_not")
    rules = _dynamic(part, bits, group)
    return Quant(f"gptq int{bits}", Format(bits, group, zeros=True, order=True), kept, rules)


def _dynamic(part: Config, bits: int, group: int) -> dict[str, Format | None]:
    """GPTQModel's widths of single matrices: an expression that begins with `-:` keeps what it names at 16 bits."""
    found: dict[str, Format | None] = {}
    dynamic = part.part("dynamic")
    for pattern in dynamic.values if dynamic is not None else ():
        assert dynamic is not None, "it has this pattern"
        one = dynamic.part(str(pattern))
        name = "re:" + str(pattern).removeprefix("+:").removeprefix("-:")
        if str(pattern).startswith("-:") or one is None:
            found[name] = None
            continue
        width = _bits(one, "bits", one.whole("bits", default=bits, most=8))
        size = 0 if one.values.get("group_size") == -1 else one.whole("group_size", default=group or 0, least=0)
        found[name] = Format(width, size, zeros=True, order=True)
    return found


def _auto_round(part: Config) -> Quant:
    """AutoRound's integers, packed as GPTQ or AWQ packs them (vLLM 0.33.0's INCConfig)."""
    kind = part.text("data_type", default="int")
    if kind != "int":
        raise WireError(part.field("data_type"), kind, "this type is not known; known is int")
    packing = part.text("packing_format", default="auto_round:auto_gptq")
    bits = _bits(part, "bits", part.whole("bits", default=4, most=8))
    group = 0 if part.values.get("group_size") == -1 else part.whole("group_size", default=128)
    order = not packing.endswith("awq")
    rules: dict[str, Format | None] = {}
    extra = part.part("extra_config")
    for name in extra.values if extra is not None else ():
        one = extra.part(str(name)) if extra is not None else None
        width = one.whole("bits", default=bits, most=32) if one is not None else bits
        form = None if width >= 16 or one is None else Format(_bits(one, "bits", width), group, zeros=True, order=order)
        rules[str(name)] = form
    return Quant(
        f"auto-round int{bits}", Format(bits, group, zeros=True, order=order), (), _collapsed(list(rules.items()))
    )


def _bits(part: Config, key: str, bits: int) -> int:
    if bits not in {2, 3, 4, 8}:
        raise WireError(part.field(key), bits, "use 2, 3, 4 or 8 bits")
    return bits


def _mxfp4(part: Config) -> Quant:
    return Quant("mxfp4", MXFP4, _patterns(part, "modules_to_not_convert"), experts_only=True)


def _bitsandbytes(part: Config) -> Quant:
    kept = (*_patterns(part, "llm_int8_skip_modules"), "lm_head")
    if part.flag("load_in_4bit"):
        return Quant("bitsandbytes 4-bit", NF4, kept)
    if part.flag("load_in_8bit"):
        return Quant("bitsandbytes 8-bit", INT8_ROWS, kept)
    raise WireError(part.field("load_in_4bit"), None, "write load_in_4bit or load_in_8bit: true")


ALGORITHMS: dict[str, Format | None] = {
    "FP8": FP8,
    "FP8_PER_CHANNEL_PER_TOKEN": FP8_ROWS,
    "FP8_PB_WO": Format(8, scale_bytes=4, block=(128, 128)),
    "NVFP4": NVFP4,
    "NVFP4_AWQ": NVFP4,
    "W4A16_NVFP4": NVFP4,
    "MXFP8": MXFP8,
    "MXFP4": MXFP4,
    "W4A16_AWQ": Format(4, 128),
    "INT4_AWQ": Format(4, 128),
    "W4A8_AWQ": Format(4, 128),
    "W8A8_SQ_PER_CHANNEL": INT8_ROWS,
}


def _modelopt(part: Config) -> Quant:
    algo = part.text("quant_algo") or "none"
    kept = _patterns(part, "exclude_modules", "ignore", "modules_to_not_convert")
    layers = part.part("quantized_layers")
    kv = _kv_dtype(part)
    if layers is None:
        return Quant(f"modelopt {algo}", _algorithm(part, "quant_algo", algo), kept, kv_dtype=kv)
    rules: list[tuple[str, Format | None]] = []
    for name in layers.values:
        one = layers.part(str(name))
        if one is not None:
            rules.append((str(name), _algorithm(one, "quant_algo", one.text("quant_algo"))))
    base = _algorithm(part, "moe_quant_algo", part.text("moe_quant_algo")) if part.has("moe_quant_algo") else None
    block = part.wholes("weight_block_size")
    if block and len(block) == 2 and min(block) > 0:
        base = Format(8, scale_bytes=4, block=(block[0], block[1]))
    return Quant("modelopt mixed", base, kept, _collapsed(rules), kv_dtype=kv)


def _collapsed(rules: list[tuple[str, Format | None]]) -> dict[str, Format | None]:
    """Thousands of expert names fold into one rule per layer."""
    found: dict[str, Format | None] = {}
    for name, form in rules:
        found.setdefault(re.sub(r"experts\.\d+\..*", "experts", bare(name)), form)
    return found


def _algorithm(part: Config, key: str, algo: str) -> Format | None:
    if algo in {"", "none", "NO_QUANT"}:
        return None
    if algo not in ALGORITHMS:
        raise WireError(part.field(key), algo, f"this algorithm is not known; known are {', '.join(ALGORITHMS)}")
    return ALGORITHMS[algo]


def _kv_dtype(part: Config) -> str:
    """The cache type that vLLM 0.33.0 reads from a modelopt checkpoint."""
    scheme = part.values.get("kv_cache_scheme") or part.values.get("kv_cache_quant_algo")
    if isinstance(scheme, Mapping):
        return "fp8" if scheme.get("num_bits") == 8 and scheme.get("type") == "float" else ""
    return "fp8" if isinstance(scheme, str) and scheme.upper() == "FP8" else ""


def _compressed(part: Config) -> Quant:
    groups = part.part("config_groups")
    kept = _patterns(part, "ignore")
    if groups is None or not groups.values:
        raise WireError(part.field("config_groups"), None, "write the groups and how each is stored")
    formats: list[tuple[tuple[str, ...], Format]] = []
    for name in groups.values:
        group = groups.part(str(name))
        weights = group.part("weights") if group is not None else None
        if group is not None and weights is not None:
            formats.append((group.words("targets") or ("Linear",), _scheme(weights, part, group)))
    if not formats:
        raise WireError(part.field("config_groups"), None, "write the weights of at least one group")
    rules: list[tuple[str, Format | None]] = [
        (target, form) for targets, form in formats for target in targets if target != "Linear"
    ]
    whole = next((form for targets, form in formats if "Linear" in targets), None)
    return Quant("compressed-tensors", whole, kept, _collapsed(rules))


def _scheme(weights: Config, part: Config, group: Config) -> Format:
    bits = weights.whole("num_bits", default=8, most=16)
    kind, strategy = weights.text("type", default="int"), weights.text("strategy", default="tensor")
    size = weights.maybe("group_size", least=1) or 0
    word = group.text("format") or part.text("format")
    block = weights.wholes("block_structure")
    if strategy == "block" and block and len(block) == 2 and min(block) > 0:
        return Format(bits, scale_bytes=4, block=(block[0], block[1]))
    if kind == "float" and bits == 4:
        return MXFP4 if word.startswith("mxfp4") or size == 32 else NVFP4
    if bits not in {4, 8}:
        raise WireError(weights.field("num_bits"), bits, "this width is not known; known are 4 and 8")
    by = {"tensor": -1, "channel": 0, "group": size, "tensor_group": size, "token": 0}
    if strategy not in by:
        raise WireError(weights.field("strategy"), strategy, f"use one of {', '.join([*by, 'block'])}")
    zeros = not weights.flag("symmetric", default=True)
    return Format(bits, by[strategy], zeros=zeros, extra=16 if bits == 4 else 0)


def _gguf(part: Config) -> Quant:
    """The tensor table that kerf.sizing.gguf makes of a file. Raises WireError."""
    types = part.part("types")
    if types is None:
        fix = "name the .gguf file: a config.json does not say which type each matrix has"
        raise WireError(part.field("types"), None, fix)
    found: dict[str, str] = {}
    for kind in types.values:
        if kind not in BY_NAME:
            raise WireError(types.field(str(kind)), kind, f"use one of {', '.join(BY_NAME)}")
        found |= dict.fromkeys(types.words(kind) or (), kind)
    if len(found) > MOST_PATTERNS * 4:
        raise WireError(part.field("types"), len(found), f"list at most {MOST_PATTERNS * 4} matrices")
    return Gguf(found, part.whole("weights", most=2**50), part.whole("files", default=1))


DEEPSEEK_V4 = frozenset({"fp8", "deepseek_v4_fp8"})
METHODS = {
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "awq": _awq,
    "awq_marlin": _awq,
    "auto_awq": _awq,
    "gptq": _gptq,
    "gptq_marlin": _gptq,
    "auto_gptq": _gptq,
    "auto-round": _auto_round,
    "inc": _auto_round,
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "modelopt_mixed": _modelopt,
    "modelopt_mxfp8": _modelopt,
    "mxfp4": _mxfp4,
    "gpt_oss_mxfp4": _mxfp4,
    "mxfp8": _mxfp8,
    "bitsandbytes": _bitsandbytes,
    "gguf": _gguf,
}
AT_LOAD: dict[str, Quant] = {
    "none": PLAIN,
    "fp8": Quant("fp8 at load", FP8_ROWS, ("lm_head",)),
    "bitsandbytes": Quant("bitsandbytes 4-bit at load", NF4, ("lm_head",)),
}
"""What `--quantization` makes of a 16-bit checkpoint."""
