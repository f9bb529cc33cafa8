"""Leadership of one replica: the thread that renews the Lease, and whether this replica may act.

A *term* is one uninterrupted stretch of holding the Lease, numbered from 1 in each process. A term is *open* once its
owner has seen all that the last leader can have written; only then does `term()` answer with it. What was decided in
one term may not act in another, so everything with effects carries its term and asks `holds` right before it acts.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Protocol

from kerf.kube.client import Json, Kube, PatchKind, Query
from kerf.kube.errors import KubeError, NotFound, Withheld
from kerf.kube.lease import Claim, Election, Times, lease_path, parse_lease, render_lease
from kerf.obs.loop import Loop, run_every

_LOG = logging.getLogger("kerf.leadership")
CALL_S = 1.0
"""Timeout for calls about the Lease; use it for their `Kube`."""


def steady() -> float:
    """Seconds that also pass while this machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Tenure(Protocol):
    """Whether this replica may act."""

    def term(self) -> int:
        """The open term, 0 while this replica does not lead or has not caught up."""

    def holds(self, term: int, for_s: float = 0.0) -> bool:
        """Whether the term is the same and no other replica can lead within the next `for_s` seconds."""


class Alone:
    """The only replica there is: it always leads."""

    def term(self) -> int:
        return 1

    def holds(self, term: int, for_s: float = 0.0) -> bool:  # noqa: ARG002
        return True

    def elected(self) -> int:
        """The term never ends."""
        return 1

    def open(self, term: int) -> None:
        """No leader came before, so there is nothing to catch up with."""


ALONE = Alone()


class Leadership:
    """Keeps, seeks and releases one Lease. Safe from several threads; a `Tenure`."""

    def __init__(
        self,
        kube: Kube,
        lease: tuple[str, str],
        election: Election,
        times: Times,
        clock: Callable[[], float] = steady,
    ) -> None:
        self._kube = kube
        self._namespace, self._name = lease
        self._election = election
        self._times = times
        self._clock = clock
        self._lock = threading.Lock()
        self._term = self._open = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    # ---- questions
    def elected(self) -> int:
        """The term that this replica holds, open or not; 0 when it does not lead."""
        with self._lock:
            return self._term if self._election.leads(self._clock()) else 0

    def term(self) -> int:
        with self._lock:
            return self._open if self._open == self._term and self._election.leads(self._clock()) else 0

    def holds(self, term: int, for_s: float = 0.0) -> bool:
        with self._lock:
            return term == self._term and self._election.leads(self._clock(), for_s)

    def leader(self) -> Claim | None:
        """The leader as far as this replica knows, itself included."""
        with self._lock:
            return self._election.leader(self._clock())

    def open(self, term: int) -> None:
        """The owner has caught up: `term()` answers with it from now on, unless it is over."""
        with self._lock:
            self._open = term

    # ---- life
    def start(self) -> None:
        """Begin to seek the Lease; returns at once."""
        self._thread.start()

    def release(self) -> None:
        """Stop leading at once and release the Lease, so that the next leader need not wait for it to expire."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(3 * CALL_S)
        with self._lock:
            claim = self._election.release()
        if claim is None:
            return
        try:
            self._write(claim)
        except KubeError as error:
            _LOG.warning("the lease was not released, the next leader waits for its end: %s", error)

    def run_once(self) -> None:
        """One round: read the Lease if another replica holds it, write it if it is ours or free."""
        with self._lock:
            now = self._clock()
            mine, claim = self._election.leads(now), self._election.wish(now)
        if mine and claim is None:
            return
        try:
            if not mine:
                self._observe()
                with self._lock:
                    claim = self._election.wish(self._clock())
            if claim is not None:
                self._take(claim)
        except KubeError as error:
            _LOG.warning("the lease %s/%s: %s", self._namespace, self._name, error)
            self._observe_quietly()

    # ---- inside
    def _run(self) -> None:
        every = self._times.every_s  # also after a failed round: a pause that grows would lose the Lease
        run_every(
            Loop("lease", every, at_once=True, first_pause_s=every, longest_pause_s=every), self.run_once, self._stop
        )

    def _observe(self) -> None:
        try:
            claim = parse_lease(self._kube.get(lease_path(self._namespace, self._name)))
        except NotFound:
            claim = Claim()
        with self._lock:
            self._election.observe(claim, self._clock())

    def _observe_quietly(self) -> None:
        """Read the Lease after a failed write, which may have taken effect, or lost to another replica's."""
        try:
            self._observe()
        except KubeError as error:
            _LOG.debug("the lease: %s", error)

    def _take(self, claim: Claim) -> None:
        sent_at = self._clock()
        stored = self._write(claim)
        with self._lock:
            now = self._clock()
            gap = not self._election.leads(now)
            self._election.written(stored, sent_at, now)
            if gap and self._election.leads(now):
                self._term += 1
                _LOG.info("%s leads (change %d of the lease)", self._election.identity, stored.transitions)

    def _write(self, claim: Claim) -> Claim:
        body = render_lease(self._namespace, self._name, claim, self._times, time.time())
        if claim.version:
            return parse_lease(self._kube.replace(lease_path(self._namespace, self._name), body))
        return parse_lease(self._kube.create(lease_path(self._namespace), body))


class GuardedKube:
    """A `Kube` for loops with effects: it always reads, and writes only while this replica leads.

    Every write raises Withheld otherwise, so a loop that has not noticed the end of its term does no harm.
    """

    def __init__(self, kube: Kube, tenure: Tenure) -> None:
        self._kube = kube
        self._tenure = tenure
        self.get, self.list, self.pages, self.watch = kube.get, kube.list, kube.pages, kube.watch
        self.moment_ms = kube.moment_ms

    def create(self, path: str, body: object, query: Query | None = None) -> Json:
        return self._checked("POST", path).create(path, body, query)

    async def create_while(self, path: str, body: object, holds: Callable[[], bool], timeout_s: float) -> Json:
        return await self._checked("POST", path).create_while(path, body, holds, timeout_s)

    def patch(self, path: str, body: object, kind: PatchKind = "merge", query: Query | None = None) -> Json:
        return self._checked("PATCH", path).patch(path, body, kind, query)

    def replace(self, path: str, body: object) -> Json:
        return self._checked("PUT", path).replace(path, body)

    def delete(self, path: str, body: object | None = None) -> Json:
        return self._checked("DELETE", path).delete(path, body)

    def _checked(self, method: str, path: str) -> Kube:
        if not self._tenure.term():
            raise Withheld(f"{method} {path}: this replica does not lead")
        return self._kube


def unique_identity(name: str) -> str:
    """A unique name for this process, even where several are called the same."""
    return f"{name}_{uuid.uuid4().hex[:8]}"
