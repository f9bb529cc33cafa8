"""The ledger: what each pod holds, or has reserved, on which node. Only this package charges and releases."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from kerf.obs.clock import SteadyClock
from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Grant, Holding, card_uses
from scheduler.state.bookings import Booking, State
from scheduler.state.fleet import Fleet
from scheduler.state.history import Ended, History
from scheduler.state.planned_places import PlannedPlaces
from scheduler.state.quotas import QuotaLedger
from scheduler.state.templates import template_of

USUAL_GRACE_S = 30.0
"""The grace period of a pod that says none."""
OVERDUE_S = 60.0
"""Nobody counts on a pod that is still there so long after its grace period: its node may never be able to end it."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A pod that is being deleted: its grace period, if known, and until when (monotonic seconds) it should end."""

    grace_s: float | None
    until: float


class Ledger:
    """Bookings by uid and by node. `changed` is set when capacity comes back."""

    def __init__(
        self,
        lock: threading.RLock,
        fleet: Fleet,
        quotas: QuotaLedger,
        changed: threading.Event,
        clock: Callable[[], float],
        planned: PlannedPlaces,
    ) -> None:
        self._lock = lock
        self._moments = SteadyClock()
        self._history = History(self.now_ms)
        self._planned = planned
        self._fleet = fleet
        self._quotas = quotas
        self._changed = changed
        self._clock = clock
        self._bookings: dict[str, Booking] = {}
        self._passing: set[str] = set()
        """The few that are not confirmed."""
        self._on_node: dict[str, set[str]] = {}
        self._of_gang: dict[str, set[str]] = {}
        self._leaving: dict[str, Leaving] = {}
        self._binding: set[str] = set()
        self._unsettled: frozenset[str] = frozenset()

    # ---- questions
    def __len__(self) -> int:
        return len(self._bookings)

    def get(self, uid: str) -> Booking | None:
        """What a pod holds or has reserved."""
        return self._bookings.get(uid)

    def reservation(self, uid: str) -> Booking | None:
        """What is reserved for a pending pod."""
        booking = self._bookings.get(uid)
        return booking if booking is not None and booking.state is State.RESERVED else None

    def holds(self, uid: str, node: str) -> bool:
        """Whether the pod is charged on the node, assumed or confirmed."""
        booking = self._bookings.get(uid)
        return booking is not None and booking.node == node and booking.state is not State.RESERVED

    def bookings(self, *states: State) -> list[Booking]:
        """Every booking in one of these states, in no order; without states, every booking."""
        with self._lock:
            settled = not states or State.CONFIRMED in states
            found = self._bookings.values() if settled else [self._bookings[uid] for uid in self._passing]
            return [booking for booking in found if not states or booking.state in states]

    def on_node(self, name: str) -> list[Booking]:
        """The bookings of a node, by uid."""
        with self._lock:
            return [self._bookings[uid] for uid in sorted(self._on_node.get(name, ()))]

    def holdings(self) -> list[Holding]:
        """What bound and assumed pods hold, by name."""
        live = self.bookings(State.ASSUMED, State.CONFIRMED)
        found = [booking.holding for booking in live if booking.holding is not None]
        return sorted(found, key=lambda holding: (holding.pod, holding.uid))

    def counts(self) -> dict[State, int]:
        """Bookings by state."""
        with self._lock:
            found = dict.fromkeys(State, 0)
            for uid in self._passing:
                found[self._bookings[uid].state] += 1
            found[State.CONFIRMED] = len(self._bookings) - len(self._passing)
            return found

    def gang_members(self) -> dict[str, int]:
        """How many pods of each gang are bound, assumed or have a place reserved."""
        with self._lock:
            return {gang: len(uids) for gang, uids in self._of_gang.items()}

    def members_of(self, gang: str | None) -> int:
        """How many pods of one gang are bound, assumed or have a place reserved."""
        with self._lock:
            return len(self._of_gang.get(gang or "", ()))

    def has_started(self, gang: str | None) -> bool:
        """Whether a pod of the gang is bound or assumed."""
        with self._lock:
            return any(self._bookings[uid].state is not State.RESERVED for uid in self._of_gang.get(gang or "", ()))

    def kind_of(self, gang: str) -> str:
        """The kind of cards that the pods of a gang were given; empty where none of them has a place."""
        with self._lock:
            return next((kind for uid in self._of_gang.get(gang, ()) if (kind := self._bookings[uid].kind)), "")

    def leaves(self, uid: str) -> bool:
        """Whether a pod is being deleted: it holds what it has until it has ended."""
        return uid in self._leaving

    def ends_soon(self, uid: str) -> bool:
        """Whether a pod is being deleted and its time is not over yet: what it holds is free soon."""
        known = self._leaving.get(uid)
        return known is not None and self._clock() < known.until

    def leaving(self) -> frozenset[str]:
        """The pods that end soon."""
        with self._lock:
            return frozenset(uid for uid in self._leaving if self.ends_soon(uid))

    def assumed_before(self, moment: float) -> list[Booking]:
        """Assumptions older than a monotonic time whose bind is over: the watch never confirmed them."""
        with self._lock:
            old = [b for b in self.bookings(State.ASSUMED) if b.since < moment]
            return [booking for booking in old if booking.uid not in self._binding]

    def reservations_before(self, moment: float) -> list[Booking]:
        """Reservations that ended before a monotonic time."""
        with self._lock:
            return [b for b in self.bookings(State.RESERVED) if b.until < moment]

    def ready(self, booking: Booking) -> bool:
        """Whether the place may be taken: victims may still be terminating, or other members may still lack a place."""
        with self._lock:
            if booking.uid in self._unsettled:
                return False
            gang = booking.gang if booking.gang and self._leaving else ""  # else the places of its mates are free
            mates = (self._bookings[uid] for uid in self._of_gang.get(gang, ()))
            places = [booking, *(mate for mate in mates if mate.state is State.RESERVED)]
            return all(map(self._is_free, places))

    def is_usable(self, booking: Booking) -> bool:
        """Whether the cards of a reserved place still take slices: one may have failed since, or been cordoned."""
        with self._lock:
            usable = {state.card.id for state in self._fleet.state(booking.node).cards if state.usable}
            return booking.uses.keys() <= usable

    def _is_free(self, booking: Booking) -> bool:
        cards = {state.card.id: state.free for state in self._fleet.state(booking.node).cards if state.usable}
        return all(
            card in cards and min(cards[card].memory_mib, cards[card].cores, cards[card].slots) >= 0
            for card in booking.uses
        )

    # ---- the past
    def held_and_ended(self) -> tuple[list[Booking], tuple[Ended, ...]]:
        """Confirmed bookings, and those that have ended, at one moment: none is in neither."""
        with self._lock:
            return self.bookings(State.CONFIRMED), self._history.ended()

    def ended_since_ms(self) -> int:
        """The moment since which every booking that has ended is known."""
        with self._lock:
            return self._history.since_ms

    def now_ms(self) -> int:
        """The time of day of all that is metered, in milliseconds since 1970."""
        return self._moments.now_ms()

    def skew_ms(self) -> int:
        """How far this machine's time of day is ahead of it."""
        return self._moments.skew_ms()

    def align(self, moment_ms: int) -> int:
        """It is this moment by the API server's clock; by how much that is later than by ours until now."""
        with self._lock:
            later = self._moments.align(moment_ms)
            self._history.shift(later)
        return later

    def begin_history(self) -> None:
        """The pods are read for the first time: what ends from now on is known."""
        with self._lock:
            self._history.begin()

    def forget_ended(self, moment_ms: int) -> None:
        """Drop what ended before a moment."""
        with self._lock:
            self._history.forget_before(moment_ms)

    # ---- one bind a pod
    def begin_bind(self, uid: str) -> bool:
        """Give a pod to one bind; False if another bind has it. Nothing else undoes its assumption meanwhile."""
        with self._lock:
            if uid in self._binding:
                return False
            self._binding.add(uid)
            return True

    def end_bind(self, uid: str) -> None:
        """The bind is over, whatever came of it."""
        with self._lock:
            self._binding.discard(uid)

    # ---- changes
    def leave(self, uid: str, grace_s: float | None = None) -> None:
        """The pod is being deleted, with this grace period if that is known. No-op for one that holds nothing."""
        with self._lock:
            known = self._leaving.get(uid)
            if uid not in self._bookings or (known is not None and grace_s in (None, known.grace_s)):
                return
            until = self._clock() + (USUAL_GRACE_S if grace_s is None else grace_s) + OVERDUE_S
            self._leaving[uid] = Leaving(grace_s, until)

    def stay(self, uid: str) -> None:
        """The pod is not being deleted after all."""
        with self._lock:
            self._leaving.pop(uid, None)

    def charge(self, booking: Booking) -> None:
        """Write down what a pod holds."""
        with self._lock:
            self._put(booking)
            if (pods := self._on_node.get(booking.node)) is None:
                pods = self._on_node[booking.node] = set()
            pods.add(booking.uid)
            if booking.gang:
                self._of_gang.setdefault(booking.gang, set()).add(booking.uid)
            self._charge_cards(booking)
            if booking.without_grant:
                self._fleet.occupy(booking.node, booking.key, booking.without_grant)
            if booking.part:
                self._planned.take(booking.part, booking.uses)
            self._quotas.charge(booking)

    def release(self, uid: str) -> None:
        """Release a pod's booking. No-op if it has none."""
        with self._lock:
            booking = self._bookings.pop(uid, None)
            if booking is None:
                return
            self._passing.discard(uid)
            self._leaving.pop(uid, None)
            _discard(self._on_node, booking.node, uid)
            if booking.gang:
                _discard(self._of_gang, booking.gang, uid)
            self._fleet.release(booking.node, booking.uses, booking.cpu_milli, booking.memory_mib)
            if booking.part:
                self._planned.give(booking.part, booking.uses)
            if booking.without_grant:
                self._fleet.occupy(booking.node, booking.key, 0)
            if booking.uses and booking.state is State.CONFIRMED:
                self._history.add(booking)
            self._quotas.forget(uid)
        self._changed.set()

    def confirm(self, booking: Booking) -> None:
        """The watch shows the pod bound. What was charged for an assumption stays charged if it is what the pod has."""
        with self._lock:
            known = self._bookings.get(booking.uid)
            if known is not None and known.state is State.ASSUMED and _is_charged_alike(known, booking):
                self._put(booking)
                return
            if known is not None:
                self.release(booking.uid)
            self.charge(booking)

    def correct(self, booking: Booking) -> None:
        """A pod holds something else than was known: its node's cards are known now, or it was resized in place."""
        with self._lock:
            known = self._bookings[booking.uid]
            self._fleet.release(known.node, known.uses, known.cpu_milli, known.memory_mib)
            self._charge_cards(booking)
            self._put(booking)
            self._quotas.recount((booking,))
        self._changed.set()

    def assume(self, ask: PodAsk, node: str, grant: Grant, stages: Stages) -> None:
        """Charge a pod that is about to be bound, until `undo` or the watch."""
        self.charge(self._booking(ask, node, grant, stages, State.ASSUMED))

    def assume_reserved(self, reserved: Booking) -> None:
        """Turn a reservation into an assumption."""
        with self._lock:
            self.release(reserved.uid)
            self.charge(replace(reserved, state=State.ASSUMED, since=self._clock()))

    def undo(self, uid: str) -> None:
        """Take an assumption back. The one undo path; no-op unless the pod is assumed.

        A pod that had its place reserved, a gang's member, keeps the place for its next bind.
        """
        with self._lock:
            booking = self._bookings.get(uid)
            if booking is None or booking.state is not State.ASSUMED:
                return
            self.release(uid)
            if booking.until > self._clock():
                self.charge(replace(booking, state=State.RESERVED))

    def reserve(self, ask: PodAsk, node: str, grant: Grant, stages: Stages, until: float) -> None:
        """Reserve capacity under the ask's uid until a monotonic time. No-op if the uid has a booking."""
        with self._lock:
            if ask.uid not in self._bookings:
                self.charge(replace(self._booking(ask, node, grant, stages, State.RESERVED), until=until))

    def count_successor(self, uid: str) -> None:
        """Quota counts the successor of a pod that leaves, and no longer the pod."""
        with self._lock:
            self._quotas.replace(uid)

    def count_again(self, uid: str) -> None:
        """Quota counts the pod again: it has no successor after all. No-op for a pod that is gone."""
        with self._lock:
            booking = self._bookings.get(uid)
            if booking is not None:
                self._quotas.count_again(booking)

    @contextmanager
    def unsettled(self, uids: frozenset[str]) -> Iterator[None]:
        """While their places are reserved in several holds of the lock, none of these pods may take its place."""
        self._unsettled = uids
        try:
            yield
        finally:
            self._unsettled = frozenset()

    def drop_reservation(self, uid: str) -> None:
        """Give a reservation back. No-op unless there is one."""
        self._release_if(uid, State.RESERVED)

    def drop_reservations(self) -> None:
        """Give every reservation back."""
        for booking in self.bookings(State.RESERVED):
            self.drop_reservation(booking.uid)

    # ---- inside
    def _put(self, booking: Booking) -> None:
        self._bookings[booking.uid] = booking
        if booking.state is State.CONFIRMED:
            self._passing.discard(booking.uid)
        else:
            self._passing.add(booking.uid)

    def _release_if(self, uid: str, state: State) -> None:
        with self._lock:
            booking = self._bookings.get(uid)
            if booking is not None and booking.state is state:
                self.release(uid)

    def _charge_cards(self, booking: Booking) -> None:
        requests = booking.cpu_milli, booking.memory_mib
        self._fleet.charge(booking.node, booking.uses, *requests, booking.reach, booking.vendor)

    def _booking(self, ask: PodAsk, node: str, grant: Grant, stages: Stages, state: State) -> Booking:
        return Booking(
            key=ask.key,
            uid=ask.uid,
            node=node,
            state=state,
            uses=card_uses(grant, stages),
            template=template_of(ask),
            holding=Holding(ask.key, ask.uid, node, grant, stages),
            since=self._clock(),
        )


def _is_charged_alike(known: Booking, booking: Booking) -> bool:
    """Whether both are of one pod on one node with one grant, and their templates say the same of what is charged."""
    told, tells = known.template, booking.template
    same = replace(told, subject=tells.subject, problems=tells.problems) == tells
    return same and known.holding == booking.holding and known.without_grant == booking.without_grant


def _discard(sets: dict[str, set[str]], key: str, uid: str) -> None:
    """Take a pod out of an index; what is empty is left out."""
    sets[key].discard(uid)
    if not sets[key]:
        del sets[key]
