"""Preemption that kube-scheduler cannot see.

kube-scheduler looks for victims only among what its own plugins count. Slices of memory and cores are not among them,
so a pod that is refused for its cards alone never gets a candidate, and the `preempt` verb is never called. This loop
does what is missing: for a refused pod it finds the node where the fewest, least important pods must leave, evicts
them through the Eviction API (so PodDisruptionBudgets hold), and reserves what they free.
"""

import logging
import threading
import time

from kerf.kube.client import Kube
from kerf.kube.evict import AlreadyGone, Evicted, NotEvicted, evict
from kerf.obs.loop import Loop, run_every
from kerf.values.ask import PodAsk
from scheduler.core.place import node_misfit
from scheduler.core.victims import Evictable, choose_victims, without
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.wake import wake_scheduler
from scheduler.state.pending import Waiting
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.preempt")
LOOP = Loop("preempt", every_s=0.5)
PATIENCE_S = 1.0
"""A pod must have been refused for this long: the planner or a leaving pod may help it meanwhile."""
MOST_NODES = 256
"""Nodes examined for one pod, those with the most evictable pods first."""
HOLD_S = 90.0
"""How long the freed capacity is held: a pod's termination grace and kube-scheduler's back-off."""
PROTECTED_S = 30.0
"""How long a pod that a PodDisruptionBudget protects is no victim: others are looked for meanwhile."""
CALL_AFTER = 2
"""Rounds with a free place after which kube-scheduler is woken; mostly it has retried by itself before."""


class Preemption:
    """Evicts for refused pods with a priority, one pod a round."""

    def __init__(self, store: Store, kube: Kube, metrics: SchedulerMetrics) -> None:
        self._desk = store.desk
        self._planning = store.planning
        self._ledger = store.ledger
        self._kube = kube
        self._metrics = metrics
        self._rounds: dict[str, int] = {}
        """By uid of a waiting pod, for how many rounds its reserved room has been free."""
        self._protected: dict[str, float] = {}
        """Until when (monotonic seconds) pods that could not be evicted are no victims."""

    def run(self, stop: threading.Event) -> None:
        """Run twice a second until stopped."""
        run_every(LOOP, self.run_once, stop)

    def run_once(self) -> None:
        """One round: the most important refused pod that evictions can help; a wake-up for those whose room is free."""
        moment = time.monotonic() - PATIENCE_S
        self._wake(moment)
        now = time.monotonic()
        self._protected = {uid: until for uid, until in self._protected.items() if until > now}
        refused = self._planning.preemptors(moment)
        for waiting in sorted(refused, key=lambda w: (-w.ask.priority, w.created, w.ask.key)):
            found = self._best(waiting.ask)
            if found is not None and self._evict(waiting, *found):
                return

    def _wake(self, moment: float) -> None:
        """Wake kube-scheduler, once, for a pod whose victims are gone and that is still not placed.

        kube-scheduler may retry before we see the eviction; that retry fails, and the next one comes after minutes.
        """
        free = self._planning.freed(moment)
        self._rounds = {uid: self._rounds.get(uid, 0) + 1 for uid in free}
        for uid, node in free.items():
            if self._rounds[uid] == CALL_AFTER:
                wake_scheduler(self._kube, node, f"room-{uid}")

    def _best(self, ask: PodAsk) -> tuple[str, tuple[Evictable, ...]] | None:
        """The node and its victims: fewest first, then the least important, then the node's name.

        None where a node that kube-scheduler offered has room as it is: the pod only waits for its next turn.
        """
        if self._planning.has_room(ask):
            return None
        best: tuple[tuple[int, int, str], tuple[Evictable, ...]] | None = None
        for name in self._planning.nodes_to_free(ask)[:MOST_NODES]:
            state, evictable = self._planning.node_with_pods(name, ask)
            evictable = [pod for pod in evictable if pod.uid not in self._protected]
            uids = choose_victims(ask, state, evictable, self._desk.place_on)
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
        if not self._planning.reserve_after(waiting, node, victims, time.monotonic() + HOLD_S):
            return False
        for victim in victims:
            match evict(self._kube, victim.key, victim.uid):
                case Evicted():
                    self._metrics.preemptions.inc()
                    _LOG.info("evicted %s from %s for %s", victim.key, node, ask.key)
                case NotEvicted(reason):
                    _LOG.warning("%s cannot be evicted for %s: %s", victim.key, ask.key, reason)
                    self._protected[victim.uid] = time.monotonic() + PROTECTED_S
                    self._ledger.drop_reservation(ask.uid)
                    return False
                case AlreadyGone():
                    pass
        return True
