"""Names of card models as people write them, compared with names as drivers report them. The one matcher of Kerf.

Case does not count, and dashes, underscores and spaces are one, so the label `nvidia.com/gpu.product` means its card.
The better match wins: the exact name, then whole words of it, then any part. A part never cuts through a number: "A10"
is no part of "A100", "H100" is one of "GH100 480GB".
"""

import re
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache

_SEPARATORS = re.compile(r"[\s_-]+")
_DROPPED = re.compile(r"[^a-z0-9.\s_-]")
"""Signs that a label cannot hold: feature discovery leaves them out."""
_SHARED = " shared"
"""Feature discovery adds this to the model of a card that NVIDIA's device plugin shares by time-slicing."""
_MOST_LISTED = 8


class Match(IntEnum):
    """How well a written name matches a model; the greater, the better."""

    NONE = 0
    PART = 1
    WORDS = 2
    EXACT = 3


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """The form in which names are compared."""
    return _SEPARATORS.sub(" ", _DROPPED.sub("", name.lower())).strip()


@lru_cache(maxsize=16384)
def match(written: str, model: str) -> Match:
    """How well a written name matches one model, other models apart."""
    name = canonical(model)
    found = canonical(written)
    if not found:
        return Match.NONE
    if found != name:
        found = found.removesuffix(_SHARED)
    if found == name:
        return Match.EXACT
    grades = [_grade(name, at, at + len(found)) for at in _occurrences(found, name)]
    return max(grades, default=Match.NONE)


def meant(written: str, models: Iterable[str]) -> tuple[str, ...]:
    """The models that a written name means: all that match it best, sorted, each once."""
    return _meant(written, tuple(sorted(set(models))))


@lru_cache(maxsize=16384)
def _meant(written: str, models: tuple[str, ...]) -> tuple[str, ...]:
    grades = [match(written, model) for model in models]
    best = max(grades, default=Match.NONE)
    return tuple(model for model, grade in zip(models, grades, strict=True) if grade is best and best)


def nearest(model: str, written: Iterable[str]) -> str | None:
    """Of several written names the one that says most of a model: the best match, then the longest, then by name."""
    ranked = ((-match(name, model), -len(canonical(name)), name) for name in written if match(name, model))
    best = min(ranked, default=None)
    return best[2] if best else None


def listed(models: Iterable[str]) -> str:
    """Known names for people, a few of them: "NVIDIA A10, NVIDIA L4"; "none" where there is none."""
    names = sorted(set(models))
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more if names else "none"


def _occurrences(part: str, name: str) -> Iterable[int]:
    at = name.find(part)
    while at >= 0:
        yield at
        at = name.find(part, at + 1)


def _grade(name: str, start: int, end: int) -> Match:
    """How good a match `name[start:end]` is."""
    before, after = name[start - 1 : start], name[end : end + 1]
    if (before.isdigit() and name[start].isdigit()) or (after.isdigit() and name[end - 1].isdigit()):
        return Match.NONE
    return Match.WORDS if before in ("", " ") and after in ("", " ") else Match.PART
