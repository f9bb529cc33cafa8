"""The lane at work: rounds of Bindings while kube-scheduler waits at the door. The shell around `decide`.

A round begins when kube-scheduler asks about a pod and more of the same queue wait. The pod at the door, which comes
first, is given its place before all others. Then batch follows batch: the queue is read, and its pods are seated one
after another while those before them are still being bound. Once nothing is left, or the filter must be answered soon,
the round waits until the watch shows its pods bound, and kube-scheduler gets its answer. It goes on with what is left.
"""

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial

from kerf.kube.client import Kube
from kerf.kube.leadership import Tenure
from kerf.kube.tap import Tap
from kerf.kube.watch import Follower
from kerf.wire.extender import BindQuery
from scheduler.express.announce import Announcer
from scheduler.express.decide import Miss, batch, in_order
from scheduler.express.seen import Pending
from scheduler.express.terrain import Terrain
from scheduler.extender.bind import REFUSED, Binder, Said
from scheduler.extender.door import Knock
from scheduler.metrics import SchedulerMetrics
from scheduler.state.answers import NoPlace
from scheduler.state.bookings import State
from scheduler.state.seating import FULL, Seat
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.express")
FEWEST = 2
"""Pods besides the one at the door for which a round is worth its while."""
ROUND_S = 1.5
"""Pods are seated for at most this long, and less where Bindings are slow: a round ends before its filter must."""
BATCH_S = 0.25
"""The queue is read again so often, for pods that have come meanwhile and may be more important."""
READING = 10
"""A batch takes at least so many times as long as the reading of the queue."""
SPARE_S = 0.05
"""Left of the filter's time when a round ends."""
SETTLE_S, MOST_SETTLE_S = 0.01, 0.2
"""Between the moment at which our watch shows a round bound and the answer, for kube-scheduler's watch. Twice as long
after each time that it was too short, and slowly less again."""
SETTLES_LESS = 0.99
HELD_S = 10.0
"""How long the place of the pod at the door is held for it."""
PASSED_S = 30.0
"""A pod about which kube-scheduler got an answer is its own for this long."""
FULL_S = 1.0
"""A kind of pods for which there is no room is tried again after this long: rounds are for those that may fit."""
IN_FLIGHT = 32
"""Bindings at the same time."""
IDLE_S = 0.2
OPENING_S = 0.3
"""After the door has opened: binds of pods that passed before it are over by then."""


