"""Reading one card: its identity, memory, place on the bus and mode."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerf.faults.bus import parse_bus
from kerf.probes.nvml.driver import Driver, text
from kerf.probes.nvml.limits import why_not
from kerf.probes.nvml.mig import geometry_of
from kerf.values.device import Card, Mode
from kerf.values.units import MIB

_MEMORY_V2 = 0x02000028
"""The version of nvmlMemory_v2_t: its size and a 2 in the highest byte."""
_VOLTA = 7
_PROHIBITED = 2
"""NVML_COMPUTEMODE_PROHIBITED."""
_NOT_SUPPORTED = 3
"""NVML_ERROR_NOT_SUPPORTED: the card uses the host's memory, as in a GB10."""


@dataclass(frozen=True, slots=True)
class Device:
    """A card, its handle in the running NVML, and its address on the bus."""

    handle: Any
    card: Card
    bus: str


def read_device(driver: Driver, index: int, slots: int, unified_mib: int = 0) -> Device:
    """The card at an index; one that has no memory of its own counts as of `unified_mib`. Raises NVMLError."""
    nvml = driver.nvml
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    uuid, name = text(nvml.nvmlDeviceGetUUID(handle)), text(nvml.nvmlDeviceGetName(handle))
    memory, reserved = _memory_of(driver, handle)
    bus = driver.optional(lambda: text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower(), "")
    card = Card(
        id=uuid,
        index=index,
        vendor="nvidia",
        model=name,
        memory_mib=memory or unified_mib,
        reserved_mib=reserved,
        slots=slots,
        numa=_numa_of(bus),
        mode=_mode_of(driver, handle),
        bus=parse_bus(bus),
        driver=driver.version,
        no_mps=_no_mps(driver, handle),
        no_limits=why_not(driver, handle),
    )
    geometry = driver.optional(lambda: geometry_of(driver, handle), None) if card.mode is Mode.MIG else None
    return Device(handle, card.in_mig(geometry) if geometry and geometry.profiles else card, bus)


def _memory_of(driver: Driver, handle: Any) -> tuple[int, int]:  # noqa: ANN401 (pynvml is untyped)
    """MiB that programs can have of a card, and MiB that the driver keeps; (0, 0) for a card without its own memory.

    The second version of the call has the driver's part. Older drivers count it as used, so with them the whole is all.
    """
    nvml = driver.nvml
    version = getattr(nvml, "nvmlMemory_v2", _MEMORY_V2)
    found = driver.optional(lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=version), None)
    if found is not None and found.total:
        gives = (found.total - found.reserved) // MIB
        return gives, found.total // MIB - gives
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle).total // MIB, 0
    except nvml.NVMLError as error:
        if getattr(error, "value", None) != _NOT_SUPPORTED:
            raise
        return 0, 0


def _mode_of(driver: Driver, handle: Any) -> Mode:  # noqa: ANN401 (pynvml is untyped)
    return Mode.MIG if driver.optional(lambda: driver.nvml.nvmlDeviceGetMigMode(handle)[0], 0) else Mode.SHARED


def _no_mps(driver: Driver, handle: Any) -> str:  # noqa: ANN401 (pynvml is untyped)
    """Why the card cannot be shared through MPS; empty where it can, or where the driver does not say."""
    nvml = driver.nvml
    volta, _ = driver.optional(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle), (_VOLTA, 0))
    if volta < _VOLTA:
        return "it is older than Volta, so its programs would share one address space"
    prohibited = driver.optional(lambda: nvml.nvmlDeviceGetComputeMode(handle), 0) == _PROHIBITED
    return "its compute mode is prohibited: nvidia-smi -c DEFAULT" if prohibited else ""


def _numa_of(bus: str) -> int:
    """The NUMA node of a PCI address as NVML writes it (00000000:0a:00.0); 0 where the kernel reports none."""
    address = bus[4:] if len(bus) == len("00000000:00:00.0") else bus
    try:
        return max(int(Path(f"/sys/bus/pci/devices/{address}/numa_node").read_text(encoding="ascii")), 0)
    except (OSError, ValueError):
        return 0
