"""Answers go first: threads that take in watch events wait for the end of one.

The threads of a process share one interpreter. A burst of events beside an answer would take every second slice of it,
so the answer would take twice as long.
"""

import time
from collections.abc import Callable
from types import TracebackType

LONGEST_S = 0.005
"""An event waits at most this long, so that the state stays fresh however many answers there are."""
STEP_S = 0.0003


class Precedence:
    """Entered by the thread that answers, asked by those that can wait."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._answering = False

    def __enter__(self) -> None:
        self._answering = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answering = False

    def give_way(self) -> None:
        """Wait for the end of an answer, if there is one."""
        if self._answering:
            until = self._clock() + LONGEST_S
            while self._answering and self._clock() < until:
                self._sleep(STEP_S)
