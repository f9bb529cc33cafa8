"""The ledger: what each pod holds or what is held for it, on which node. Whoever charges and releases is the store."""

import threading
from collections import Counter

from kerf.values.ask import PodAsk
from scheduler.core.victims import Evictable
from scheduler.state.bookings import Booking, State
from scheduler.state.fleet import Fleet
from scheduler.state.quotas import QuotaLedger


class Ledger:
    """Bookings by uid, and by node. Shares the store's lock; `changed` is set when capacity comes back."""

    def __init__(self, lock: threading.RLock, fleet: Fleet, quotas: QuotaLedger, changed: threading.Event) -> None:
        self.bookings: dict[str, Booking] = {}
        self.lock = lock
        self.fleet = fleet
        self.quotas = quotas
        self._changed = changed
        self._on_node: dict[str, set[str]] = {}

    def charge(self, booking: Booking) -> None:
        """Write down what a pod holds."""
        self.bookings[booking.uid] = booking
        self._on_node.setdefault(booking.node, set()).add(booking.uid)
        self.fleet.charge(booking.node, booking.uses, booking.cpu_milli, booking.memory_mib)
        self.quotas.charge(booking)

    def release(self, uid: str) -> None:
        """Strike a pod out; does nothing for one that holds nothing."""
        booking = self.bookings.pop(uid, None)
        if booking is None:
            return
        on_node = self._on_node[booking.node]
        on_node.discard(uid)
        if not on_node:
            del self._on_node[booking.node]
        self.fleet.release(booking.node, booking.uses, booking.cpu_milli, booking.memory_mib)
        self.quotas.release(uid)
        self._changed.set()

    def on_node(self, name: str) -> list[Booking]:
        """The bookings of a node, by uid."""
        with self.lock:
            return [self.bookings[uid] for uid in sorted(self._on_node.get(name, ()))]

    def counts(self) -> dict[State, int]:
        """Bookings by state."""
        with self.lock:
            found = dict.fromkeys(State, 0)
            for booking in self.bookings.values():
                found[booking.state] += 1
            return found

    def gang_members(self) -> dict[str, int]:
        """How many pods of each gang are bound, assumed or have a place reserved."""
        with self.lock:
            return dict(Counter(booking.gang for booking in self.bookings.values() if booking.gang))

    def nodes_below(self, priority: int) -> list[str]:
        """Nodes with pods less important than `priority`, those with the most first."""
        with self.lock:
            found = Counter(t.node for t in self.bookings.values() if t.uses and t.priority < priority)
        return [name for name, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))]

    def evictable(self, node: str, ask: PodAsk) -> list[Evictable]:
        """The node's pods that are less important than the asking one."""
        return [
            Evictable(t.uid, t.key, t.priority, t.uses, t.cpu_milli, t.memory_mib)
            for t in self.on_node(node)
            if t.priority < ask.priority and t.state is State.CONFIRMED
        ]

    def reservations_before(self, moment: float) -> list[Booking]:
        """Reservations that ended before a monotonic time."""
        with self.lock:
            return [t for t in self.bookings.values() if t.state is State.RESERVED and t.until < moment]

    def ready(self, booking: Booking) -> bool:
        """Whether what is reserved is really free by now: victims may still be ending."""
        cards = {state.card.id: state.free for state in self.fleet.state(booking.node).cards}
        return all(
            card in cards and min(cards[card].memory_mib, cards[card].cores, cards[card].slots) >= 0
            for card in booking.uses
        )
