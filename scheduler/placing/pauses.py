"""Pauses between evictions for one pod: what it got and could not use is not freed for it again and again.

kube-scheduler knows constraints that Kerf does not see. A pod that some of them keep from its place would have others
evicted each time its reservation ends.
"""

import time
from collections.abc import Callable

FIRST_S, LONGEST_S = 90.0, 3600.0
"""The first pause is as long as a reservation; each is twice as long as the one before."""
FORGET_S = 2 * LONGEST_S


class Pauses:
    """How often pods left for a waiting pod or gang, and when the last time was. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted: dict[str, tuple[int, float]] = {}

    def note(self, key: str) -> None:
        """Pods leave for it now."""
        times, _ = self._noted.get(key, (0, 0.0))
        self._noted[key] = times + 1, self._clock()

    def holds(self, key: str) -> bool:
        """Whether no pod may leave for it yet."""
        times, last = self._noted.get(key, (0, 0.0))
        return times > 0 and self._clock() - last < min(FIRST_S * 2 ** (times - 1), LONGEST_S)

    def forget(self) -> None:
        """Drop what is long over."""
        now = self._clock()
        self._noted = {key: noted for key, noted in self._noted.items() if now - noted[1] < FORGET_S}
