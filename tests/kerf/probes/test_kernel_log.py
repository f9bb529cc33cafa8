"""A kernel log that is followed while it is written."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kerf.probes.kernel_log import KernelLog
from kerf.values.fault import Fault

NOW = 10_000.0
ZERO = NOW - 1_000.0
"""The node booted 1,000 seconds ago."""


class Taken:
    def __init__(self) -> None:
        self.faults: list[tuple[str, int, float]] = []
        self._changed = threading.Condition()

    def __call__(self, fault: Fault) -> None:
        with self._changed:
            self.faults.append((fault.card, fault.code, fault.at))
            self._changed.notify_all()

    def wait(self, count: int) -> list[tuple[str, int, float]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.faults) >= count, 10.0), self.faults
            return list(self.faults)


@contextmanager
def following(path: Path) -> Iterator[Taken]:
    taken, stop = Taken(), threading.Event()
    log = KernelLog(str(path), lambda: NOW, lambda: ZERO)
    thread = threading.Thread(target=log.run, args=(taken, stop), daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join(10.0)
        assert not thread.is_alive()


def record(bus: str, code: int, uptime_s: int) -> str:
    return f"3,1,{uptime_s * 1_000_000},-;NVRM: Xid (PCI:0000:{bus}:00): {code}, x\n SUBSYSTEM=pci\n"


def test_faults_of_the_last_minutes_count_at_the_start_and_older_ones_do_not(tmp_path):
    path = tmp_path / "kmsg"
    path.write_text("NVRM: Xid (PCI:0000:03:00): 48, no time\n" + record("01", 79, 600) + record("02", 48, 900))

    with following(path) as taken:
        assert taken.wait(1) == [("0000:02:00", 48, ZERO + 900)]
        with path.open("a") as file:
            file.write("2026-11-27T12:00:00,1+00:00 NVRM: Xid (PCI:0000:05:00): 31, a date\n")
            file.write(record("04", 95, 999))
        assert taken.wait(3)[1:] == [("0000:05:00", 31, NOW), ("0000:04:00", 95, ZERO + 999)]


def test_a_pipe_is_followed_as_dev_kmsg_is(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)

    with following(path) as taken, path.open("w") as pipe:
        pipe.write(record("01", 79, 990)[:40])
        pipe.flush()
        pipe.write(record("01", 79, 990)[40:])
        pipe.flush()
        assert taken.wait(1) == [("0000:01:00", 79, ZERO + 990)]


def test_a_log_that_cannot_be_read_is_reported_and_nothing_else_happens(tmp_path, caplog):
    KernelLog(str(tmp_path / "none"), lambda: NOW).run(lambda _: None, threading.Event())

    assert "faults in" in caplog.text
    assert "No such file" in caplog.text
