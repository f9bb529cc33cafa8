"""What processes use of a card, by PID on the host."""

import time
from functools import partial
from typing import Any

from kerf.probes.base import ProcessUse
from kerf.probes.nvml.cards import Device
from kerf.probes.nvml.driver import Driver


def uses_of(driver: Driver, device: Device) -> list[ProcessUse]:
    """Memory and utilisation by process; empty if the driver does not report them."""
    memory, busy = _memory_by_pid(driver, device), _busy_by_pid(driver, device)
    return [ProcessUse(device.card.id, pid, memory.get(pid, 0), busy.get(pid, 0)) for pid in {*memory, *busy}]


def _memory_by_pid(driver: Driver, device: Device) -> dict[int, int]:
    held: dict[int, int] = {}
    none: list[Any] = []
    for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        for process in driver.optional(partial(getattr(driver.nvml, name), device.handle), none):
            held[int(process.pid)] = max(held.get(int(process.pid), 0), int(process.usedGpuMemory or 0))
    return held


def _busy_by_pid(driver: Driver, device: Device) -> dict[int, int]:
    since = int((time.time() - 1.0) * 1_000_000)
    none: list[Any] = []
    samples = driver.optional(partial(driver.nvml.nvmlDeviceGetProcessUtilization, device.handle, since), none)
    return {int(sample.pid): int(sample.smUtil) for sample in samples}
