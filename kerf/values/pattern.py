"""Patterns of selectors, matched as RE2 does and in bounded time. Pure.

Kubernetes matches by RE2, whose time grows with the text alone. Python's matching can take years, so the patterns that
are read are those that both read alike, and a pattern and a text that may take too long together are refused.
"""

import re
from functools import lru_cache

MOST_STEPS, LONGEST = 4_000_000, 512
_PIECE = re.compile(
    r"""(?P<repeat>(?:[*+]|\{\d{1,3}(?:,\d{0,3})?\})\??)|(?P<option>\?\??)|(?P<bar>\|)|(?P<open>\((?:\?:)?)|(?P<close>\))"""
    r"""|(?P<end>\$)|(?P<one>\\[dwsDWSb]|\\[!-/:-@\[-`{-~]|[.^]|[^\\\[\](){}*+?|^$.]"""
    r"""|\[\^?(?:(?!--|&&|\|\||~~)(?:\\[dwsDWS]|\\[!-/:-@\[-`{-~]|[^\]\[\\]))+\])""",
    re.DOTALL,
)


class Unmatched(ValueError):
    """kerf does not read the pattern: the message says why."""


def matches(pattern: str, text: str) -> bool:
    """Whether a part of the text matches. Raises Unmatched."""
    found, repeats, choices = _read(pattern)
    places = 1 if pattern.startswith("^") else len(text) + 1
    if places * (len(text) + 1) ** repeats * 2**choices > MOST_STEPS:
        raise Unmatched(f"the pattern {pattern!r} has too many repeats and choices")
    return found.search(text) is not None


@lru_cache(maxsize=512)
def _read(pattern: str) -> "tuple[re.Pattern[str], int, int]":
    """(the pattern, how many parts repeat, how many choices it leaves)."""
    if len(pattern) > LONGEST:
        raise Unmatched(f"a pattern has more than {LONGEST} characters")
    flags, at = ("(?i)", 4) if pattern.startswith("(?i)") else ("", 0)
    parts, kinds = [flags], [""]
    while at < len(pattern):
        piece = _PIECE.match(pattern, at)
        if piece is None or (piece.lastgroup == "repeat" and kinds[-1] == "close"):
            raise Unmatched(f"the pattern {pattern!r} has {pattern[at : at + 10]!r}")
        at = piece.end()
        kinds.append(str(piece.lastgroup))
        parts.append(r"\Z" if kinds[-1] == "end" else piece[0])
    try:
        found = re.compile("".join(parts), re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise Unmatched(f"the pattern {pattern!r} is none ({error})") from error
    return found, kinds.count("repeat"), kinds.count("option") + kinds.count("bar")
