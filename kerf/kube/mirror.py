"""Local copies of a few kinds of objects, kept up to date by watches."""

import threading
from collections.abc import Callable, Mapping
from functools import partial

from kerf.kube.client import Json, Kube, Query
from kerf.kube.watch import Follower
from kerf.wire.json import at, version_of

Key = tuple[str, str, str]
"""Kind, namespace (empty for cluster-wide kinds) and name."""


class Mirror:
    """Follows `paths` (path to kind; a kind may have several). Kinds whose CRD is not installed count as empty.

    What `keeps` refuses is not held in memory, and its changes are none.
    """

    def __init__(
        self,
        kube: Kube,
        paths: Mapping[str, str],
        query: Query | None = None,
        *,
        changed: threading.Event | None = None,
        keeps: Callable[[Json], bool] = lambda _: True,
    ) -> None:
        self._lock = threading.Lock()
        self._kinds = dict(paths)
        self._items: dict[str, dict[Key, Json]] = {path: {} for path in paths}
        self._keeps = keeps
        self.version = 0
        """Grows with every change."""
        self.changed = changed or threading.Event()
        """Set with every change; several mirrors may share one."""
        self._followers = [
            Follower(kube, path, self._replacer(path, kind), partial(self.apply, path), query=query, optional=True)
            for path, kind in paths.items()
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
            found = {key: item for kept in self._items.values() for key, item in kept.items()}
        return [item for key, item in sorted(found.items()) if not kinds or key[0] in kinds]

    def get(self, kind: str, name: str, namespace: str = "") -> Json | None:
        """One object. Callers do not change it."""
        key = (kind, namespace, name)
        with self._lock:
            return next((kept[key] for kept in self._items.values() if key in kept), None)

    def apply(self, path: str, event: str, item: Json) -> None:
        """One event, or what a write of the owner's did: its event comes later. What is older changes nothing."""
        kind = self._kinds[path]
        key, stays = _key(kind, item), event != "DELETED" and self._keeps(item)
        with self._lock:
            kept = self._items[path]
            known = kept.get(key)
            concerns = stays if known is None else version_of(known) <= version_of(item)
            if concerns:
                kept.pop(key, None)
                if stays:
                    kept[key] = {"kind": kind, **item}
            self.version += concerns
        if concerns:
            self.changed.set()

    def _replacer(self, path: str, kind: str) -> Callable[[list[Json]], None]:
        def replace(items: list[Json]) -> None:
            kept = {_key(kind, item): {"kind": kind, **item} for item in items if self._keeps(item)}
            with self._lock:
                self._items[path] = kept
                self.version += 1
            self.changed.set()

        return replace


def _key(kind: str, item: Json) -> Key:
    meta = at(item, "metadata")
    return kind, str(meta.get("namespace") or ""), str(meta.get("name", ""))
