"""Answers go first: threads that take in watch events or plan wait for the end of one.

The threads of a process share one interpreter. One that works beside an answer takes every second slice
of it, so the answer would take twice as long.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

LONGEST_S = 0.005
"""Others wait at most this long, so that the state stays fresh however many answers there are."""
LETTING_S = 0.0001
"""A sleep of no length gives nothing away: the thread has the lock, or the interpreter, again before another wakes."""


class Gate(Protocol):
    """A lock."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, or not."""

    def release(self) -> None:
        """Give it back."""

    def locked(self) -> bool:
        """Whether it is taken."""


class Precedence:
    """Entered by the thread that answers, asked by those that can wait: these sleep meanwhile, and do not look again.

    A thread that looks every now and then has to be given the interpreter each time, by the one that answers.
    """

    def __init__(self, gate: Gate | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._gate: Gate = threading.Lock() if gate is None else gate
        self._sleep = sleep
        self._taken = False

    def __enter__(self) -> None:
        # Another thread may pass the gate at this moment; an answer waits for nobody.
        self._taken = self._gate.acquire(blocking=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._taken:
            self._gate.release()

    def give_way(self) -> bool:
        """Wait for the end of an answer, if there is one; whether there was."""
        if not self._gate.locked():
            return False
        if self._gate.acquire(timeout=LONGEST_S):
            self._gate.release()
        return True

    def pause(self) -> None:
        """Between two pieces of longer work: let a thread that waits for lock or interpreter have it, or give way."""
        if not self.give_way():
            self._sleep(LETTING_S)
            self.give_way()
