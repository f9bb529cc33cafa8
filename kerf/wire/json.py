"""JSON: reading what nothing is certain of, by typed access that never raises, and writing it without spaces.

For objects of the API server and of users, where a missing or odd part means "none". Where a wrong part is an error
that a user must read, use `kerf.wire.fields`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

Json = Mapping[str, Any]
"""A decoded JSON object. Treat it as read-only."""
EMPTY: Json = {}
_READ_OTHERWISE = re.compile(r"[0-9]{19}")
"""Whole numbers of more than 64 bits are floats to orjson."""


def loads(text: str) -> Any:  # noqa: ANN401 (as json.loads)
    """What `json.loads` reads or raises, at a fraction of its cost. Not for streams of the API server."""
    try:
        if _READ_OTHERWISE.search(text) is None:
            return orjson.loads(text)
    except (TypeError, ValueError):
        pass
    return json.loads(text)


def dumps(value: object, *, sort_keys: bool = False) -> str:
    """What annotations and files carry: `json.dumps` without a space."""
    return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys)


def at(value: object, *path: str) -> Json:
    """The object at a path; an empty one if there is none."""
    for key in path:
        if not isinstance(value, dict):
            return EMPTY
        value = value.get(key)
    return value if isinstance(value, dict) else EMPTY


def version_of(item: object) -> int:
    """An object's resourceVersion, which grows with every change of it; 0 where it has none."""
    text = text_at(item, "metadata", "resourceVersion")
    return int(text) if text.isascii() and text.isdigit() else 0


def text_at(value: object, *path: str) -> str:
    """The text at a path; empty if there is none. Numbers and the like count as none."""
    for key in path:
        if not isinstance(value, dict):
            return ""
        value = value.get(key)
    return value if isinstance(value, str) else ""


def items_at(value: object, *path: str) -> tuple[Json, ...]:
    """The objects in the list at a path; none if there is no list. Items that are no objects are left out."""
    found = at(value, *path[:-1]).get(path[-1])
    return tuple(item for item in found if isinstance(item, dict)) if isinstance(found, list) else ()
