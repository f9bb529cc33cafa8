"""Time for measuring use: seconds that never jump, shown as the time of day that somebody trusted once."""

import time
from collections.abc import Callable

TOLERANCE_MS = 2000


def _boot_ms() -> int:
    """Milliseconds that also pass while this machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class SteadyClock:
    """The time of day at the start plus what has passed since: a clock that is set meanwhile changes nothing."""

    def __init__(self, boot_ms: Callable[[], int] = _boot_ms, wall_ms: Callable[[], int] = _wall_ms) -> None:
        self._boot_ms = boot_ms
        self._wall_ms = wall_ms
        self._offset = wall_ms() - boot_ms()

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._boot_ms() + self._offset

    def align(self, moment_ms: int) -> int:
        """It is this moment, to the second, by a clock that counts more than this machine's; by how much that is later.

        A difference that is within the seconds of such a clock changes nothing.
        """
        later = moment_ms - self.now_ms()
        if abs(later) <= TOLERANCE_MS:
            return 0
        self._offset += later
        return later

    def skew_ms(self) -> int:
        """How far the machine's time of day is ahead of this clock."""
        return self._wall_ms() - self.now_ms()
