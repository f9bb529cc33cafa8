"""Whether a pod may take the place that is reserved for it by now. The caller holds the lock."""

from kerf.values.ask import PodAsk
from scheduler.state.bookings import Booking
from scheduler.state.live import Live

MAKING_ROOM = "other pods are ending to make room on the cards"


def why_not_yet(live: Live, ask: PodAsk, held: Booking) -> str:
    """Why the place cannot be taken yet; empty where it can."""
    if not live.ledger.ready(held):
        return MAKING_ROOM
    size = live.pending.sized(ask).gang_size if ask.gang and live.policy.planner.enabled else 0
    places = live.ledger.members_of(ask.gang)
    if places >= size or live.ledger.has_started(ask.gang):
        return ""
    return f"gang {ask.gang} waits: {places} of its {size} pods have a place"  # another one's was given back
