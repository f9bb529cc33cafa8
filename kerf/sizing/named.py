"""The annotation by which a pod names its model: `kerf.dev/model: NAME[;max-len=N;concurrency=N;…]`."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kerf.sizing.request import Ask
from kerf.wire.errors import WireError

MODEL = "kerf.dev/model"
WHERE = f"metadata.annotations[{MODEL}]"
LONGEST = 512


@dataclass(frozen=True, slots=True)
class Named:
    """A model by name, what its server must hold, and the container that serves it ("": the only one)."""

    name: str
    ask: Ask = field(default_factory=Ask)
    container: str = ""
    given: frozenset[str] = frozenset()
    """The keys that the annotation names."""


def _whole(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError("write a whole number without a unit: 32768, not 32k")
    return int(value)


def _word(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,63}", value):
        raise ValueError("write a word of letters, digits, dots, hyphens and underscores")
    return value


KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "runtime": ("runtime", _word),
    "runtime-version": ("version", _word),
    "max-len": ("max_len", _whole),
    "concurrency": ("concurrency", _whole),
    "tp": ("tp", _whole),
    "pp": ("pp", _whole),
    "ep": ("ep", _whole),
    "kv-dtype": ("kv_dtype", _word),
    "quantization": ("quantization", _word),
    "batched-tokens": ("batched_tokens", _whole),
    "loras": ("loras", _whole),
    "lora-rank": ("lora_rank", _whole),
}
"""Key of the annotation to field of the ask. `kerf model estimate` has the same words as flags."""


def parse_named(text: object) -> Named:
    """Read the annotation. Raises WireError that names the part, its value and the fix."""
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise WireError(WHERE, text, f"write NAME[;max-len=N;concurrency=N], at most {LONGEST} characters")
    name, *parts = (part.strip() for part in text.split(";"))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", name):
        raise WireError(WHERE, name, "write the model's name first: a name of the catalogue, or a repository")
    found = Named(name)
    for part in parts:
        if part:
            found = _with(found, part)
    return found


def _with(named: Named, part: str) -> Named:
    key, sign, value = (piece.strip() for piece in part.partition("="))
    where = f"{WHERE}.{key}" if key in KEYS or key == "container" else WHERE
    if not sign or (key not in KEYS and key != "container"):
        raise WireError(where, part, f"write KEY=VALUE with one of {', '.join([*KEYS, 'container'])}")
    if key in named.given:
        raise WireError(where, value, "write it once")
    given = named.given | {key}
    try:
        if key == "container":
            return replace(named, container=_word(value), given=given)
        to, read = KEYS[key]
        return replace(named, ask=replace(named.ask, **{to: read(value)}), given=given)
    except ValueError as error:
        raise WireError(where, value, str(error)) from error
