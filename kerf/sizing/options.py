"""Arguments of an engine as options, and their numbers as the engine reads them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import inf

from kerf.sizing import sglang_options, vllm_options
from kerf.sizing.request import SGLANG, VERSIONS, VLLM
from kerf.wire.errors import WireError

TENS = {
    VLLM: {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12},
    SGLANG: {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12},
}
"""Suffixes behind which decimals are allowed. 1M is 1,000,000 to SGLang 0.5.23 and 1,048,576 to vLLM 0.33.0."""
TWOS = {
    VLLM: {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40},
    SGLANG: {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40},
}
SUFFIXED = {
    VLLM: frozenset({"max-model-len", "max-num-batched-tokens", "kv-cache-memory-bytes"}),
    SGLANG: frozenset({"context-length", "max-total-tokens"}),
}
"""Options that Kerf reads and that may have a suffix. The engines refuse one behind every other number."""
EXAMPLES = {VLLM: "32k for 32,000 or 32K for 32,768", SGLANG: "32k for 32,000 or 32Ki for 32,768"}
LIKE_FLAG = re.compile(r"(no|enable|disable|trust|enforce|skip|allow)-(?!access-log-for-endpoints$)|O[0-9]$")
"""Options of other releases that surely take no value."""


@dataclass(frozen=True, slots=True)
class Table:
    """The options of one engine by how many values they take."""

    flags: frozenset[str]
    lists: frozenset[str]
    singles: frozenset[str]

    def name(self, word: str) -> str:
        """The option of a word, without its value. A beginning that only one option has is that option (argparse)."""
        name = word.lstrip("-").partition("=")[0].replace("_", "-")
        kinds = (self.flags, self.lists, self.singles)
        if any(name in kind for kind in kinds) or not word.startswith("--"):
            return name
        meant = [one for kind in kinds for one in kind if one.startswith(name)]
        return meant[0] if len(meant) == 1 else name

    def values(self, name: str) -> float:
        """How many words behind the option are its values, at most."""
        if name in self.flags:
            return 0
        if name in self.lists:
            return inf
        return 1 if name in self.singles or not LIKE_FLAG.match(name) else 0


TABLES = {
    VLLM: Table(vllm_options.FLAGS, vllm_options.LISTS, vllm_options.SINGLES),
    SGLANG: Table(sglang_options.FLAGS, sglang_options.LISTS, sglang_options.SINGLES),
}


def options(args: Iterable[str], runtime: str) -> dict[str, str]:
    """Arguments as options: "--a=1", "--a 1" in one text or in two, underscores as hyphens. A lone one is "true"."""
    return options_of((word for text in args for word in text.split()), runtime)


def options_of(words: Iterable[str], runtime: str) -> dict[str, str]:
    """The same, where each word is one argument. `-1` is a value, `-tp` an option."""
    table = TABLES[runtime]
    found: dict[str, str] = {}
    last = ""
    for word in words:
        if _is_option(word):
            name, (_, sign, value) = table.name(word), word.partition("=")
            last = "" if sign or not table.values(name) else name
            found[name] = value or "true"
        elif last:
            found[last] = word
            last = ""
    return found


def free_word(words: Iterable[str], runtime: str) -> str:
    """The first word that is neither an option of the engine nor a value of one, empty where there is none."""
    table, values = TABLES[runtime], 0.0
    for word in words:
        if _is_option(word):
            values = 0 if "=" in word else table.values(table.name(word))
        elif values:
            values -= 1
        else:
            return word
    return ""


def _is_option(word: str) -> bool:
    return re.match(r"--?[A-Za-z]", word) is not None


def number(given: Mapping[str, str], keys: Iterable[str], runtime: str, most: int = 2**31) -> int | None:
    """The first of these options as a whole number below `most`, None where none is given. Raises WireError."""
    key = next((one for one in keys if one in given), None)
    if key is None:
        return None
    value = _whole(given[key], runtime, suffixed=key in SUFFIXED[runtime])
    if value is None or not 1 <= value < most:
        raise WireError(f"--{key}", given[key], "write a plain whole number")
    return value


def typed(text: str, field: str, runtime: str, *, suffixed: bool) -> int:
    """A number that a person wrote, read as the engine reads it. Raises WireError."""
    value = _whole(text.strip(), runtime, suffixed=suffixed)
    if value is None:
        more = f": 32768, or {EXAMPLES[runtime]} as {runtime} {VERSIONS[runtime]} reads them" if suffixed else ""
        raise WireError(field, text, f"write a whole number{more}")
    return value


def _whole(text: str, runtime: str, *, suffixed: bool) -> int | None:
    """The number that the engine's parser makes of a text, None where it refuses it."""
    found = re.fullmatch(r"([0-9]{1,15})(\.[0-9]{1,15})?([A-Za-z]{0,2})", text)
    if not found:
        return None
    whole, decimals, suffix = found.groups()
    tens, twos = (kind[runtime] if suffixed else {} for kind in (TENS, TWOS))
    if suffix in tens:
        return int(Decimal(whole + (decimals or "")) * tens[suffix])
    return int(whole) * twos.get(suffix, 1) if not decimals and (suffix in twos or not suffix) else None
