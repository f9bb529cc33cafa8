"""What only the leader does: catch up, open the term, run the loops with effects, stop them when the term is over."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.kube.leadership import Tenure
from kerf.kube.watch import Follower
from kerf.obs.loop import Loop as Rounds
from kerf.obs.loop import run_every
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.expire import Expiry
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.leader")
EVERY_S = 0.05
LOOP = Rounds("leader", every_s=EVERY_S, first_pause_s=EVERY_S, longest_pause_s=1.0)
"""Short pauses: a replica that keeps the Lease and serves no term blocks every bind."""
LAST_WRITES_S = 0.2
"""Time for writes that the API server let pass just before the last leader's end to be seen in etcd."""
FEW_PODS = 2_000
"""Up to here a list is read at once; beyond, the watch gets a moment to show that it is as new."""
WATCH_S = 1.0
END_S = 5.0


class Loop(Protocol):
    """Something that runs in a thread of its own until it is stopped."""

    def run(self, stop: threading.Event) -> None:
        """Work; return soon after `stop` is set."""


class Seat(Tenure, Protocol):
    """A tenure that its owner opens."""

    def elected(self) -> int:
        """The term that is held, open or not; 0 for none."""

    def open(self, term: int) -> None:
        """Let `term()` answer with it."""


class CatchUp:
    """Sees everything that the last leader can have written, and settles this replica's own old assumptions."""

    def __init__(self, store: Store, kube: Kube, nodes: Follower, pods: Follower) -> None:
        self._store = store
        self._kube = kube
        self._nodes = nodes
        self._pods = pods
        self._expiry = Expiry(store, kube, ask_after_s=-1.0)

    def run_once(self, stop: threading.Event) -> bool:
        """One attempt; whether it is done."""
        if not (self._nodes.synced.is_set() and self._pods.synced.is_set()) or stop.wait(LAST_WRITES_S):
            return False
        try:
            self._see_all(stop)
        except KubeError as error:
            _LOG.warning("the new leader cannot read the pods yet: %s", error)
            return False
        self._expiry.run_once()
        return not self._store.ledger.assumed_before(time.monotonic() + 1.0)

    def _see_all(self, stop: threading.Event) -> None:
        """Lists without a resourceVersion are as new as etcd."""
        if self._store.desk.size > FEW_PODS:
            newest = str(self._kube.get(paths.PODS, {"limit": 1})["metadata"]["resourceVersion"])
            deadline = time.monotonic() + WATCH_S
            while not self._pods.reached(newest) and time.monotonic() < deadline:
                stop.wait(EVERY_S)
            if self._pods.reached(newest):
                return
        self._pods.merge(*self._kube.list(paths.PODS))


class LeaderLoops:
    """Starts new loops in each term and stops them when it ends.

    `loops` makes them, so that no plan of an earlier term survives; add what only one replica may do there.
    """

    def __init__(
        self,
        seat: Seat,
        catch_up: Callable[[threading.Event], bool],
        loops: Callable[[], Sequence[Loop]],
        store: Store,
        metrics: SchedulerMetrics,
    ) -> None:
        self._seat = seat
        self._catch_up = catch_up
        self._loops = loops
        self._store = store
        self._metrics = metrics

    def run(self, stop: threading.Event) -> None:
        """Serve one term after another until stopped."""
        run_every(LOOP, lambda: self._serve_elected(stop), stop)

    def _serve_elected(self, stop: threading.Event) -> None:
        term = self._seat.elected()
        if term:
            self._serve(term, stop)

    def _serve(self, term: int, stop: threading.Event) -> None:
        started = time.monotonic()
        while not self._catch_up(stop):
            if stop.wait(EVERY_S) or not self._seat.holds(term):
                return
        self._seat.open(term)
        _LOG.info("term %d: caught up in %.2f s", term, time.monotonic() - started)
        self._metrics.leads.set(1)
        self._metrics.elections.inc()
        over = threading.Event()
        threads = [start_loop(loop, over) for loop in self._loops()]
        while self._seat.holds(term) and not stop.wait(EVERY_S):
            pass
        self._metrics.leads.set(0)
        over.set()
        self._store.desk.changed.set()  # the planner waits for it
        for thread in threads:
            thread.join(END_S)
        self._metrics.registry.end_term()
        self._store.planning.drop()
        _LOG.info("term %d is over", term)


def start_loop(loop: Loop, over: threading.Event) -> threading.Thread:
    """Run it in a thread of its own."""
    thread = threading.Thread(target=loop.run, args=(over,), name=type(loop).__name__, daemon=True)
    thread.start()
    return thread
