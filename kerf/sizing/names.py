"""Names of matrices as quantisers write them: whole, as a parent, with `*`, or `re:` an expression."""

import re
from collections.abc import Iterable, Iterator

from kerf.wire.errors import WireError

PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.", "backbone.")
MOST_EXPRESSIONS = 512
LONGEST = 300


class Names:
    """A set of patterns. `find` answers in a time that hardly depends on how many there are."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._plain: dict[str, str] = {}
        self._starts: dict[int, dict[str, str]] = {}
        expressions: dict[str, str] = {}
        for pattern in patterns:
            if pattern.startswith("re:"):
                expressions.setdefault(_checked(pattern), pattern)
            elif "*" not in pattern:
                self._plain[bare(pattern)] = pattern
            elif pattern.find("*") == len(pattern) - 1 and len(pattern) > 1:
                start = bare(pattern[:-1])
                self._starts.setdefault(len(start), {}).setdefault(start, pattern)
            else:
                pieces = ".*".join(re.escape(piece) for piece in pattern.split("*")[:8])
                expressions.setdefault(pieces + r"(?:\..*)?$", pattern)
        if len(expressions) > MOST_EXPRESSIONS:
            raise WireError("quantization_config.ignore", len(expressions), f"use at most {MOST_EXPRESSIONS} patterns")
        self._sizes = sorted({name.count(".") + 1 for name in self._plain}, reverse=True)
        self._expressions = [(re.compile(text), pattern) for text, pattern in expressions.items()]
        self._seen: dict[str, str | None] = {}

    def find(self, name: str) -> str | None:
        """The pattern that names this matrix, as it was given, None if none does."""
        if name not in self._seen:
            self._seen[name] = self._search(name)
        return self._seen[name]

    def _search(self, name: str) -> str | None:
        for part in _parts(name, self._sizes):
            if part in self._plain:
                return self._plain[part]
        for size, starts in self._starts.items():
            if name[:size] in starts:
                return starts[name[:size]]
        spelt = [prefix + one for one in _spellings(name) for prefix in ("", "model.", "model.language_model.")]
        for expression, pattern in self._expressions:
            if any(map(expression.match, spelt)):
                return pattern
        return None


def bare(name: str) -> str:
    """A name without what differs between wrappers of one decoder."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace("shared_expert.", "shared_experts.").replace("mixer.experts", "mlp.experts")


JOINED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj",
          "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}  # fmt: skip
"""How vLLM names matrices that it loads as one."""
EXPERTS = {
    "up": ("mlp.experts.0.gate_proj", "mlp.experts.0.up_proj", "block_sparse_moe.experts.0.w1"),
    "down": ("mlp.experts.0.down_proj", "block_sparse_moe.experts.0.w2"),
}
"""How files name the matrices of one expert."""


def _spellings(name: str) -> list[str]:
    """A matrix's names in the files and in vLLM."""
    parent, _, last = name.rpartition(".")
    if parent.endswith("ffn.experts") and last in EXPERTS:
        return [name, *(f"{parent}.0.{one}" for one in (("w1", "w3") if last == "up" else ("w2",)))]
    if parent.endswith("mlp.experts") and last in EXPERTS:
        start = parent.removesuffix("mlp.experts")
        return [name, *(start + one for one in EXPERTS[last])]
    return [name, f"{parent}.{JOINED[last]}"] if last in JOINED else [name]


def _parts(name: str, sizes: Iterable[int]) -> Iterator[str]:
    """Runs of a dotted name's words, of these lengths."""
    words = name.split(".")
    for size in sizes:
        for start in range(len(words) - size + 1):
            yield ".".join(words[start : start + size])


def _checked(pattern: str) -> str:
    """The expression of a pattern. One that could run for ever is refused. Raises WireError."""
    text = pattern[3:]
    if len(text) > LONGEST or re.search(r"\)[*+{?]", text) or len(re.findall(r"[*+]|\{", text)) > 4:
        fix = "write a plainer expression: no repeated groups, at most four repeats"
        raise WireError("quantization_config.ignore", pattern, fix)
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise WireError("quantization_config.ignore", pattern, f"write a regular expression ({error})") from error
    return text
