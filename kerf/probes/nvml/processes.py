"""What processes use of a card, by PID on the host."""

import time
from functools import partial
from typing import Any

from kerf.probes.base import ProcessUse
from kerf.probes.nvml.cards import Device
from kerf.probes.nvml.driver import Driver
from kerf.probes.nvml.instance_time import InstanceTime
from kerf.values.device import Mode

_NO_INSTANCE = 0xFFFFFFFF


def uses_of(driver: Driver, device: Device, time_of: InstanceTime) -> list[ProcessUse]:
    """Memory and utilisation by process; empty if the driver does not report them."""
    memory, instances = _held_by_pid(driver, device)
    if device.card.mode is Mode.MIG:
        busy = _busy_in_instances(time_of.busy(driver, device, set(instances.values())), instances)
    else:
        busy = _busy_by_pid(driver, device)
    return [ProcessUse(device.card.id, pid, memory.get(pid, 0), busy.get(pid, 0)) for pid in {*memory, *busy}]


def _held_by_pid(driver: Driver, device: Device) -> tuple[dict[int, int], dict[int, int]]:
    """Bytes of each process, and the GPU instance in which it runs."""
    held: dict[int, int] = {}
    instances: dict[int, int] = {}
    none: list[Any] = []
    for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        for process in driver.optional(partial(getattr(driver.nvml, name), device.handle), none):
            held[int(process.pid)] = max(held.get(int(process.pid), 0), int(process.usedGpuMemory or 0))
            if (number := int(getattr(process, "gpuInstanceId", _NO_INSTANCE))) != _NO_INSTANCE:
                instances[int(process.pid)] = number
    return held, instances


def _busy_in_instances(busy: dict[int, int], instances: dict[int, int]) -> dict[int, int]:
    """An instance belongs to one container, so the first of its processes stands for all of them."""
    first = {number: min(pid for pid, own in instances.items() if own == number) for number in busy}
    return {first[number]: percent for number, percent in busy.items()}


def _busy_by_pid(driver: Driver, device: Device) -> dict[int, int]:
    since = int((time.time() - 1.0) * 1_000_000)
    none: list[Any] = []
    samples = driver.optional(partial(driver.nvml.nvmlDeviceGetProcessUtilization, device.handle, since), none)
    return {int(sample.pid): int(sample.smUtil) for sample in samples}
