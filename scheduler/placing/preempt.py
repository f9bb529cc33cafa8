"""Preemption that kube-scheduler cannot see.

kube-scheduler looks for victims only among what its own plugins count. Slices of memory and cores are not among them,
so a pod that is refused for its cards alone never gets a candidate, and the `preempt` verb is never called. This loop
does what is missing: for a refused pod it finds the node where the fewest, least important pods must leave, evicts
them through the Eviction API (so PodDisruptionBudgets hold), and reserves what they free.
"""

import logging
import threading
import time
from dataclasses import replace

from kerf.kube.client import Kube
from kerf.kube.evict import AlreadyGone, Evicted, NotEvicted, evict
from kerf.values.ask import PodAsk
from kerf.values.verdict import Misfit
from scheduler.core.place import node_misfit
from scheduler.core.victims import Evictable, choose_victims, without
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.wake import wake_scheduler
from scheduler.state.pending import Waiting
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.preempt")
EVERY_S = 0.5
PATIENCE_S = 1.0
"""A pod must have been refused for this long: the planner or a leaving pod may help it meanwhile."""
MOST_NODES = 256
"""Nodes examined for one pod, those with the most evictable pods first."""
HOLD_S = 90.0
"""How long the freed capacity is held: a pod's termination grace and kube-scheduler's back-off."""

CALL_AFTER = 2
"""Looks at a free place after which kube-scheduler is woken; mostly it has come by itself before."""


class Preemption:
    """Evicts for refused pods with a priority, one pod a round."""

    def __init__(self, store: Store, kube: Kube, metrics: SchedulerMetrics) -> None:
        self._store = store
        self._kube = kube
        self._metrics = metrics
        self._looks: dict[str, int] = {}
        """By uid of a waiting pod, how many looks its place has been free for."""

    def run(self, stop: threading.Event) -> None:
        """Look twice a second until told to stop."""
        while not stop.wait(EVERY_S):
            try:
                self.run_once()
            except Exception:  # noqa: BLE001 (the next round tries again)
                _LOG.exception("preemption failed; the pod keeps waiting")

    def run_once(self) -> None:
        """One round: the most important refused pod that evictions can help; a call for those whose room is free."""
        self._call()
        for waiting in self._refused():
            found = self._best(waiting.ask)
            if found is not None and self._evict(waiting, *found):
                return

    def _call(self) -> None:
        """Wake kube-scheduler, once, for a pod whose victims are gone and that is still not placed.

        It may hear of a victim's end before this process does. Then it has tried in vain, and on its own it would try
        again after minutes.
        """
        refused = self._store.pending.refused_before(time.monotonic() - PATIENCE_S)
        with self._store.lock:
            held = {w.ask.uid: self._store.reservation(w.ask.uid) for w in refused if not w.ask.gang}
            free = {uid: place.node for uid, place in held.items() if place and self._store.ledger.ready(place)}
        self._looks = {uid: self._looks.get(uid, 0) + 1 for uid in free}
        for uid, node in free.items():
            if self._looks[uid] == CALL_AFTER:
                wake_scheduler(self._kube, node, f"room-{uid}")

    def _refused(self) -> list[Waiting]:
        found = self._store.pending.refused_before(time.monotonic() - PATIENCE_S)
        planned = self._store.pending.planned
        free = [w for w in found if w.preempts and not w.ask.gang and w.ask.uid not in planned]
        ready = [w for w in free if not self._store.reservation(w.ask.uid)]
        with self._store.lock:
            asks = [(w, self._store.quotas.narrow(w.ask)) for w in ready]
        # Whom quota refuses, no eviction helps; the others may have what quota leaves to them.
        helped = [replace(w, ask=ask) for w, ask in asks if not isinstance(ask, Misfit)]
        return sorted(helped, key=lambda w: (-w.ask.priority, w.created, w.ask.key))

    def _best(self, ask: PodAsk) -> tuple[str, tuple[Evictable, ...]] | None:
        """The node and its victims: fewest first, then the least important, then the node's name.

        None where a node that kube-scheduler offered has room as it is: the pod only waits for its next turn.
        """
        offered = dict(self._store.pending.offered({ask.uid})).get(ask.uid)
        with self._store.lock:
            names = self._store.node_names() if offered is None else sorted(offered)
            rows = self._store.fleet.rows(names)
            if self._store.engine.room(ask, rows).any():
                return None
        best: tuple[tuple[int, int, str], tuple[Evictable, ...]] | None = None
        for name in self._store.ledger.nodes_below(ask.priority)[:MOST_NODES]:
            if offered is not None and name not in offered:
                continue
            with self._store.lock:
                state = self._store.fleet.state(name)
                evictable = self._store.ledger.evictable(name, ask)
            uids = choose_victims(ask, state, evictable, self._store.engine.place_on)
            if not uids:
                continue
            victims = tuple(pod for pod in evictable if pod.uid in uids)
            if node_misfit(ask, without(state, victims)) is not None:
                continue
            rank = (len(victims), max(pod.priority for pod in victims), name)
            if best is None or rank < best[0]:
                best = (rank, victims)
        return (best[0][2], best[1]) if best else None

    def _evict(self, waiting: Waiting, node: str, victims: tuple[Evictable, ...]) -> bool:
        ask = waiting.ask
        with self._store.lock:
            grant = self._store.engine.place_on(ask, without(self._store.fleet.state(node), victims))
            if isinstance(grant, Misfit):
                return False
            self._store.reserve(ask, node, grant, waiting.stages, time.monotonic() + HOLD_S)
        for victim in victims:
            match evict(self._kube, victim.key, victim.uid):
                case Evicted():
                    self._metrics.preemptions.inc()
                    _LOG.info("evicted %s from %s for %s", victim.key, node, ask.key)
                case NotEvicted(reason):
                    _LOG.warning("%s cannot be evicted for %s: %s", victim.key, ask.key, reason)
                    self._store.drop_reservation(ask.uid)
                    return False
                case AlreadyGone():
                    pass
        return True
