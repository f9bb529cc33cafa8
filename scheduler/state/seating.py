"""Places for waiting pods that the scheduler binds itself: the best of some nodes, taken or held at once.

The same engine, reservations, gangs and quota decide as for kube-scheduler's questions. The lock is inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Grant
from kerf.values.verdict import Misfit
from scheduler.core.columns import Ints
from scheduler.core.explain import explain_misfit
from scheduler.core.wishes import Wishes
from scheduler.state.answers import NoPlace
from scheduler.state.binding import Assumption, Bind
from scheduler.state.bookings import State
from scheduler.state.desk import Desk
from scheduler.state.live import Live
from scheduler.state.pending import Waiting
from scheduler.state.reserved import why_not_yet

TRIES = 8
"""Nodes tried for one pod: the arrays can be wrong about a node, and quota about a grant, but rarely."""
FULL = NoPlace("no node that is open to it has room on its cards")
NOT_WAITING = NoPlace("it does not wait any longer, or another bind has it")


@dataclass(frozen=True, slots=True)
class Seat:
    """A node with a grant that is charged, and the bind that has the pod to itself."""

    node: str
    assumption: Assumption
    bind: Bind
    asked: tuple[PodAsk, Stages]


class Seating:
    """Safe from several threads."""

    def __init__(self, live: Live, desk: Desk) -> None:
        self._live = live
        self._desk = desk

    def take(self, uid: str, names: Sequence[str], wishes: Wishes | None) -> Seat | NoPlace:
        """Begin the bind of a waiting pod and charge it on the best of the nodes. The caller ends a seat's bind."""
        bind = self._desk.begin_bind(uid)
        if bind is None:
            return NOT_WAITING
        known = bind.known
        found = NOT_WAITING if known is None or self._is_charged(uid) else self._take(bind, known, names, wishes)
        if isinstance(found, NoPlace):
            bind.end()
        return found

    def hold(self, uid: str, names: Sequence[str], wishes: Wishes | None, until: float) -> str:
        """Hold the best of the nodes for a pod that kube-scheduler is about to place; empty where there is none."""
        live = self._live
        with live.lock:
            waiting = live.pending.pods.get(uid)
            if waiting is None or waiting.problem or waiting.gates:
                return ""
            order = self._best_first(waiting, names, wishes)
            if isinstance(order, NoPlace) or not order:
                return ""
            if live.ledger.get(uid) is not None or live.places.nodes(waiting.ask):
                return order[0]
            for node in order:
                grant = live.within.place(waiting.ask, node, waiting.stages)
                if isinstance(grant, Grant):
                    live.ledger.reserve(waiting.ask, node, grant, waiting.stages, until)
                    return node
            return ""

    def has_place(self, uid: str) -> bool:
        """Whether a place is held for a waiting pod: its own, its workload's, or that of a pod that it follows."""
        live = self._live
        with live.lock:
            waiting = live.pending.pods.get(uid)
            if waiting is None:
                return False
            return live.ledger.reservation(uid) is not None or bool(live.places.nodes(waiting.ask))

    # ---- inside
    def _is_charged(self, uid: str) -> bool:
        """Whether the pod is bound, or may be, and no watch shows it yet."""
        known = self._live.ledger.get(uid)
        return known is not None and known.state is not State.RESERVED

    def _take(self, bind: Bind, waiting: Waiting, names: Sequence[str], wishes: Wishes | None) -> Seat | NoPlace:
        with self._live.lock:
            order = self._best_first(waiting, names, wishes)
            if isinstance(order, NoPlace):
                return order
            why = FULL
            for node in order:
                assumption = bind.assume(waiting.ask, node, waiting.stages)
                if not isinstance(assumption, Misfit):
                    return Seat(node, assumption, bind, (waiting.ask, waiting.stages))
                why = NoPlace(explain_misfit(assumption))
            return why

    def _best_first(self, waiting: Waiting, names: Sequence[str], wishes: Wishes | None) -> list[str] | NoPlace:
        """The best few nodes: what is reserved for the pod, else what it wishes, a plan and the engine say."""
        live, ask = self._live, waiting.ask
        held = live.ledger.reservation(ask.uid)
        if held is not None:
            ready = held.node in names and not why_not_yet(live, ask, held)
            return [held.node] if ready else NoPlace("its reserved place is not free yet")
        if ask.gang and live.policy.planner.enabled:
            note = live.pending.gang_note(ask, lambda: live.ledger.members_of(ask.gang))
            if note:
                return NoPlace(note)
        if places := [name for name in live.places.nodes(ask) if name in names]:
            return places
        if ask.part and (found := live.within.planned_first(ask, names, waiting.stages)) is not None:
            return [found[0]]
        return self._ranked(ask, names, wishes)

    def _ranked(self, ask: PodAsk, names: Sequence[str], wishes: Wishes | None) -> list[str] | NoPlace:
        found = self._live.within.ranks(ask, names)
        if isinstance(found, Misfit):
            return NoPlace(found.detail or explain_misfit(found))
        good = np.flatnonzero(found.fits)
        if not len(good):
            return FULL
        scores = self._live.within.preferred(ask, names, found.scores)[good]
        planned = self._live.pending.planned.get(ask.uid)
        if planned is not None and planned in names:
            scores = np.where(good == names.index(planned), scores.max() + 1, scores)
        keys: list[Ints] = [scores] if wishes is None else [scores, wishes.points(found.fits)[good]]
        if len(good) > TRIES and wishes is None:
            few = np.argpartition(scores, -TRIES)[-TRIES:]
            good, keys = good[few], [scores[few]]
        return [names[i] for i in good[np.lexsort(keys)][::-1][:TRIES].tolist()]
