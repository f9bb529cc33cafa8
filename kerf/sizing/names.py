"""Names of matrices as quantisers write them: whole, as a parent, with `*`, or `re:` an expression."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from kerf.sizing.expressions import NotRead, matcher
from kerf.wire.errors import WireError

PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.", "backbone.")
MOST_EXPRESSIONS = 512


class Names:
    """A set of patterns. `find` answers in a time that hardly depends on how many there are, or what they say."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._plain: dict[str, str] = {}
        self._starts: dict[int, dict[str, str]] = {}
        matchers: dict[str, Callable[[str], bool]] = {}
        for pattern in patterns:
            start = bare(pattern[:-1])
            if pattern.startswith("re:"):
                matchers[pattern] = _expression(pattern)
            elif "*" not in pattern:
                self._plain[bare(pattern)] = pattern
            elif "*" in start or not pattern.endswith("*") or any(prefix.startswith(start) for prefix in PREFIXES):
                matchers[pattern] = partial(globs, pattern.split("*"))
            else:
                self._starts.setdefault(len(start), {}).setdefault(start, pattern)
        if len(matchers) > MOST_EXPRESSIONS:
            raise WireError("quantization_config.ignore", len(matchers), f"use at most {MOST_EXPRESSIONS} patterns")
        self._sizes = sorted({name.count(".") + 1 for name in self._plain}, reverse=True)
        self._matchers = [(match, pattern) for pattern, match in matchers.items()]
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
        spelt = [prefix + one for one in _spellings(name) for prefix in ("", *PREFIXES)] if self._matchers else ()
        return next((pattern for match, pattern in self._matchers if any(map(match, spelt))), None)


def globs(pieces: Sequence[str], name: str) -> bool:
    """Whether a name, or a parent of it, is these pieces in their order, with anything between them."""
    first, *between, last = pieces
    if not name.startswith(first):
        return False
    at = len(first)
    for piece in between:
        at = name.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    ends = (end for end in range(at + len(last), len(name) + 1) if name.endswith(last, at, end))
    return not last or any(end == len(name) or name[end] == "." for end in ends)


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
    other = name.replace("shared_experts.", "shared_expert.")
    return _spelt(name) if other == name else [*_spelt(name), *_spelt(other)]


def _spelt(name: str) -> list[str]:
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


def _expression(pattern: str) -> Callable[[str], bool]:
    """What a pattern's expression describes. Raises WireError."""
    try:
        return matcher(pattern.removeprefix("re:"))
    except NotRead as error:
        raise WireError("quantization_config.ignore", pattern, f"write a plainer expression ({error})") from error
