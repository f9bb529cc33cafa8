"""Readers for the fields of documents that people write: each names the field, the value and the fix."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kerf.wire.errors import WireError
from kerf.wire.json import Json

API_VERSION = "kerf.dev/v1alpha1"
"""That of everything that people write for Kerf."""
LONGEST_TEXT = 253
MOST = Decimal(10_000)
_AMOUNT = re.compile(r"\d{1,5}(\.\d{1,6})?", re.ASCII)


def object_at(value: object, where: str) -> Json:
    """An object. Raises WireError."""
    if not isinstance(value, Mapping):
        raise WireError(where, value, "write an object")
    return value


def check_kind(top: Json, kind: str) -> None:
    """The document is one of this kind, of API_VERSION. Raises WireError."""
    if top.get("apiVersion") != API_VERSION or top.get("kind") != kind:
        fix = f"this version of Kerf reads apiVersion: {API_VERSION}; write apiVersion: {API_VERSION} and kind: {kind}"
        raise WireError("apiVersion, kind", f"{top.get('apiVersion')} {top.get('kind')}", fix)


def part_at(value: Json, key: str, where: str) -> Json:
    """The object at a key, empty where nothing or an empty list is written. Raises WireError for false and 0."""
    found = value.get(key)
    return {} if found is None or found == [] else object_at(found, where)


def list_at(value: object, where: str) -> list[Any]:
    """A list, empty where nothing or an empty object is written. Raises WireError."""
    if value is None or value == {}:
        return []
    if not isinstance(value, list):
        raise WireError(where, value, "write a list")
    return value


def known(value: Json, where: str, keys: Iterable[str]) -> None:
    """Every key is one of `keys`. `where` is empty at the top of a document. Raises WireError."""
    words = tuple(keys)
    for key in value:
        if key not in words:
            raise WireError(f"{where}.{key}" if where else str(key), value[key], f"unknown key; use {_or(words)}")


def whole(value: Json, key: str, where: str, default: int | None, bounds: tuple[int, int]) -> int:
    """A whole number within bounds; None as `default` makes it required. Raises WireError."""
    number = value.get(key, default)
    if isinstance(number, bool) or not isinstance(number, int) or not bounds[0] <= number <= bounds[1]:
        raise WireError(f"{where}.{key}", number, f"write a whole number from {bounds[0]} to {bounds[1]}")
    return number


def real(value: Json, key: str, where: str, default: float, bounds: tuple[float, float]) -> float:
    """A number within bounds. Raises WireError."""
    number = value.get(key, default)
    if isinstance(number, bool) or not isinstance(number, int | float) or not bounds[0] <= number <= bounds[1]:
        raise WireError(f"{where}.{key}", number, f"write a number from {bounds[0]} to {bounds[1]}")
    return float(number)


def amount(value: Json, key: str, where: str, default: Decimal | None, most: Decimal = MOST) -> Decimal:
    """An exact amount, of money for example: a number or a text of at most six decimals. Raises WireError."""
    found = value.get(key, default)
    text = "" if isinstance(found, bool) or not isinstance(found, int | float | str | Decimal) else str(found).strip()
    if not _AMOUNT.fullmatch(text) or Decimal(text) > most:
        fix = f'write an amount from 0 to {most} with at most six decimals, such as "2.69"'
        raise WireError(f"{where}.{key}", found, fix)
    return Decimal(text)


def flag(value: Json, key: str, where: str, default: bool) -> bool:
    """True or false. Raises WireError."""
    found = value.get(key, default)
    if not isinstance(found, bool):
        raise WireError(f"{where}.{key}", found, "write true or false")
    return found


def text(value: Json, key: str, where: str, default: str | None) -> str:
    """A text of 1 to 253 characters; None as `default` makes it required. Raises WireError."""
    found = value.get(key, default)
    if not isinstance(found, str) or not found or len(found) > LONGEST_TEXT:
        raise WireError(f"{where}.{key}", found, f"write a text of 1 to {LONGEST_TEXT} characters")
    return found


def one_of(value: Json, key: str, where: str, default: str | None, words: Iterable[str]) -> str:
    """One of a few words; None as `default` makes it required. Raises WireError."""
    allowed = tuple(words)
    found = value.get(key, default)
    if not isinstance(found, str) or found not in allowed:
        raise WireError(f"{where}.{key}", found, f"use {_or(allowed)}")
    return found


def _or(words: tuple[str, ...]) -> str:
    return f"one of {', '.join(words)}"
