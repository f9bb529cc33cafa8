"""Processes are awaited, killed, restarted, and die with their parent. Real ones, a few milliseconds each."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.processes import Command, Supervisor, await_until

SERVE = "import pathlib, signal, sys; print('serving', flush=True); pathlib.Path(sys.argv[1]).touch(); signal.pause()"


@pytest.fixture
def supervisor(tmp_path: Path):
    running = Supervisor(tmp_path)
    yield running
    running.stop_all()


def a_command(name: str, flag: Path, code: str = SERVE) -> Command:
    return Command(name, (sys.executable, "-c", code, str(flag)), ready=flag.exists)


def test_start_returns_when_the_process_is_ready(supervisor, tmp_path):
    pid = supervisor.start(a_command("server", tmp_path / "up"))

    assert (tmp_path / "up").exists()
    assert supervisor.pid("server") == pid
    assert supervisor.log("server").read_text() == "serving\n"


def test_a_process_that_dies_first_is_an_error_with_the_end_of_its_log(supervisor, tmp_path):
    code = "import sys; [print('line', n) for n in range(30)]; sys.exit(3)"

    with pytest.raises(SandboxError) as caught:
        supervisor.start(a_command("server", tmp_path / "never", code))

    lines = str(caught.value).splitlines()
    assert lines[0] == f"server exited with code 3; the end of {tmp_path}/logs/server.log:"
    assert lines[1:] == [f"line {n}" for n in range(10, 30)]


def test_a_process_that_never_gets_ready_is_an_error_with_its_log(supervisor, tmp_path):
    command = Command("server", (sys.executable, "-c", SERVE, str(tmp_path / "up")), ready=lambda: False)

    with pytest.raises(SandboxError, match="timed out after 0 s waiting for server to become ready"):
        supervisor.start(command, seconds=0.2)


def test_a_program_that_does_not_exist_is_named(supervisor):
    with pytest.raises(SandboxError, match="cannot run /no/such/program"):
        supervisor.start(Command("server", ("/no/such/program",), ready=lambda: False))


def test_a_killed_process_starts_again_under_its_name(supervisor, tmp_path):
    first = supervisor.start(a_command("server", tmp_path / "up"))

    supervisor.kill("server")
    assert not supervisor.alive("server")
    second = supervisor.restart("server")

    assert second != first
    assert supervisor.alive("server")


def test_a_name_is_not_started_twice(supervisor, tmp_path):
    supervisor.start(a_command("server", tmp_path / "up"))

    with pytest.raises(SandboxError, match="server already runs"):
        supervisor.start(a_command("server", tmp_path / "up"))


def test_an_unknown_name_is_answered_with_the_known_ones(supervisor, tmp_path):
    supervisor.start(a_command("server", tmp_path / "up"))

    with pytest.raises(SandboxError, match="etcd was never started here; started: server"):
        supervisor.kill("etcd")


def test_a_process_that_ignores_the_polite_signal_is_killed(supervisor, tmp_path):
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVE
    supervisor.start(a_command("server", tmp_path / "up", stubborn))

    supervisor.stop("server", grace=0.2)

    assert not supervisor.alive("server")


def test_processes_die_with_the_one_that_started_them(tmp_path):
    parent_code = (
        "import pathlib, sys, signal\n"
        "from sandbox.processes import Command, Supervisor\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "serve = sys.argv[2]\n"
        "flag = run / 'up'\n"
        "print(Supervisor(run).start(Command('s', (sys.executable, '-c', serve, str(flag)), ready=flag.exists)))\n"
        "sys.stdout.flush()\n"
        "signal.pause()\n"
    )
    argv = (sys.executable, "-c", parent_code, str(tmp_path), SERVE)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.send_signal(signal.SIGKILL)

    await_until(lambda: not _runs(child), "the child to die")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return " Z " not in Path(f"/proc/{pid}/stat").read_text()
