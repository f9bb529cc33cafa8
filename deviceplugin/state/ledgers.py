"""The ledgers of this node's containers: read while in use, patched with what only the host knows."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from deviceplugin.core.usage import ContainerRef
from deviceplugin.state.files import Files
from kerf.wire.errors import WireError
from kerf.wire.limiter import RECORDS, SLOTS, SLOTS_AT, LedgerView, host_pid_patch, measured_patch, parse_ledger

_LOG = logging.getLogger("kerf.deviceplugin.ledgers")
InsideProcess = tuple[int, int]
"""(PID inside the container, start in clock ticks since boot)."""


class Ledgers:
    """Ledger files by container. A missing or damaged file is skipped: its container has ended or is starting."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self) -> dict[ContainerRef, LedgerView]:
        """All ledgers as they are now."""
        views = {}
        for uid, container, path in self._files.ledgers():
            if (view := _view(path)) is not None:
                views[ContainerRef(uid, container)] = view
        return views

    def one(self, ref: ContainerRef) -> LedgerView | None:
        """A container's ledger; None where there is none."""
        return _view(self._files.ledger_path(ref.uid, ref.container))

    def write_share(self, ref: ContainerRef, card: int, permille: int, at_ns: int) -> None:
        """Write the measured share of card record `card` into a container's ledger. `at_ns` is CLOCK_MONOTONIC."""
        self._patch(ref, measured_patch(card, permille, at_ns))

    def without_host_pid(self, ref: ContainerRef) -> dict[InsideProcess, int]:
        """Processes whose PID on the host is not known yet, with their slot in the ledger."""
        try:
            data = Path(self._files.ledger_path(ref.uid, ref.container)).read_bytes()
        except OSError:
            return {}
        record, missing = RECORDS["slot"], {}
        for index in range(SLOTS):
            base = SLOTS_AT + index * record.size
            pid = record.number(data, base, "pid")
            if pid and not record.number(data, base, "host_pid"):
                missing[pid, record.number(data, base, "start")] = index
        return missing

    def write_host_pid(self, ref: ContainerRef, slot: int, host_pid: int) -> None:
        """Write a process's PID on the host: NVML inside the container counts by it."""
        self._patch(ref, [host_pid_patch(slot, host_pid)])

    def _patch(self, ref: ContainerRef, patches: Iterable[tuple[int, bytes]]) -> None:
        try:
            file = os.open(self._files.ledger_path(ref.uid, ref.container), os.O_WRONLY)
        except OSError:
            return
        try:
            for offset, data in patches:
                os.pwrite(file, data, offset)
        finally:
            os.close(file)


def _view(path: str) -> LedgerView | None:
    try:
        return parse_ledger(Path(path).read_bytes())
    except (OSError, WireError) as error:
        _LOG.debug("ledger %s: %s", path, error)
        return None
