"""Arguments of an engine as options, and their numbers as vLLM reads them."""

import re
from collections.abc import Iterable, Mapping
from math import inf

from kerf.sizing.vllm_options import FLAGS, LISTS
from kerf.wire.errors import WireError

SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
"""vLLM's own reading: lower case counts in tens, upper case in twos."""


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


def number(given: Mapping[str, str], keys: Iterable[str], most: int = 2**31) -> int | None:
    """The first of these options as a whole number below `most`, None where none is given. Raises WireError."""
    key = next((one for one in keys if one in given), None)
    if key is None:
        return None
    text = given[key]
    scale = SUFFIXES.get(text[-1:], 1)
    digits = text[:-1] if scale > 1 else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15 or not 1 <= int(digits) * scale < most:
        raise WireError(f"--{key}", text, "write a plain whole number")
    return int(digits) * scale
