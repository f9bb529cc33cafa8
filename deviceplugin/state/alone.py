"""One device plugin for each state directory: two would overwrite each other's ledgers and records."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kerf.wire.errors import WireError

PATIENCE_S = 30.0
"""A plugin that is being replaced may take this long to leave."""
_LOOK_S = 0.2


@contextmanager
def alone_in(directory: str, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the directory. Raises WireError while another device plugin of this node holds it, OSError."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    handle = os.open(Path(directory) / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _wait(handle, directory, time.monotonic() + patience_s)
        yield
    finally:
        os.close(handle)


def _wait(handle: int, directory: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                fix = "another device plugin of this node uses it: give each a directory of its own"
                raise WireError("--state-dir", directory, fix) from error
            time.sleep(_LOOK_S)
        else:
            return
