"""Keeps the wanted daemons running, and says how they are."""

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from deviceplugin.mps.control import Asked
from kerf.values.mps import Daemon, DaemonState, MpsReport, Wanted
from kerf.wire.errors import WireError
from kerf.wire.mps import REPORT, WANTED, parse_wanted, render_report

_LOG = logging.getLogger("kerf.mps")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Before a daemon that ended is started again: twice as long each time, up to the longest."""
WELL_S = 60.0
"""A daemon that ran for so long is well: its next end is a first one."""
SILENT_LOOKS = 3
"""Looks without an answer after which a daemon is started again."""
FAULT_S = 30.0
"""How long the clients of a fatal fault may take to end before the daemon ends them."""
_LARGEST_LOG = 16 << 20


class Daemons(Protocol):
    """What the supervisor needs of `Control`."""

    def problem(self) -> str:
        """Why no daemon can run here."""

    def start(self, place: Path, cards: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        """Start one."""

    def ask(self, place: Path) -> Asked | None:
        """What it says."""

    def stop(self, place: Path, process: "subprocess.Popen[bytes]") -> None:
        """End it."""


class _One:
    """One daemon: its process, and how its last starts went."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.process: subprocess.Popen[bytes] | None = None
        self.asked: Asked | None = None
        self.problem = "it starts"
        self.starts = 0
        self.began = self.not_before = 0.0
        self.pause = 0.0
        self.silent = 0
        self.faulty_since: float | None = None

    def state(self) -> DaemonState:
        """As the plugin reads it. One that answers well serves."""
        asked = self.asked or Asked()
        running = self.process is not None and self.asked is not None and not self.problem
        return DaemonState(
            self.daemon.name, running, self.problem, max(self.starts - 1, 0), asked.servers, asked.clients
        )


class Supervisor:
    """One look a second. `place` is the directory of the two files, and of a directory per daemon."""

    def __init__(self, place: Path, control: Daemons, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._control = control
        self._clock = clock
        self._ones: dict[str, _One] = {}

    def prepare(self) -> None:
        """Make the directory. Daemons of an earlier run have ended with it."""
        self._place.mkdir(parents=True, exist_ok=True)

    def run_once(self) -> None:
        """Start and end what has to be, look at the rest, and report. Raises OSError.

        A daemon that answers shows that daemons can run here, so the program is not asked again beside it.
        """
        problem = "" if any(one.asked for one in self._ones.values()) else self._control.problem()
        wanted = {} if problem else {each.name: each for each in self._wanted().daemons}
        for name, one in list(self._ones.items()):
            if wanted.get(name) != one.daemon:
                self._drop(name)
        for name, daemon in wanted.items():
            self._keep(self._ones.setdefault(name, _One(daemon)))
        self._report(problem)

    def end(self) -> None:
        """End all daemons: this program ends, and none outlives its container."""
        for name in list(self._ones):
            self._drop(name)
        self._report("the supervisor of MPS daemons has ended")

    # ---- inside
    def _wanted(self) -> Wanted:
        try:
            return parse_wanted((self._place / WANTED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Wanted()
        except (OSError, UnicodeDecodeError, WireError) as error:
            _LOG.warning("what the device plugin wants cannot be read: %s", error)
            return Wanted(tuple(one.daemon for one in self._ones.values()))

    def _keep(self, one: _One) -> None:
        if one.process is None:
            self._start(one)
        elif one.process.poll() is not None:
            self._fell(one, f"it ended with status {one.process.returncode}{self._last_words(one)}")
        else:
            self._look(one)

    def _start(self, one: _One) -> None:
        if self._clock() < one.not_before:
            return
        one.began, one.starts, one.silent, one.faulty_since = self._clock(), one.starts + 1, 0, None
        try:
            one.process = self._control.start(self._place / one.daemon.name, one.daemon.cards)
        except OSError as error:
            self._fell(one, f"it cannot be started: {error}")
            return
        _LOG.info("started MPS daemon %s for cards %s", one.daemon.name, ", ".join(one.daemon.cards))

    def _look(self, one: _One) -> None:
        now, place = self._clock(), self._place / one.daemon.name
        asked = self._control.ask(place)
        one.asked, one.silent = asked, 0 if asked else one.silent + 1
        if asked is None:
            one.problem = "it does not answer" if one.silent > 1 or not one.problem else one.problem
            if one.silent >= SILENT_LOOKS:
                self._again(one, "it does not answer")
            return
        one.faulty_since = (one.faulty_since or now) if asked.faulty else None
        one.problem = "a fatal fault: it waits for the programs on the card to end" if asked.faulty else ""
        if one.faulty_since is not None and now - one.faulty_since >= FAULT_S:
            self._again(one, "programs did not end after a fatal fault")
        if now - one.began >= WELL_S:
            one.pause = 0.0
        _shorten(place / "log")

    def _again(self, one: _One, why: str) -> None:
        if one.process is not None:
            self._control.stop(self._place / one.daemon.name, one.process)
        self._fell(one, why)

    def _fell(self, one: _One, why: str) -> None:
        one.pause = min(one.pause * 2, LONGEST_PAUSE_S) if one.pause else FIRST_PAUSE_S
        one.process, one.asked, one.problem = None, None, why
        one.not_before = self._clock() + one.pause
        _LOG.warning("MPS daemon %s: %s; it is started again in %.1f s", one.daemon.name, why, one.pause)

    def _drop(self, name: str) -> None:
        one = self._ones.pop(name)
        if one.process is not None:
            self._control.stop(self._place / name, one.process)
        shutil.rmtree(self._place / name, ignore_errors=True)
        _LOG.info("ended MPS daemon %s", name)

    def _last_words(self, one: _One) -> str:
        try:
            lines = (self._place / one.daemon.name / "log" / "control.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return f" ({lines[-1][:120]})" if lines else ""

    def _report(self, problem: str) -> None:
        report = MpsReport(int(time.time()), problem, tuple(one.state() for one in self._ones.values()))
        temporary = self._place / f"{REPORT}.{os.getpid()}.tmp"
        temporary.write_text(render_report(report), encoding="utf-8")
        temporary.replace(self._place / REPORT)


def _shorten(folder: Path) -> None:
    """The daemon never ends its logs."""
    for path in folder.glob("*.log"):
        if path.stat().st_size > _LARGEST_LOG:
            os.truncate(path, 0)
