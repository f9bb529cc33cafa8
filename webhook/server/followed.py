"""One kind of object, followed as values by name: each change hands all of them on."""

from collections.abc import Callable
from typing import Generic, TypeVar

from kerf.kube.client import Json, Kube, Query
from kerf.kube.watch import Follower
from kerf.wire.json import text_at

T = TypeVar("T")


class Followed(Generic[T]):
    """Follows a path. `read(object, before)` makes a value, whatever the object says; `changed` gets all values."""

    def __init__(
        self,
        kube: Kube,
        path: str,
        read: Callable[[Json, T | None], T],
        changed: Callable[[tuple[T, ...]], None],
        *,
        query: Query | None = None,
        optional: bool = False,
    ) -> None:
        self._read = read
        self._changed = changed
        self._values: dict[str, T] = {}
        self._follower = Follower(kube, path, self._replace, self._change, query=query, optional=optional)

    @property
    def synced(self) -> bool:
        """Whether the first list was handed on."""
        return self._follower.synced.is_set()

    def start(self) -> None:
        """Begin; returns at once."""
        self._follower.start()

    def stop(self) -> None:
        """End as soon as the current wait ends."""
        self._follower.stop()

    def _replace(self, items: list[Json]) -> None:
        before = self._values
        self._values = {name: self._read(item, before.get(name)) for item in items if (name := name_of(item))}
        self._hand_on()

    def _change(self, kind: str, item: Json) -> None:
        name = name_of(item)
        before = self._values.get(name)
        if kind == "DELETED":
            self._values.pop(name, None)
        else:
            self._values[name] = self._read(item, before)
        if self._values.get(name) != before:
            self._hand_on()

    def _hand_on(self) -> None:
        self._changed(tuple(value for _, value in sorted(self._values.items())))


def name_of(item: Json) -> str:
    """The object's name."""
    return text_at(item, "metadata", "name")
