"""The ledgers of this node's containers: read while they are in use, told what only the host knows."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from deviceplugin.core.usage import Place
from deviceplugin.kubelet.files import Files
from deviceplugin.kubelet.processes import Processes
from kerf.wire.errors import WireError
from kerf.wire.limiter import RECORDS, SLOTS, SLOTS_AT, LedgerView, host_pid_patch, measured_patch, parse_ledger

_LOG = logging.getLogger("kerf.deviceplugin.ledgers")


class Ledgers:
    """Ledger files by container. A file that is gone or damaged is skipped: its container has ended or begins."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self) -> dict[Place, LedgerView]:
        """All of them as they stand."""
        views = {}
        for uid, container, path in self._files.ledgers():
            try:
                views[Place(uid, container)] = parse_ledger(Path(path).read_bytes())
            except (OSError, WireError) as error:
                _LOG.debug("ledger %s: %s", path, error)
        return views

    def tell_share(self, place: Place, card: int, permille: int, at_ns: int) -> None:
        """Tell a container what share of card record `card` it really had; CLOCK_MONOTONIC."""
        self._write(place, measured_patch(card, permille, at_ns))

    def tell_host_pids(self, place: Place, processes: Processes) -> None:
        """Give processes that do not know their PID on the host that PID: NVML inside counts by it."""
        try:
            data = Path(self._files.ledger_path(place.uid, place.container)).read_bytes()
        except OSError:
            return
        slot = RECORDS["slot"]
        missing = {}
        for index in range(SLOTS):
            base = SLOTS_AT + index * slot.size
            pid = slot.number(data, base, "pid")
            if pid and not slot.number(data, base, "host_pid"):
                missing[pid, slot.number(data, base, "start")] = index
        if not missing:
            return
        for host, inside, start in processes.in_pod(place.uid):
            if (inside, start) in missing:
                self._write(place, [host_pid_patch(missing[inside, start], host)])

    def _write(self, place: Place, patches: Iterable[tuple[int, bytes]]) -> None:
        try:
            file = os.open(self._files.ledger_path(place.uid, place.container), os.O_WRONLY)
        except OSError:
            return
        try:
            for offset, data in patches:
                os.pwrite(file, data, offset)
        finally:
            os.close(file)