class ExpressLane:
    """A leader's loop and the `Lane` behind the door. One per term."""

    def __init__(
        self,
        store: Store,
        kube: Kube,
        binder: Binder,
        metrics: SchedulerMetrics,
        tenure: Tenure,
        watched: tuple[Follower, Follower],
    ) -> None:
        """`watched` follow nodes and pods."""
        words = store.desk.names
        self._store, self._binder, self._metrics, self._tenure = store, binder, metrics, tenure
        self._terrain = Terrain(
            words=frozenset(name for names in words for name in names.all),
            ignored=frozenset(name for names in words for name in names.ignored),
            refused=self._refused,
            charged=self._charged,
        )
        self._watched = watched
        self._taps: tuple[Tap, ...] = ()
        self._announcer = Announcer(kube, lambda: self._busy)
        self._announces = False
        self._knocks: queue.SimpleQueue[Knock] = queue.SimpleQueue()
        self._room = threading.Semaphore(IN_FLIGHT)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._passed: dict[str, float] = {}
        self._full: dict[object, float] = {}
        """When there was no room for a kind of pods."""
        self._busy = False
        self._opened = math.inf
        self._binding_s = 0.0
        """How long a Binding takes, averaged over the last few."""
        self.settle_s = SETTLE_S

    def wants_from(self) -> float:
        """The monotonic time from which rounds may begin."""
        return self._opened + OPENING_S

    # ---- the door's side, on the event loop
    def wants(self, uid: str) -> bool:
        pod = self._terrain.pending(uid)
        if pod is None or pod.left or uid in self._tasks or time.monotonic() < self.wants_from():
            return False
        if not self._sees():
            return False
        return self._terrain.eligible(pod.scheduler) > FEWEST

    def knock(self, knock: Knock) -> None:
        self._knocks.put(knock)

    def passes(self, uid: str) -> None:
        if self._terrain.gave(uid):  # its watch has yet to show a pod of the lane bound
            self.settle_s = min(2 * self.settle_s, MOST_SETTLE_S)
            return
        self._passed[uid] = time.monotonic()

    def under_way(self, uid: str) -> "asyncio.Task[None] | None":
        return self._tasks.get(uid)

    def take_room(self, uid: str, node: str) -> bool:
        return self._terrain.take(uid, node, HELD_S)

    def give_room_back(self, uid: str) -> None:
        known = self._store.ledger.get(uid)
        if known is None or known.state is State.RESERVED:  # else it may be bound, where the lane has promised it room
            self._terrain.withdraw(uid)

    def preempts(self, uid: str, nodes: Collection[str]) -> None:
        self._terrain.preempts(uid, nodes)

    # ---- the loop
    def run(self, stop: threading.Event) -> None:
        """Work while the policy says so, until the term is over."""
        while not stop.is_set():
            if self._store.desk.policy.express:
                self._announce(stop)
                with self._followed(stop):
                    self._work(stop)
            stop.wait(IDLE_S)

    def _work(self, stop: threading.Event) -> None:
        self._opened = time.monotonic()
        self._binder.door.open(self)
        self._metrics.express_open.set(1)
        _LOG.info("the express lane is open")
        try:
            while not stop.is_set() and self._store.desk.policy.express:
                self._answer_next()
                self._tidy()
        finally:
            self._binder.door.close()
            while not self._knocks.empty():
                self._knocks.get().answer()
            self._metrics.express_open.set(0)
            _LOG.info("the express lane is closed")

    def _answer_next(self) -> None:
        try:
            knock = self._knocks.get(timeout=IDLE_S)
        except queue.Empty:
            self._busy = False
            return
        try:
            self._busy = True
            self._round(knock)
        except Exception:  # noqa: BLE001 (kube-scheduler must get its answer)
            _LOG.exception("a round of the express lane failed")
            self._metrics.express_rounds.labels("failed").inc()
        finally:
            knock.answer()

    # ---- a round
    def _round(self, knock: Knock) -> None:
        start, term = time.monotonic(), self._tenure.term()
        first = self._terrain.pending(knock.uid)
        end = knock.until - SPARE_S
        if first is None or first.left or not term or start > end:
            return
        if len(self._waiting(first, knock)) < FEWEST or not self._hold(first):
            return
        seated = self._batches(first, knock, term, end)
        if seated and self._terrain.await_bound(seated, max(end - time.monotonic(), SPARE_S)):
            time.sleep(self.settle_s)
            self.settle_s = max(SETTLES_LESS * self.settle_s, SETTLE_S)
        self._metrics.express_rounds.labels("bound" if seated else "empty").inc()
        self._metrics.express_seconds.observe(time.monotonic() - start)

    def _waiting(self, first: Pending, knock: Knock) -> list[Pending]:
        """The pods that the lane may bind while kube-scheduler waits with `first`, in order."""
        passing = self._store.ledger.bookings(State.RESERVED, State.ASSUMED)
        self._terrain.keep({booking.uid: booking.node for booking in passing})
        passed = self._lately() | self._terrain.overtaken(first, knock.asked)
        return in_order(self._terrain.queue(first.scheduler), first.uid, passed)

    def _batches(self, first: Pending, knock: Knock, term: int, end: float) -> list[str]:
        """Seat and send batch after batch; their pods' uids. Each pod is tried once a round."""
        start, seated, tried = time.monotonic(), list[str](), set[str]()

        def seat(pod: Pending) -> tuple[Pending, Seat] | Miss:
            tried.add(pod.uid)
            return self._seat(pod)

        while (now := time.monotonic()) < (last := self._last(start, end)) and self._may_go_on(term):
            pods, before = [pod for pod in self._waiting(first, knock) if pod.uid not in tried], len(seated)
            until = min(last, now + max(BATCH_S, READING * (time.monotonic() - now)))
            full = set(self._full)
            for pod, found in batch(pods, full, self._kind, seat, partial(self._may_send, until)):
                seated.append(pod.uid)
                knock.loop.call_soon_threadsafe(self._start, pod, found, term)
            self._full |= dict.fromkeys(full - self._full.keys(), time.monotonic())
            if len(seated) == before and time.monotonic() < until:
                break
        return seated

    def _may_go_on(self, term: int) -> bool:
        return self._tenure.holds(term, BATCH_S) and self._sees()

    def _sees(self) -> bool:
        """Whether the terrain is what the watches say. While they are listed again it lacks what others have bound."""
        return all(tap.current for tap in self._taps)

    def _last(self, start: float, end: float) -> float:
        """Until when pods may be sent, so that they are bound by the end."""
        return min(start + ROUND_S, max(end - 3 * self._binding_s, start + SPARE_S))

    def _hold(self, first: Pending) -> bool:
        """Give the pod at the door its place before any other pod."""
        kind, nodes = self._kind(first), self._terrain.open_to(first)
        node = self._store.seating.hold(first.uid, nodes.names, nodes.wishes, time.monotonic() + HELD_S)
        if not node or not self._terrain.promise(first, node, HELD_S):
            return False
        self._full.pop(kind, None)
        return True

    def _may_send(self, last: float) -> bool:
        """Wait for room among the Bindings in flight. Without it the batch ends: no pod overtakes one that waits."""
        return time.monotonic() < last and self._room.acquire(timeout=max(last - time.monotonic(), 0.0))

    def _kind(self, pod: Pending) -> object:
        """Equal for pods that fit on the same nodes; one with a place of its own is like no other."""
        known = self._store.desk.waiting_pod(pod.uid)
        if known is None or self._store.seating.has_place(pod.uid):
            return pod.uid
        return pod.namespace, pod.demands, pod.amounts, known.ask.shape, known.ask.traits, known.ask.part

    def _seat(self, pod: Pending) -> tuple[Pending, Seat] | Miss:
        """A seat for a pod that may be sent; where there is none, the room among the Bindings is given back."""
        nodes = self._terrain.open_to(pod)
        seat = self._store.seating.take(pod.uid, nodes.names, nodes.wishes)
        if isinstance(seat, NoPlace):
            self._room.release()
            return Miss.FULL if seat is FULL else Miss.PASSED
        if not self._terrain.promise(pod, seat.node, HELD_S):
            with seat.bind:
                seat.assumption.undo()
            self._room.release()
            return Miss.PASSED
        return pod, seat

    def _start(self, pod: Pending, seat: Seat, term: int) -> None:
        self._tasks[pod.uid] = asyncio.get_running_loop().create_task(self._bind(pod, seat, term))

    async def _bind(self, pod: Pending, seat: Seat, term: int) -> None:
        start = time.monotonic()
        try:
            with seat.bind:
                query = BindQuery(pod.namespace, pod.name, pod.uid, seat.node)
                said = await self._binder.post(query, seat.assumption, seat.asked, term)
            self._over(pod, seat, said)
        finally:
            self._binding_s += (time.monotonic() - start - self._binding_s) / 8
            del self._tasks[pod.uid]
            self._room.release()

    def _over(self, pod: Pending, seat: Seat, said: Said) -> None:
        self._metrics.express_pods.labels(said.outcome).inc()
        if not said.sentence:
            self._terrain.given(pod.uid, seat.node)
            self._announcer.add(pod, seat.node)
            return
        if said.outcome == REFUSED:  # kube-scheduler reports it, and tries it less and less often
            self._passed[pod.uid] = time.monotonic()
        if not seat.assumption.still_held():
            self._terrain.withdraw(pod.uid)

    # ---- inside
    def _charged(self, uid: str, node: str) -> bool:
        """Whether a pod is bound to the node, or may be."""
        return self._store.ledger.holds(uid, node)

    def _refused(self, node: str, reason: str) -> None:
        """A kubelet did not admit a pod of ours; its owner makes another one, which goes to another node."""
        _LOG.warning("the kubelet of %s refused a pod of the express lane: %s", node, reason)
        self._metrics.express_pods.labels("refused by kubelet").inc()

    def _lately(self) -> set[str]:
        since = time.monotonic() - PASSED_S
        return {uid for uid, moment in list(self._passed.items()) if moment > since}

    def _tidy(self) -> None:
        lately = self._lately()
        for uid in [uid for uid in list(self._passed) if uid not in lately]:
            del self._passed[uid]
        since = time.monotonic() - FULL_S
        self._full = {kind: moment for kind, moment in self._full.items() if moment > since}
        self._terrain.tidy()

    @contextmanager
    def _followed(self, stop: threading.Event) -> Iterator[None]:
        """The terrain, kept up to date; read once before anything is decided."""
        terrain = self._terrain
        nodes, pods = self._watched
        taps = self._taps = (
            Tap(nodes, terrain.replace_nodes, terrain.change_node),
            Tap(pods, terrain.replace_pods, terrain.change_pod),
        )
        for tap in taps:
            tap.start()
        try:
            while not stop.is_set() and not all(tap.synced.wait(IDLE_S) for tap in taps):
                pass
            yield
        finally:
            for tap in taps:
                tap.stop()

    def _announce(self, stop: threading.Event) -> None:
        """Write Events from now on, also those that wait when the policy is switched off."""
        if not self._announces:
            self._announces = True
            threading.Thread(target=self._announcer.run, args=(stop,), name="express events", daemon=True).start()
