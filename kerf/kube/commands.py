"""The command that gives a kubeconfig's user a credential, run no longer than somebody would wait for it.

The official library runs it without a bound, when it reads a kubeconfig and whenever a credential has ended. It only
logs what goes wrong.
"""

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from kubernetes.config import ConfigException, exec_provider

ALONE_S = 60.0
WATCHED_S = 300.0
"""At a terminal, where the command may ask somebody to sign in, also where the answer of Kerf goes into a file."""
LONGEST = 300


class Bounded(subprocess.Popen[str]):
    """A process that is ended where its answer does not come in time; without a terminal, with all that it started."""

    def __init__(self, args: list[str], **options: Any) -> None:  # noqa: ANN401 (as the library gives them)
        self._alone = options.get("stdin") is None and not os.isatty(0)
        super().__init__(args, **options, start_new_session=self._alone)

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:  # noqa: A002
        """What it wrote. Raises ConfigException."""
        seconds = timeout or (ALONE_S if self._alone else WATCHED_S)
        try:
            return super().communicate(input, seconds)
        except subprocess.TimeoutExpired as error:
            self._end()
            said = f"it did not end in {seconds:.0f} s; run it by itself to see what it waits for"
            raise ConfigException(said) from error

    def _end(self) -> None:
        """Who holds its pipes open is not waited for."""
        with suppress(ProcessLookupError):
            if self._alone:
                os.killpg(self.pid, signal.SIGKILL)
            else:
                self.kill()
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()


@contextmanager
def bounded_commands() -> Iterator[list[str]]:
    """From here on the library's commands are bounded; in it, what it would log of one that fails is collected."""
    vars(exec_provider)["subprocess"] = SimpleNamespace(Popen=Bounded, PIPE=subprocess.PIPE)
    said: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        said.append(" ".join(record.getMessage().split())[:LONGEST])
        return False

    root = logging.getLogger()
    root.addFilter(collect)
    try:
        yield said
    finally:
        root.removeFilter(collect)
