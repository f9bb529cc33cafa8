"""Sightings of one fault within a minute are one report, whatever order the sources have."""

from kerf.faults.windows import WINDOW_S
from kerf.values.fault import Fault, Verdict

MOST_WINDOWS = 4096


class FaultWindows:
    """The open windows by card and code. Not safe from several threads."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, int], tuple[float, Verdict]] = {}

    def opens(self, fault: Fault, verdict: Verdict) -> bool:
        """Whether the fault is the first of its window, or a stronger one than the window has shown."""
        key = (fault.card, fault.code)
        start, strongest = self._windows.get(key, (float("-inf"), Verdict.IGNORE))
        fresh = abs(fault.at - start) >= WINDOW_S
        if not fresh and verdict.rank <= strongest.rank:
            return False
        self._windows.pop(key, None)  # the newest come last
        self._windows[key] = (fault.at if fresh else start, verdict)
        if len(self._windows) > MOST_WINDOWS:
            self._windows.pop(next(iter(self._windows)))
        return True
