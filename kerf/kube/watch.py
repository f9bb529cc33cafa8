"""Follows a resource: list, watch, and list again when the watch is too old; one thread each."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from kerf.kube.client import Json, Kube, Query
from kerf.kube.errors import Forbidden, Gone, KubeError, NotFound
from kerf.wire.json import at

_LOG = logging.getLogger("kerf.watch")
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0


class Listener(Protocol):
    """Hears what a follower passes on, from the follower's thread. Never raises, and returns soon."""

    def change(self, kind: str, item: Json, version: str) -> None:
        """A single event."""

    def relisted(self) -> None:
        """Everything was listed again: single events may have been left out."""


class Follower:
    """Follows one path and passes every state to two callbacks, in order, from one thread.

    `replace(items)` gets the whole list after each (re)list; `change(type, object)` gets single events. A resource
    that does not exist (`optional`) counts as an empty list and is asked for again every few seconds.
    """

    _streams = False
    _absences: tuple[type[KubeError], ...] = (NotFound,)

    def __init__(
        self,
        kube: Kube,
        path: str,
        replace: Callable[[list[Json]], None],
        change: Callable[[str, Json], None],
        *,
        query: Query | None = None,
        optional: bool = False,
    ) -> None:
        self.kube = kube
        self.path = path
        self.give_way: Callable[[], None] = lambda: None
        """Called before each event of the watch, so that others may go first."""
        self._listeners: tuple[Listener, ...] = ()
        self._replace = replace
        self._change = change
        self._query = dict(query or {})
        self._optional = optional
        self._stop = threading.Event()
        self._mutex = threading.Lock()
        self._version = ""
        self.synced = threading.Event()
        """Set once the first list was passed on."""
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End as soon as the current wait ends."""
        self._stop.set()

    def attach(self, listener: Listener) -> None:
        """Pass every further event on to one listener more."""
        with self._mutex:
            self._listeners = (*self._listeners, listener)

    def detach(self, listener: Listener) -> None:
        """Pass nothing on to it any more."""
        with self._mutex:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

    def reached(self, version: str) -> bool:
        """Whether everything up to a resourceVersion was passed on. Versions of one etcd grow."""
        with self._mutex:
            return bool(self._version) and int(self._version) >= int(version)

    def merge(self, items: list[Json], version: str) -> None:
        """Pass on now what a list at `version` shows and the watch has not yet; the watch will pass it on again."""
        if not self.synced.is_set():
            raise ValueError("a list can be merged once the first one was passed on")
        with self._mutex:
            seen = int(self._version)
            if seen < int(version):
                for item in items:
                    if int(item["metadata"]["resourceVersion"]) > seen:
                        self._change("MODIFIED", item)

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        version = ""
        while not self._stop.is_set():
            try:
                if not version:
                    version = self._list()
                    self.synced.set()
                version = self._follow(version)
                pause = FIRST_PAUSE_S
            except Gone:
                version = ""
            except self._absences as error:
                pause = self._absent(error, pause)
                version = ""
            except KubeError as error:
                _LOG.warning("watch of %s: %s; again in %.1f s", self.path, error, pause)
                version = self._version if version else ""  # what was passed on is not passed on again
                self._stop.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
            except Exception:  # noqa: BLE001 (a defect of a callback must not leave the store stale for ever)
                _LOG.exception("watch of %s: an object could not be taken in; all are listed again", self.path)
                version = ""
                self._stop.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    def _list(self) -> str:
        found = [""]

        def items() -> Iterator[Json]:
            for page, found[0] in self.kube.pages(self.path, self._query):
                yield from page

        with self._mutex:
            self._replace(cast("list[Json]", items()) if self._streams else list(items()))
            self._version = found[0]
            for listener in self._listeners:
                listener.relisted()
        return found[0]

    def _absent(self, error: KubeError, pause: float) -> float:
        if self._optional:
            self._replace([])
            self.synced.set()
            self._stop.wait(LONGEST_PAUSE_S)
            return FIRST_PAUSE_S
        _LOG.warning("watch of %s: %s; again in %.1f s", self.path, error, pause)
        self._stop.wait(pause)
        return min(pause * 2, LONGEST_PAUSE_S)

    def _follow(self, version: str) -> str:
        for kind, item in self.kube.watch(self.path, version, self._query):
            if self._stop.is_set():
                break
            version = str(at(item, "metadata").get("resourceVersion") or version)
            self.give_way()
            with self._mutex:
                if kind != "BOOKMARK":
                    self._change(kind, item)
                    for listener in self._listeners:
                        listener.change(kind, item, version)
                self._version = version
        return version


class PermittedFollower(Follower):
    """What its credential may not read counts as absent, as what does not exist does; that is logged once."""

    _absences = (NotFound, Forbidden)
    _said = False
    refused = False
    """Whether the credential may not read it now."""

    def _list(self) -> str:
        version = super()._list()
        self.refused = False
        return version

    def _absent(self, error: KubeError, pause: float) -> float:
        self.refused = isinstance(error, Forbidden)
        if self.refused and not self._said:
            _LOG.warning("%s is left out: %s", self.path, error)
            self._said = True
        return super()._absent(error, pause)


class StreamFollower(Follower):
    """Its `replace` takes any iterable, and gets the items as they are read instead of all at once."""

    _streams = True
