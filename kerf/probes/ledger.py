"""Ledger and arbiter files: written atomically, read while processes charge them."""

import contextlib
import os
import tempfile
from pathlib import Path

from kerf.wire.limiter import LedgerSpec, LedgerView, parse_ledger, render_arbiter, render_ledger

MODE = 0o666
"""Any user in the container may run CUDA, and every process that does writes its charges here."""


def create_ledger(path: Path, spec: LedgerSpec) -> None:
    """Write a fresh ledger, replacing an existing one atomically. Raises WireError, OSError."""
    _write_whole(path, render_ledger(spec))


def create_arbiter(path: Path) -> None:
    """Write a fresh node-wide arbiter for one card unless it exists: containers may be using it. Raises OSError."""
    if path.exists():
        return
    _write_whole(path, render_arbiter(), replace=False)


def read_ledger(path: Path) -> LedgerView:
    """A ledger as it is now. Raises WireError, OSError."""
    return parse_ledger(path.read_bytes())


def _write_whole(path: Path, data: bytes, replace: bool = True) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, MODE)
        if replace:
            temporary.replace(path)
            return
        with contextlib.suppress(FileExistsError):  # another process created it first
            path.hardlink_to(temporary)
        temporary.unlink()
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
