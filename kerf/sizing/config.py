"""Readers for a model's config.json: null counts as absent, numbers must be numbers, and errors name the field."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerf.wire.errors import WireError

LARGEST = 2**31 - 1
"""No dimension, length or count of a model is larger; a larger one is a mistake."""
MOST_LAYERS = 1024


@dataclass(frozen=True, slots=True)
class Config:
    """One object of a config.json and its path."""

    values: Mapping[str, Any]
    where: str = ""

    def field(self, key: str) -> str:
        """A key's path, as people write it."""
        return f"{self.where}.{key}" if self.where else key

    def has(self, *keys: str) -> bool:
        """Whether one of the keys is written and not null."""
        return any(self.values.get(key) is not None for key in keys)

    def maybe(self, *keys: str, least: int = 0, most: int = LARGEST) -> int | None:
        """The whole number of the first key that is written, None if none is. Raises WireError."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, float) and abs(value) <= most and value == int(value):
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise WireError(self.field(key), value, f"write a whole number from {least} to {most}")
            return value
        return None

    def whole(self, *keys: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """The same, required where there is no default. Raises WireError."""
        found = self.maybe(*keys, least=least, most=most)
        if found is not None:
            return found
        if default is None:
            raise WireError(
                self.field(keys[0]), None, f"write {' or '.join(keys)}: the size of the model depends on it"
            )
        return default

    def real(self, key: str, default: float) -> float:
        """A finite number. Raises WireError."""
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise WireError(self.field(key), value, "write a finite number")
        return float(value)

    def flag(self, *keys: str, default: bool = False) -> bool:
        """True or false. A text is refused: "false" counts as true in Python, so engines disagree. Raises WireError."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if not isinstance(value, bool):
                raise WireError(self.field(key), value, "write true or false, without quotes")
            return value
        return default

    def text(self, *keys: str, default: str = "") -> str:
        """A text. Raises WireError."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if not isinstance(value, str):
                raise WireError(self.field(key), value, "write a text")
            return value
        return default

    def part(self, key: str) -> "Config | None":
        """A nested object, None where it is absent. Raises WireError."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise WireError(self.field(key), value, "write an object")
        return Config(value, self.field(key))

    def list(self, key: str, most: int = 100_000) -> tuple[Any, ...] | None:
        """A list, None where it is absent. Raises WireError."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) > most:
            raise WireError(self.field(key), value, f"write a list of at most {most}")
        return tuple(value)

    def wholes(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers, None where it is absent. Raises WireError."""
        found = self.list(key)
        if found is None:
            return None
        for item in found:
            if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= LARGEST:
                raise WireError(self.field(key), item, "write a list of whole numbers")
        return found

    def words(self, key: str) -> tuple[str, ...] | None:
        """A list of texts, None where it is absent. Raises WireError."""
        found = self.list(key)
        if found is None:
            return None
        for item in found:
            if not isinstance(item, str):
                raise WireError(self.field(key), item, "write a list of texts")
        return found


def parse_config(document: object) -> Config:
    """A config.json. Raises WireError."""
    if not isinstance(document, Mapping):
        raise WireError("config.json", document, "write an object")
    return Config(document)
