"""The node's kernel log as faults, as it is written: /dev/kmsg, or a file to which the kernel log is appended."""

import logging
import os
import select
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from kerf.faults.nvrm import parse_log
from kerf.probes.boot import booted_at
from kerf.values.fault import Fault

_LOG = logging.getLogger("kerf.probes.kernel_log")
LOOK_BACK_S = 300.0
"""At the start, faults of the last minutes count: an earlier run may have died between the fault and its report."""
_WAIT_MS = 200
_LARGEST_RECORD = 16_384
_LONGEST_UPTIME_S = 5e7
"""A time beyond it is a date, of which the zone, and often the year, is not known."""


class KernelLog:
    """Follows one log. A log that cannot be read is reported once, and other sources remain."""

    def __init__(self, path: str, now: Callable[[], float], zero: Callable[[], float] = booted_at) -> None:
        self._path = Path(path)
        self._now = now
        self._zero = zero
        self._old = 0
        """Bytes that were there at the start and are not read yet, of a file."""

    def run(self, take: Callable[[Fault], None], stop: threading.Event) -> None:
        """Pass every fault on until `stop`. Its `at` is in seconds since 1970, its `card` an address on the bus."""
        oldest = self._now() - LOOK_BACK_S
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            _LOG.warning("faults in %s are not seen: %s", self._path, error.strerror or error)
            return
        try:
            self._old = os.fstat(descriptor).st_size
            for _, fault in parse_log(self._lines(descriptor, stop)):
                at = self._when(fault.at)
                if at >= oldest:
                    take(replace(fault, at=at))
        except OSError as error:
            _LOG.error("the kernel log %s cannot be read any longer: %s", self._path, error.strerror or error)
        finally:
            os.close(descriptor)

    def _when(self, at: float) -> float:
        """Seconds since 1970. What was there at the start and has no time of this boot is too old to count."""
        if 0.0 < at < _LONGEST_UPTIME_S:
            return self._zero() + at
        return self._now() if self._old <= 0 else 0.0

    def _lines(self, descriptor: int, stop: threading.Event) -> Iterator[str]:
        """Lines as they come. An overrun (EPIPE) lost records; what follows is read on."""
        rest = b""
        while not stop.is_set():
            try:
                chunk = os.read(descriptor, _LARGEST_RECORD)
            except BrokenPipeError:
                _LOG.warning("the kernel log was written faster than it was read: records are lost")
                continue
            except BlockingIOError:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll(_WAIT_MS)
                continue
            if not chunk:  # the end of a file, which may grow
                stop.wait(_WAIT_MS / 1000)
                continue
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
                self._old -= len(line) + 1
