"""Processes on this machine: started with a log and a death signal, stopped in reverse order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.errors import SandboxError

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_LINES = 20
READY_SECONDS = 180.0
"""For every wait that promises nothing: three times the longest that is known, since a machine may do other work, too.

A controller of client-go that lives through an outage watches again after up to a minute.
"""
GRACE_SECONDS = 10.0

# The kernel ties a death signal to the thread that forked. This one lives as long as the interpreter.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-spawn")


@dataclass(frozen=True, slots=True)
class Inside:
    """What a program joins before it starts: the ``cgroup.procs`` file of a control group, and a mount namespace."""

    group_file: Path | None = None
    mounts: Path | None = None


OUTSIDE = Inside()


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run, and a check that it is ready.

    `env` is added to this process's own. `inside` is what it joins. `ready` is polled and must not raise.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] = lambda: True
    inside: Inside = OUTSIDE


def await_until(condition: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    """Wait until `condition` holds. Raises SandboxError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SandboxError(f"timed out after {seconds:.0f} s waiting for {what}")
        time.sleep(0.05)


def tail(path: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a text file, or a note that there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 64 * 1024))
            end = log.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return "(no log)"
    return "\n".join(end) or "(empty log)"


class Supervisor:
    """The processes of one sandbox, by name, in the order in which they were first started.

    Each one logs to ``logs/NAME.log`` below the run directory and dies with this process. Only processes started here
    are ever signalled.
    """

    def __init__(self, run_dir: Path) -> None:
        """`run_dir` must exist."""
        self._logs = run_dir / "logs"
        self._logs.mkdir(exist_ok=True)
        self._commands: dict[str, Command] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, command: Command, seconds: float = READY_SECONDS) -> int:
        """Start a command under its name and wait until it is ready. Returns its pid.

        Raises SandboxError with the end of the log if it exits first or is not ready within `seconds`.
        """
        self.launch(command)
        self.await_ready(command.name, seconds)
        return self._running[command.name].pid

    def launch(self, command: Command) -> None:
        """Start a command under its name and return at once."""
        if self.alive(command.name):
            raise SandboxError(f"{command.name} already runs")
        self._commands[command.name] = command
        self._running[command.name] = spawn(
            command.argv, self.log(command.name), {**_own_environment(), **command.env}, inside=command.inside
        )

    def await_ready(self, name: str, seconds: float = READY_SECONDS) -> None:
        """Wait until a launched command is ready, as `start` does."""
        ready = self._commands[name].ready
        self.await_until(ready, f"{name} to become ready", name, seconds)

    def await_until(self, condition: Callable[[], bool], what: str, name: str, seconds: float = READY_SECONDS) -> None:
        """Wait for a condition that the process `name` causes. SandboxError shows the end of its log."""
        try:
            await_until(lambda: self._require_alive(name) and condition(), what, seconds)
        except SandboxError as error:
            log = self.log(name)
            raise SandboxError(f"{error}; the end of {log}:\n{tail(log)}") from None

    def restart(self, name: str, seconds: float = READY_SECONDS) -> int:
        """Restart a process with the same command; stop it first if it still runs. Returns its pid."""
        self.stop(name)
        return self.start(self._commands[name], seconds)

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        """Send a signal. After SIGKILL, wait until the process is gone."""
        process = self._process(name)
        with suppress(ProcessLookupError):
            process.send_signal(signum)
        if signum == signal.SIGKILL:
            process.wait()

    def stop(self, name: str, grace: float = GRACE_SECONDS) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds. No-op for a process that is gone."""
        process = self._process(name)
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        """Kill every process, the last one started first: nothing is left that one of them should tidy up."""
        for name in reversed(self._running):
            self.kill(name)

    def alive(self, name: str) -> bool:
        """Whether a process of that name was started and still runs."""
        process = self._running.get(name)
        return process is not None and process.poll() is None

    def pid(self, name: str) -> int:
        """The pid of the latest process of that name."""
        return self._process(name).pid

    def names(self) -> tuple[str, ...]:
        """Every name ever started, oldest first."""
        return tuple(self._running)

    def log(self, name: str) -> Path:
        """The log of a process, restarts included."""
        return self._logs / f"{name}.log"

    def _process(self, name: str) -> subprocess.Popen[bytes]:
        try:
            return self._running[name]
        except KeyError:
            known = ", ".join(self._running) or "nothing"
            raise SandboxError(f"{name} was never started here; started: {known}") from None

    def _require_alive(self, name: str) -> bool:
        code = self._process(name).poll()
        if code is not None:
            raise SandboxError(f"{name} exited with code {code}")
        return True


def spawn(
    argv: tuple[str, ...], log: Path, env: Mapping[str, str], *, cwd: Path | None = None, inside: Inside = OUTSIDE
) -> subprocess.Popen[bytes]:
    """Start a program that appends its output to `log`, ignores our Ctrl-C, and dies when this process does."""
    return _SPAWNER.submit(_spawn, argv, log, env, cwd, inside).result()


def _spawn(
    argv: tuple[str, ...], log: Path, env: Mapping[str, str], cwd: Path | None, inside: Inside
) -> subprocess.Popen[bytes]:
    joined = (str(path or "-") for path in (inside.group_file, inside.mounts))
    launcher = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *joined)
    with log.open("ab") as out:
        return subprocess.Popen(
            (*launcher, *argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def _own_environment() -> dict[str, str]:
    """The sandbox talks only to this machine, so it uses no proxy."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
