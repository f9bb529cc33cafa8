"""An API server in memory: objects by path, resourceVersions, watches, bindings, and failures on demand."""

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kerf.kube.client import Json, Page, PatchKind, Query
from kerf.kube.errors import Conflict, Invalid, KubeError, NotFound, Withheld

FAKE_PAGE = 3
_LISTS = {"Node": "/api/v1/nodes", "Pod": "/api/v1/pods"}


class FakeKube:
    """A `kerf.kube.client.Kube`. `writes` lists (method, path) of every write that was asked for.

    `fail` is called before each request with (method, path) and may raise a KubeError; `after` is called when a
    request has taken effect and may raise too, as when the answer is lost.
    """

    def __init__(self, *objects: Json) -> None:
        self._lock = threading.Condition()
        self._objects: dict[str, Json] = {}
        self._log: list[tuple[int, str, str, Json]] = []
        self._version = 0
        self.writes: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], None] = lambda method, path: None
        self.after: Callable[[str, str], None] = lambda method, path: None
        self.moment: int | None = None
        for item in objects:
            self.put(item)

    # ---- what a test does directly
    def put(self, item: Json) -> Json:
        """Create or replace an object; watchers see it."""
        with self._lock:
            path = path_of(item)
            return self._store(path, copy.deepcopy(item), "MODIFIED" if path in self._objects else "ADDED")

    def remove(self, path: str) -> None:
        """Delete an object; watchers see it."""
        with self._lock:
            item = self._objects.pop(path)
            self._record("DELETED", path, item)

    def objects(self, prefix: str = "") -> list[Json]:
        """Copies of the stored objects whose path starts with `prefix`, sorted by path."""
        with self._lock:
            return [copy.deepcopy(item) for path, item in sorted(self._objects.items()) if path.startswith(prefix)]

    # ---- Kube
    def moment_ms(self) -> int | None:
        self.fail("GET", "/version")
        return self.moment

    def get(self, path: str, query: Query | None = None) -> Json:
        self.fail("GET", path)
        if query and "limit" in query:
            items, version = self.list(path, query)
            return {"items": items[: int(query["limit"])], "metadata": {"resourceVersion": version}}
        with self._lock:
            return copy.deepcopy(self._found(path))

    def create(self, path: str, body: object, query: Query | None = None) -> Json:
        assert isinstance(body, dict)
        if query and "dryRun" in query:
            self.fail("POST", path)
            return {}
        self.writes.append(("POST", path))
        self.fail("POST", path)
        answer = self._bind(path, body) if path.endswith("/binding") else self._create(path, copy.deepcopy(body))
        self.after("POST", path)
        return answer

    async def create_while(self, path: str, body: object, holds: Callable[[], bool], timeout_s: float) -> Json:
        if not holds():
            raise Withheld(f"POST {path}: the right to do so has ended")
        return self.create(path, body)

    def patch(self, path: str, body: object, kind: PatchKind = "merge", query: Query | None = None) -> Json:
        self.writes.append(("PATCH", path))
        self.fail("PATCH", path)
        if kind == "json" or not isinstance(body, dict):
            raise Invalid(415, "UnsupportedMediaType", "the fake knows merge and apply patches only")
        where = path.removesuffix("/status")
        with self._lock:
            item = self._objects.get(where) if kind == "apply" else self._found(where)
            merged = _merge(item or {}, body)
            answer = self._store(where, merged, "MODIFIED" if item else "ADDED")
        self.after("PATCH", path)
        return answer

    def replace(self, path: str, body: object) -> Json:
        assert isinstance(body, dict)
        self.writes.append(("PUT", path))
        self.fail("PUT", path)
        with self._lock:
            old = self._found(path)
            asked = (body.get("metadata") or {}).get("resourceVersion")
            if asked and asked != old["metadata"]["resourceVersion"]:
                raise Conflict(409, "Conflict", f"{path} has changed")
            answer = self._store(path, copy.deepcopy(body), "MODIFIED")
        self.after("PUT", path)
        return answer

    def delete(self, path: str, body: object | None = None) -> Json:
        self.writes.append(("DELETE", path))
        self.fail("DELETE", path)
        with self._lock:
            self._found(path)
            self.remove(path)
        return {}

    def list(self, path: str, query: Query | None = None) -> tuple[list[Json], str]:
        self.fail("GET", path)
        with self._lock:
            items = [copy.deepcopy(i) for p, i in sorted(self._objects.items()) if _selected(p, i, path, query)]
            return items, str(self._version)

    def pages(self, path: str, query: Query | None = None) -> Iterator[tuple[Page, str]]:
        items, version = self.list(path, query)
        for start in range(0, max(1, len(items)), FAKE_PAGE):
            yield items[start : start + FAKE_PAGE], version

    def watch(
        self, path: str, resource_version: str, query: Query | None = None, timeout_s: int = 300
    ) -> Iterator[tuple[str, Json]]:
        self.fail("WATCH", path)
        seen = int(resource_version or 0)
        while True:
            with self._lock:
                fresh = [entry for entry in self._log if entry[0] > seen]
                if not fresh:
                    self._lock.wait(0.05)
            if not fresh:
                self.fail("WATCH", path)
                continue
            for version, kind, where, item in fresh:
                seen = version
                if _selected(where, item, path, query):
                    yield kind, copy.deepcopy(item)

    # ---- inside
    def _found(self, path: str) -> Json:
        if path not in self._objects:
            raise NotFound(404, "NotFound", f"{path} not found")
        return self._objects[path]

    def _create(self, path: str, body: Json) -> Json:
        with self._lock:
            meta = body.setdefault("metadata", {})
            if "name" not in meta:
                meta["name"] = f"{meta.get('generateName', 'x')}{self._version}"
            where = f"{path}/{meta['name']}"
            if where in self._objects:
                raise Conflict(409, "AlreadyExists", f"{where} exists")
            return self._store(where, body, "ADDED")

    def _bind(self, path: str, body: Json) -> Json:
        with self._lock:
            pod = self._found(path.removesuffix("/binding"))
            uid = (body.get("metadata") or {}).get("uid")
            if uid and uid != pod["metadata"].get("uid"):
                raise Conflict(409, "Conflict", "the uid in the precondition does not match")
            if pod["spec"].get("nodeName"):
                raise Conflict(409, "Conflict", f"pod is already assigned to node {pod['spec']['nodeName']}")
            if pod["metadata"].get("deletionTimestamp"):
                raise Conflict(409, "Conflict", "pod is being deleted")
            bound = copy.deepcopy(pod)
            bound["spec"]["nodeName"] = body["target"]["name"]
            bound["metadata"].setdefault("annotations", {}).update(
                (body.get("metadata") or {}).get("annotations") or {}
            )
            return self._store(path.removesuffix("/binding"), bound, "MODIFIED")

    def _store(self, path: str, item: Json, kind: str) -> Json:
        self._version += 1
        item.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        self._objects[path] = item
        self._record(kind, path, item)
        return copy.deepcopy(item)

    def _record(self, kind: str, path: str, item: Json) -> None:
        if kind == "DELETED":
            self._version += 1
            item["metadata"]["resourceVersion"] = str(self._version)
        self._log.append((self._version, kind, path, copy.deepcopy(item)))
        self._lock.notify_all()


def path_of(item: Json) -> str:
    """The path of an object of the core group, or of its `apiVersion: group/version`."""
    meta, kind, version = item["metadata"], item["kind"], item.get("apiVersion", "v1")
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    plural = kind.lower() + ("es" if kind.endswith("s") else "s")
    if kind == "Node" or not meta.get("namespace"):
        return f"{root}/{plural}/{meta['name']}"
    return f"{root}/namespaces/{meta['namespace']}/{plural}/{meta['name']}"


def _selected(where: str, item: Json, path: str, query: Query | None) -> bool:
    root, _, plural = path.rpartition("/")
    folder = where.rpartition("/")[0]
    everywhere = folder.startswith(f"{root}/namespaces/") and folder.endswith(f"/{plural}")
    if not (folder == path or (everywhere and folder.count("/") == path.count("/") + 2)):
        return False
    fields = str((query or {}).get("fieldSelector", ""))
    wanted = fields.partition("spec.nodeName=")[2].split(",")[0]
    return not wanted or (item.get("spec") or {}).get("nodeName") == wanted


def _merge(old: Json, new: Json) -> Json:
    merged: dict[str, Any] = copy.deepcopy(old)
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = _merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


__all__ = ["FakeKube", "KubeError", "path_of"]
