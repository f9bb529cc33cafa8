"""Arguments of an engine as options, and their numbers as vLLM reads them."""

import re
from collections.abc import Iterable, Mapping

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


def number(given: Mapping[str, str], keys: Iterable[str]) -> int | None:
    """The first of these options as a whole number, None where none is given. Raises WireError."""
    key = next((one for one in keys if one in given), None)
    if key is None:
        return None
    text = given[key]
    scale = SUFFIXES.get(text[-1:], 1)
    digits = text[:-1] if scale > 1 else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 12 or not 1 <= int(digits) * scale < 2**31:
        raise WireError(f"--{key}", text, "write a plain whole number")
    return int(digits) * scale
