"""Arguments of an engine as options, and their numbers as the engine reads them."""

import re
from collections.abc import Iterable, Mapping
from math import inf

from kerf.sizing.request import SGLANG, VLLM
from kerf.sizing.vllm_options import FLAGS, LISTS
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


def options(args: Iterable[str]) -> dict[str, str]:
    """Arguments as options: "--a=1", "--a 1" in one text or in two, underscores as hyphens. A lone one is "true"."""
    return options_of(word for text in args for word in text.split())


def options_of(words: Iterable[str]) -> dict[str, str]:
    """The same, where each word is one argument. `-1` is a value, `-tp` an option."""
    found: dict[str, str] = {}
    last = ""
    for word in words:
        if re.match(r"--?[A-Za-z]", word):
            name, _, value = word.lstrip("-").partition("=")
            last = name.replace("_", "-")
            found[last] = value or "true"
        elif last:
            found[last] = word
            last = ""
    return found


LIKE_FLAG = re.compile(r"(no|enable|disable|trust|enforce|skip|allow)-(?!access-log-for-endpoints$)|O[0-9]$")
"""Options of other releases that surely take no value."""


def free_word(words: Iterable[str]) -> str:
    """The first word that is neither an option of vLLM nor a value of one, empty where there is none."""
    values = 0.0
    for word in words:
        if re.match(r"--?[A-Za-z]", word):
            name, sign, _ = word.lstrip("-").replace("_", "-").partition("=")
            values = 0 if sign or name in FLAGS or LIKE_FLAG.match(name) else inf if name in LISTS else 1
        elif values:
            values -= 1
        else:
            return word
    return ""


def number(given: Mapping[str, str], keys: Iterable[str], runtime: str, most: int = 2**31) -> int | None:
    """The first of these options as a whole number below `most`, None where none is given. Raises WireError."""
    key = next((one for one in keys if one in given), None)
    if key is None:
        return None
    found = re.fullmatch(r"([0-9]{1,15})(\.[0-9]{1,15})?([A-Za-z]{0,2})", given[key])
    value = 0
    if found:
        whole, decimals, suffix = found.groups()
        tens, twos = (kind[runtime] if key in SUFFIXED[runtime] else {} for kind in (TENS, TWOS))
        if suffix in tens:
            value = int(float(whole + decimals) * tens[suffix]) if decimals else int(whole) * tens[suffix]
        elif not decimals and (suffix in twos or not suffix):
            value = int(whole) * twos.get(suffix, 1)
    if not 1 <= value < most:
        raise WireError(f"--{key}", given[key], "write a plain whole number")
    return value
