"""The steps of a join: each says what it did, and is tried again while an API server does not answer."""

import time
from collections.abc import Callable
from typing import TypeVar

from kerf.kube.errors import Busy, Unreachable
from kerfctl.report import say

PATIENCE_S = 20.0
"""For so long a step is tried again. Every step can be repeated."""
PAUSE_S = 1.0
Found = TypeVar("Found")


class Steps:
    """What was done so far, in order."""

    def __init__(self, patience_s: float = PATIENCE_S, pause_s: float = PAUSE_S) -> None:
        self.done: list[str] = []
        self._patience_s = patience_s
        self._pause_s = pause_s

    def run(self, name: str, act: Callable[[], Found], says: str = "") -> Found:
        """One step, and a line about it: `says`, or what the step returns. Raises what the step raises at last."""
        found = self._tried(act)
        self.done.append(name)
        say(f"✓ {name}: {says or found}")
        return found

    def _tried(self, act: Callable[[], Found]) -> Found:
        until = time.monotonic() + self._patience_s
        while True:
            try:
                return act()
            except (Unreachable, Busy):
                if time.monotonic() >= until:
                    raise
                time.sleep(self._pause_s)
