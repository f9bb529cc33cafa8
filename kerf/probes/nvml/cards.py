"""Reading one card: its identity, memory, place on the bus and mode."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerf.faults.bus import parse_bus
from kerf.probes.nvml.driver import Driver, text
from kerf.values.device import Card, Mode
from kerf.values.units import MIB


@dataclass(frozen=True, slots=True)
class Device:
    """A card, its handle in the running NVML, and its address on the bus."""

    handle: Any
    card: Card
    bus: str


def read_device(driver: Driver, index: int, slots: int) -> Device:
    """The card at an index. Raises NVMLError."""
    nvml = driver.nvml
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    uuid, name = text(nvml.nvmlDeviceGetUUID(handle)), text(nvml.nvmlDeviceGetName(handle))
    memory = nvml.nvmlDeviceGetMemoryInfo(handle).total // MIB
    bus = driver.optional(lambda: text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower(), "")
    card = Card(
        id=uuid,
        index=index,
        vendor="nvidia",
        model=name,
        memory_mib=memory,
        slots=slots,
        numa=_numa_of(bus),
        mode=_mode_of(driver, handle),
        bus=parse_bus(bus),
    )
    return Device(handle, card, bus)


def _mode_of(driver: Driver, handle: Any) -> Mode:  # noqa: ANN401 (pynvml is untyped)
    return Mode.MIG if driver.optional(lambda: driver.nvml.nvmlDeviceGetMigMode(handle)[0], 0) else Mode.SHARED


def _numa_of(bus: str) -> int:
    """The NUMA node of a PCI address as NVML writes it (00000000:0a:00.0); 0 where the kernel reports none."""
    address = bus[4:] if len(bus) == len("00000000:00:00.0") else bus
    try:
        return max(int(Path(f"/sys/bus/pci/devices/{address}/numa_node").read_text(encoding="ascii")), 0)
    except (OSError, ValueError):
        return 0
