"""The one way to run a loop: rounds, pauses between them, and one policy for rounds that fail."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Counter

_SLICE_S = 0.5
"""Longest time in which a loop that waits to be woken notices `stop`."""


@dataclass(frozen=True, slots=True)
class Loop:
    """How a loop runs. A failed round is logged and counted, and the next one comes after a growing pause."""

    name: str
    """The logger is `kerf.<name>`."""
    every_s: float
    """Longest time between two rounds."""
    settle_s: float = 0.0
    """How long to wait after a wake-up, so that a burst of changes makes one round."""
    rest_s: float = 0.0
    """Shortest time between two rounds."""
    at_once: bool = False
    """Whether the first round comes without waiting."""
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    """Pauses after failed rounds: the first one, then twice as long each time, up to the longest."""
    expected: tuple[type[Exception], ...] = ()
    """Failures that are logged without a traceback, such as KubeError."""
    failures: Counter | None = None


def run_every(
    loop: Loop, once: Callable[[], object], stop: threading.Event, wake: threading.Event | None = None
) -> None:
    """Call `once` every `every_s` seconds, and soon after `wake` is set, until `stop` is set. Never raises.

    `wake` is cleared before each round, so a change during a round starts another one.
    """
    log = logging.getLogger(f"kerf.{loop.name}")
    pause, first = 0.0, loop.at_once
    while not (stop.wait(pause) if pause or first else _waited(loop, stop, wake)):
        first = False
        if wake is not None:
            wake.clear()
        try:
            once()
        except Exception as error:
            pause = min(pause * 2, loop.longest_pause_s) if pause else loop.first_pause_s
            known = isinstance(error, loop.expected)
            log.warning("%s; retrying in %.1f s", error if known else "the round failed", pause, exc_info=not known)
            if loop.failures is not None:
                loop.failures.inc()
        else:
            pause = 0.0
            if loop.rest_s and stop.wait(loop.rest_s):
                return


def _waited(loop: Loop, stop: threading.Event, wake: threading.Event | None) -> bool:
    """Wait for the next round; whether to stop instead."""
    if wake is None:
        return stop.wait(loop.every_s)
    until = time.monotonic() + loop.every_s
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        if wake.wait(min(left, _SLICE_S)):
            return stop.wait(loop.settle_s) if loop.settle_s else stop.is_set()
    return stop.is_set()
