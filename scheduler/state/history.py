"""Bookings that have ended, with the moment: metering counts what pods held between two of its rounds.

Every replica keeps it, so whichever leads next knows what ended while none led.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from scheduler.state.bookings import Booking

MOST = 200_000
"""Ended bookings; at ten pods a second, more than five hours."""
KEPT_MS = 6 * 3_600_000
"""No leader asks for what is older: where none ran for so long, it asks the nodes."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A pod that held cards until a moment, in milliseconds since 1970."""

    booking: Booking
    end_ms: int


class History:
    """What ended since `since_ms`. The caller holds the store's lock."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._ended: deque[Ended] = deque()
        self.since_ms = now_ms()
        """Whatever ended after this moment is known."""

    def begin(self) -> None:
        """Nothing is known of what ended before now."""
        self._ended.clear()
        self.since_ms = self._now_ms()

    def add(self, booking: Booking) -> None:
        """A confirmed booking has ended now."""
        self.forget_before(self._now_ms() - KEPT_MS)
        if len(self._ended) >= MOST:
            self.since_ms = self._ended.popleft().end_ms
        self._ended.append(Ended(booking, self._now_ms()))

    def shift(self, later_ms: int) -> None:
        """The clock was wrong by so much until now."""
        self._ended = deque(Ended(each.booking, each.end_ms + later_ms) for each in self._ended)
        self.since_ms += later_ms

    def ended(self) -> tuple[Ended, ...]:
        """Every ended booking that is still known, the oldest first."""
        return tuple(self._ended)

    def forget_before(self, moment_ms: int) -> None:
        """Drop what ended before a moment."""
        while self._ended and self._ended[0].end_ms < moment_ms:
            self._ended.popleft()
        self.since_ms = max(self.since_ms, moment_ms)
