"""Pods that wait long for the kind that they were given: an Event says so, and their owner's next pod gets another."""

import logging
import threading
import time
from collections.abc import Callable

from kerf.kube.events import Events
from kerf.obs.loop import Loop, run_every
from kerf.values.accepts import AcceptsMode, Chosen
from kerf.values.verdict import Misfit
from scheduler.choosing.memory import Memory
from scheduler.state.answers import ByCards
from scheduler.state.pending import Waiting
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.choosing")
LOOP = Loop("choosing", every_s=2.0)
REASON = "WaitsForItsKind"


class KindWatch:
    """One for each term."""

    def __init__(
        self, store: Store, events: Events, memory: Memory, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._desk = store.desk
        self._events = events
        self._memory = memory
        self._clock = clock
        self._since: dict[str, float] = {}
        self._said: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Look every two seconds until stopped."""
        run_every(LOOP, self.run_once, stop)

    def run_once(self) -> None:
        """One round."""
        settings, now = self._desk.policy.accepts, self._clock()
        if settings.mode is AcceptsMode.OFF:
            return
        waiting = {w.ask.uid: (w, w.ask.chosen) for w in self._desk.waiting() if w.ask.chosen and not w.gates}
        self._since = {uid: self._since.get(uid, now) for uid in waiting}
        self._said &= waiting.keys()
        for uid, (one, chosen) in waiting.items():
            if now - self._since[uid] < settings.explain_after_s or chosen is None or len(chosen.among) < 2:
                continue
            self._memory.waits_too_long(one.ask.owner, chosen.kind, settings.remember_s)
            if uid not in self._said:
                self._said.add(uid)
                self._explain(one, chosen, now - self._since[uid])

    def _explain(self, one: Waiting, chosen: Chosen, seconds: float) -> None:
        namespace, _, name = one.ask.key.partition("/")
        others = ", ".join(kind for kind in chosen.among if kind != chosen.kind)
        then = (
            f"the next pod of its owner may be given {others}: delete this one to have that now"
            if one.ask.owner
            else f"it also accepts {others}: make it again to have that"
        )
        text = f"it waits for {chosen.kind} for {seconds:.0f} s: {self._why(one)}; {then}"
        _LOG.info("pod %s: %s", one.ask.key, text)
        about = {"kind": "Pod", "namespace": namespace, "name": name, "uid": one.ask.uid}
        self._events.emit(about, REASON, text)

    def _why(self, one: Waiting) -> str:
        where = self._desk.fits(one.ask, self._desk.node_names())
        if isinstance(where, Misfit):
            return where.detail
        if isinstance(where, ByCards) and where.why is not None:
            return where.why.sentence
        return "its cards are free, so something else of the pod keeps it back; kube-scheduler's own Event says what"
