"""Edits: JSON-patch operations with the warnings that go to the user, built map by map."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerf.wire.admission import PatchOp, pointer

Json = Mapping[str, Any]
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Edits:
    """Operations in the order they apply, and one sentence a warning."""

    operations: tuple[PatchOp, ...] = ()
    warnings: tuple[str, ...] = ()

    def __add__(self, other: "Edits") -> "Edits":
        return Edits(self.operations + other.operations, self.warnings + other.warnings)


def child(value: Json, key: str) -> Json:
    """The map under a key, empty where there is none."""
    part = value.get(key)
    return part if isinstance(part, Mapping) else {}


def edit_map(path: Path, current: object, wanted: Mapping[str, Any]) -> tuple[PatchOp, ...]:
    """The fewest operations that give the map at `path` the wanted values; None removes a key.

    The map is created when it is missing or null; keys that already have their value are left alone.
    """
    if not isinstance(current, Mapping):
        values = {key: value for key, value in sorted(wanted.items()) if value is not None}
        return (PatchOp("add", pointer(*path), values),) if values else ()
    operations = []
    for key, value in sorted(wanted.items()):
        where = pointer(*path, key)
        if value is None and key in current:
            operations.append(PatchOp("remove", where))
        elif value is not None and key not in current:
            operations.append(PatchOp("add", where, value))
        elif value is not None and current[key] != value:
            operations.append(PatchOp("replace", where, value))
    return tuple(operations)
