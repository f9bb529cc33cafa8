"""NVIDIA's control daemon: the only place that knows how it is started, asked and ended."""

import logging
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOG = logging.getLogger("kerf.mps.control")
ANSWER_S = 5.0
"""Longest time for an answer; one takes about 10 ms."""
QUIT_S = 5.0
"""How long clients may take to leave before the daemon ends them."""
_MULTI_USER = "--multiuser-server"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a daemon says of itself."""

    servers: tuple[int, ...] = ()
    clients: int = 0
    faulty: bool = False
    """One of its servers waits for the clients of a fatal fault to end, and takes no others until then."""


class Control:
    """Starts control daemons in the foreground, as children: their end is seen at once, and none outlives this."""

    def __init__(self, program: str) -> None:
        self._program = program

    def problem(self) -> str:
        """Why no daemon can run here; empty where they can."""
        if shutil.which(self._program) is None:
            return f"{self._program} is not there: the container runtime must bring in the driver's compute programs"
        try:
            said = subprocess.run([self._program, "-h"], capture_output=True, text=True, timeout=ANSWER_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return f"{self._program} cannot be run: {error}"
        if _MULTI_USER not in said.stdout + said.stderr:
            return f"this driver's MPS serves one user at a time: its {self._program} has no {_MULTI_USER}"
        return ""

    def start(self, place: Path, cards: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        """A daemon for these cards, with its pipes and logs in `place`. Raises OSError."""
        shutil.rmtree(place, ignore_errors=True)
        for part in ("pipe", "log"):
            (place / part).mkdir(parents=True, mode=0o755)
        return subprocess.Popen(
            [self._program, "-f", "-M"],
            env={**self._environment(place), "CUDA_VISIBLE_DEVICES": ",".join(cards)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, place: Path) -> Asked | None:
        """What the daemon says; None if it does not answer."""
        listed = self._say(place, "get_server_list")
        if listed is None:
            return None
        servers = tuple(int(word) for word in listed.split() if word.isdigit())
        clients, faulty = 0, False
        for server in servers:
            clients += len((self._say(place, f"get_client_list {server}") or "").split())
            faulty = faulty or "FAULT" in (self._say(place, f"get_server_status {server}") or "").upper()
        return Asked(servers, clients, faulty)

    def stop(self, place: Path, process: "subprocess.Popen[bytes]") -> None:
        """End the daemon, and with it its servers."""
        if process.poll() is None:
            self._say(place, f"quit -t {QUIT_S:.0f}", 2 * QUIT_S)
        with suppress(subprocess.TimeoutExpired):
            process.wait(QUIT_S)
        if process.poll() is None:
            _LOG.warning("the daemon in %s does not end: it is killed", place)
            process.kill()
            process.wait()

    def _say(self, place: Path, command: str, timeout_s: float = ANSWER_S) -> str | None:
        try:
            done = subprocess.run(
                [self._program],
                input=f"{command}\n",
                env=self._environment(place),
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            _LOG.debug("%s in %s: %s", command, place, error)
            return None
        return done.stdout if done.returncode == 0 else None

    @staticmethod
    def _environment(place: Path) -> dict[str, str]:
        return {
            **os.environ,
            "CUDA_MPS_PIPE_DIRECTORY": str(place / "pipe"),
            "CUDA_MPS_LOG_DIRECTORY": str(place / "log"),
        }
