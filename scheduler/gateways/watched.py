"""The pods that serve models and the Services that lead to them, followed by watches of their own.

Only what the settings name is followed: the pods of their namespaces with their labels. Of these only pods that serve
are kept, and members of the groups of LeaderWorkerSets.
"""

import threading
from collections.abc import Callable
from typing import Any

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.watch import Follower
from kerf.values.gateways import GatewaySettings, Per
from kerf.wire.json import Json, at
from kerf.wire.subject import serving_port

SERVICES = "/api/v1/services"
_GROUP = "leaderworkerset.sigs.k8s.io/name"
Key = tuple[str, str]


class _Kept:
    """Objects of some paths by path, namespace and name."""

    def __init__(self, keeps: Callable[[Json], bool], changed: threading.Event) -> None:
        self._lock = threading.Lock()
        self._items: dict[str, dict[Key, Json]] = {}
        self._keeps = keeps
        self._changed = changed
        self.version = 0
        """Grows with every change."""

    def items(self) -> list[Json]:
        with self._lock:
            return [item for kept in self._items.values() for _, item in sorted(kept.items())]

    def follower(self, kube: Kube, path: str, query: dict[str, str | int]) -> Follower:
        def replace(items: list[dict[str, Any]]) -> None:
            with self._lock:
                self._items[path] = {_key(item): item for item in items if self._keeps(item)}
                self.version += 1
            self._changed.set()

        def change(event: str, item: dict[str, Any]) -> None:
            with self._lock:
                kept = self._items.setdefault(path, {})
                before = kept.pop(_key(item), None)
                if event != "DELETED" and self._keeps(item):
                    kept[_key(item)] = item
                concerns = before is not None or _key(item) in kept
                self.version += concerns
            if concerns:
                self._changed.set()

        return Follower(kube, path, replace, change, query=query)


class Watched:
    """Follows what one version of the settings names."""

    def __init__(self, kube: Kube, settings: GatewaySettings, changed: threading.Event) -> None:
        self.scope = scope_of(settings)
        self._pods, self._services = _Kept(_matters, changed), _Kept(lambda _: True, changed)
        selector = ",".join(f"{key}={value}" for key, value in settings.pods)
        query: dict[str, str | int] = {"labelSelector": selector} if selector else {}
        followers = [self._pods.follower(kube, path, query) for path in _paths(paths.PODS, settings)]
        if settings.per is Per.SERVICE:
            followers += [self._services.follower(kube, path, {}) for path in _paths(SERVICES, settings)]
        self._followers = followers

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

    @property
    def version(self) -> int:
        """Grows with every change of what is kept."""
        return self._pods.version + self._services.version

    @property
    def pods(self) -> list[Json]:
        """The pods that serve. Callers do not change them."""
        return self._pods.items()

    @property
    def services(self) -> list[Json]:
        """The Services; none unless they are targets."""
        return self._services.items()


def scope_of(settings: GatewaySettings) -> tuple[object, ...]:
    """What of the settings changes what is followed."""
    return (settings.namespaces, settings.pods, settings.per)


def _paths(everywhere: str, settings: GatewaySettings) -> list[str]:
    if not settings.namespaces:
        return [everywhere]
    root, _, plural = everywhere.rpartition("/")
    return [f"{root}/namespaces/{namespace}/{plural}" for namespace in settings.namespaces]


def _matters(pod: Json) -> bool:
    return bool(serving_port(pod)) or _GROUP in at(pod, "metadata", "labels")


def _key(item: Json) -> Key:
    meta = at(item, "metadata")
    return str(meta.get("namespace") or ""), str(meta.get("name", ""))
