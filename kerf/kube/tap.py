"""A second reader of what a follower watches: it lists the objects once, and shares the watch from there on."""

import logging
import threading
from collections.abc import Callable

from kerf.kube.client import Json
from kerf.kube.errors import KubeError
from kerf.kube.watch import FIRST_PAUSE_S, LONGEST_PAUSE_S, Follower

_LOG = logging.getLogger("kerf.watch")
IDLE_S = 0.5
ENDING_S = 10.0


class Tap:
    """Passes every state to two callbacks, in order, as a follower does.

    What the watch says while the list is read waits for the list. After it, only what is newer than the list is passed
    on. It lists again where the follower did, for then single events may be missing, and where a callback fails.
    """

    def __init__(
        self, follower: Follower, replace: Callable[[list[Json]], None], change: Callable[[str, Json], None]
    ) -> None:
        self._follower = follower
        self._replace = replace
        self._change = change
        self._mutex = threading.Lock()
        self._waits: list[tuple[str, Json, str]] | None = []
        """Events that wait for the list; None once it was passed on."""
        self._since = 0
        """The version of the list."""
        self._stop = threading.Event()
        self._list_again = threading.Event()
        self.synced = threading.Event()
        """Set once the first list was passed on."""
        self._thread = threading.Thread(target=self._run, name=f"tap {follower.path}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._follower.attach(self)
        self._thread.start()

    def stop(self) -> None:
        """End; returns once no callback runs, or after a while."""
        self._follower.detach(self)
        self._stop.set()
        self._list_again.set()
        self._thread.join(ENDING_S)

    @property
    def current(self) -> bool:
        """Whether all that the follower has heard was passed on. Not while a list is read, for events wait for it."""
        return self._waits is None

    # ---- the follower's side
    def change(self, kind: str, item: Json, version: str) -> None:
        """An event of the watch."""
        with self._mutex:
            if self._waits is not None:
                self._waits.append((kind, item, version))
            else:
                self._pass_on(kind, item, version)

    def relisted(self) -> None:
        """Events may be missing."""
        with self._mutex:
            self._lose()

    # ---- inside
    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        self._list_again.set()
        while not self._stop.is_set():
            if not self._list_again.wait(IDLE_S):
                continue
            self._list_again.clear()
            try:
                self._list()
            except Exception as error:  # noqa: BLE001 (a defect must not leave it stale for ever)
                known = isinstance(error, KubeError)
                said = error if known else "an object could not be taken in"
                _LOG.warning("list of %s: %s; again in %.1f s", self._follower.path, said, pause, exc_info=not known)
                self._list_again.set()
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S) if self._list_again.is_set() else FIRST_PAUSE_S

    def _list(self) -> None:
        """Pass on the list, then what was watched meanwhile. The follower is never kept waiting for either."""
        items, version = self._follower.kube.list(self._follower.path)
        with self._mutex:
            if self._is_over():
                return
            self._since = int(version)
        self._replace(items)
        while True:
            with self._mutex:
                if self._is_over():
                    return
                waited, self._waits = self._waits, [] if self._waits else None
            if not waited:
                break
            for event in waited:
                self._pass_on(*event)
        self.synced.set()

    def _is_over(self) -> bool:
        """Whether this list counts no more: the next one, if there is one, says all."""
        return self._stop.is_set() or self._list_again.is_set()

    def _pass_on(self, kind: str, item: Json, version: str) -> None:
        if int(version) <= self._since:
            return
        try:
            self._change(kind, item)
        except Exception:  # noqa: BLE001 (it must not stop the follower, nor stay stale)
            _LOG.exception("watch of %s: an object could not be taken in; all are listed again", self._follower.path)
            self._lose()

    def _lose(self) -> None:
        """Single events may be missing: what comes from now on waits for the next list."""
        self._waits = []
        self._list_again.set()
