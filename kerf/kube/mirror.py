"""Local copies of a few kinds of objects, kept up to date by watches."""

import threading
from collections.abc import Callable, Mapping

from kerf.kube.client import Json, Kube, Query
from kerf.kube.watch import Follower
from kerf.wire.json import at

Key = tuple[str, str, str]
"""Kind, namespace (empty for cluster-wide kinds) and name."""


class Mirror:
    """Follows `paths` (kind to path). Kinds whose CRD is not installed count as empty."""

    def __init__(
        self,
        kube: Kube,
        paths: Mapping[str, str],
        query: Query | None = None,
        *,
        changed: threading.Event | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._items: dict[Key, Json] = {}
        self.changed = changed or threading.Event()
        """Set with every change; several mirrors may share one."""
        self._followers = [
            Follower(kube, path, self._replacer(kind), self._changer(kind), query=query, optional=True)
            for kind, path in paths.items()
        ]

    def start(self) -> None:
        """Begin; returns at once."""
        for follower in self._followers:
            follower.start()

    def stop(self) -> None:
        """End as soon as the current waits end."""
        for follower in self._followers:
            follower.stop()

    @property
    def synced(self) -> bool:
        """Whether everything was listed once."""
        return all(follower.synced.is_set() for follower in self._followers)

    def items(self, *kinds: str) -> list[Json]:
        """The objects of these kinds, or of all, in the order of their keys. Callers do not change them."""
        with self._lock:
            return [item for key, item in sorted(self._items.items()) if not kinds or key[0] in kinds]

    def get(self, kind: str, name: str, namespace: str = "") -> Json | None:
        """One object. Callers do not change it."""
        with self._lock:
            return self._items.get((kind, namespace, name))

    def _replacer(self, kind: str) -> Callable[[list[Json]], None]:
        def replace(items: list[Json]) -> None:
            with self._lock:
                for key in [key for key in self._items if key[0] == kind]:
                    del self._items[key]
                self._items.update((_key(kind, item), {"kind": kind, **item}) for item in items)
            self.changed.set()

        return replace

    def _changer(self, kind: str) -> Callable[[str, Json], None]:
        def change(event: str, item: Json) -> None:
            with self._lock:
                self._items.pop(_key(kind, item), None)
                if event != "DELETED":
                    self._items[_key(kind, item)] = {"kind": kind, **item}
            self.changed.set()

        return change


def _key(kind: str, item: Json) -> Key:
    meta = at(item, "metadata")
    return kind, str(meta.get("namespace") or ""), str(meta.get("name", ""))
