"""Daemons are started as wanted, watched, started again with growing pauses, and ended with their supervisor."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deviceplugin.mps.control import Asked, Control
from deviceplugin.mps.supervisor import FAULT_S, Supervisor
from kerf.values.mps import Daemon, DaemonState, MpsReport, Wanted
from kerf.wire.mps import REPORT, WANTED, parse_report, render_wanted
from tests.deviceplugin.mps.fake_control import a_program

ONE = Daemon("GPU-0", ("GPU-0",))
TWO = Daemon("node-1", ("GPU-1", "GPU-2"))


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A supervisor over the fake control program."""

    def __init__(self, root: Path) -> None:
        self.place = root / "mps"
        self.program = a_program(root)
        self.clock = Clock()
        self.supervisor = Supervisor(self.place, Control(str(self.program)), self.clock)
        self.supervisor.prepare()

    def want(self, *daemons: Daemon) -> None:
        (self.place / WANTED).write_text(render_wanted(Wanted(daemons)))

    def look(self, seconds: float = 1.0) -> MpsReport:
        self.clock.now += seconds
        self.supervisor.run_once()
        return parse_report((self.place / REPORT).read_text())

    def until_running(self, name: str) -> DaemonState:
        """Looks until the daemon answers; a new process needs some milliseconds to."""
        for _ in range(200):
            state = self.look(0.0).of(name)
            if state and state.running:
                return state
            signal.sigtimedwait([], 0.02)
        raise AssertionError(f"{name} never ran: {state}")

    def pipe(self, name: str, file: str) -> Path:
        return self.place / name / "pipe" / file

    def pid(self, name: str) -> int:
        return int(self.pipe(name, "nvidia-cuda-mps-control.pid").read_text())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.supervisor.end()


def test_a_wanted_daemon_serves_its_cards_and_says_who_uses_it(world: World):
    world.want(ONE, TWO)

    for daemon in (ONE, TWO):
        assert world.until_running(daemon.name) == DaemonState(daemon.name, True)
        assert world.pipe(daemon.name, "cards").read_text() == ",".join(daemon.cards)
    world.pipe("GPU-0", "servers").write_text("4242\n")
    world.pipe("GPU-0", "clients").write_text("7\n8\n")
    assert world.look().of("GPU-0") == DaemonState("GPU-0", True, servers=(4242,), clients=2)


def test_a_daemon_that_dies_is_started_again_after_a_pause_that_grows(world: World):
    world.want(ONE)
    world.until_running("GPU-0")

    pauses = []
    for _ in range(3):
        os.kill(world.pid("GPU-0"), signal.SIGKILL)
        os.waitid(os.P_PID, world.pid("GPU-0"), os.WEXITED | os.WNOWAIT)
        fallen = world.look().of("GPU-0")
        assert fallen is not None
        assert (fallen.running, fallen.problem) == (False, "it ended with status -9")
        pauses.append(world.supervisor._ones["GPU-0"].pause)
        waits = world.look(pauses[-1] - 0.1).of("GPU-0")
        assert waits == fallen
        world.look(0.2)
        world.until_running("GPU-0")
    assert pauses == [0.5, 1.0, 2.0]
    assert world.look().of("GPU-0") == DaemonState("GPU-0", True, restarts=3)


def test_a_daemon_that_cannot_start_says_why_in_its_own_words(world: World):
    (world.program.parent / "broken").touch()
    world.want(ONE)

    world.look()
    process = world.supervisor._ones["GPU-0"].process
    assert process is not None
    process.wait(10)

    state = world.look().of("GPU-0")
    assert state is not None
    assert (state.running, state.problem) == (False, "it ended with status 1 (cannot initialise)")


def test_what_is_wanted_no_longer_ends_and_leaves_nothing(world: World):
    world.want(ONE)
    world.until_running("GPU-0")
    pid = world.pid("GPU-0")

    world.want()
    report = world.look()

    assert report.daemons == ()
    assert not Path(f"/proc/{pid}").exists()
    assert not (world.place / "GPU-0").exists()


def test_an_unreadable_wish_ends_no_daemon(world: World):
    world.want(ONE)
    world.until_running("GPU-0")

    (world.place / WANTED).write_text("{")

    assert world.look().of("GPU-0") == DaemonState("GPU-0", True)


def test_a_program_that_cannot_be_asked_for_a_moment_ends_no_daemon_that_answers(tmp_path: Path):
    class Slow(Control):
        says = ""

        def problem(self) -> str:
            return self.says

    world = World(tmp_path)
    control = Slow(str(world.program))
    world.supervisor = Supervisor(world.place, control, world.clock)
    world.want(ONE)
    world.until_running("GPU-0")
    pid = world.pid("GPU-0")

    control.says = "it cannot be run: timed out after 5 seconds"

    assert world.look().of("GPU-0") == DaemonState("GPU-0", True)
    assert world.pid("GPU-0") == pid
    world.supervisor.end()


def test_programs_that_outlive_a_fatal_fault_are_ended_with_their_daemon(world: World):
    world.want(ONE)
    world.until_running("GPU-0")
    before = world.pid("GPU-0")
    world.pipe("GPU-0", "servers").write_text("4242\n")
    world.pipe("GPU-0", "fault").touch()

    faulty = world.look().of("GPU-0")
    world.look(FAULT_S)
    world.look(0.6)

    assert faulty is not None
    assert faulty.problem == "a fatal fault: it waits for the programs on the card to end"
    world.until_running("GPU-0")
    assert world.pid("GPU-0") != before


def test_a_silent_daemon_is_started_again_after_three_looks(tmp_path: Path):
    class Silent(Control):
        def ask(self, place: Path) -> Asked | None:
            return None

    world = World(tmp_path)
    world.supervisor = Supervisor(world.place, Silent(str(world.program)), world.clock)
    world.want(ONE)

    states = [world.look().of("GPU-0") for _ in range(4)]

    silent = "it does not answer"
    assert [state.problem for state in states if state] == ["it starts", "it starts", silent, silent]
    assert world.supervisor._ones["GPU-0"].process is None
    world.supervisor.end()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "is not there: the container runtime must bring in the driver's compute programs"),
        ("#!/bin/sh\necho OPTIONS\n", "this driver's MPS serves one user at a time"),
    ],
    ids=["no program", "an old program"],
)
def test_a_node_that_cannot_run_daemons_says_why(tmp_path: Path, text: str | None, problem: str):
    program = tmp_path / "control"
    if text:
        program.write_text(text)
        program.chmod(0o755)
    supervisor = Supervisor(tmp_path / "mps", Control(str(program)))
    supervisor.prepare()
    (tmp_path / "mps" / WANTED).write_text(render_wanted(Wanted((ONE,))))

    supervisor.run_once()

    report = parse_report((tmp_path / "mps" / REPORT).read_text())
    assert problem in report.problem
    assert report.daemons == ()


def test_no_daemon_outlives_its_supervisor(world: World):
    world.want(ONE)
    world.until_running("GPU-0")
    pid = world.pid("GPU-0")

    world.supervisor.end()

    assert not Path(f"/proc/{pid}").exists()
    assert parse_report((world.place / REPORT).read_text()).problem == "the supervisor of MPS daemons has ended"
