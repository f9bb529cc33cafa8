"""Limits of a card's memory that the driver keeps for a cgroup (r615, CUDA 13.4 and newer).

**Never run on hardware.** Written by the header of NVML 13.5 and NVIDIA's documents, and run over a driver made of
Python. The driver keeps them through the kernel's dmem controller (6.14 and newer) or, without it, by its own count.
"""

import os
from pathlib import Path
from typing import Any

from kerf.probes.base import LimitError
from kerf.probes.nvml.driver import Driver
from kerf.values.device import NO_LIMITS

CGROUPS = "/sys/fs/cgroup"
NONE = 0xFFFFFFFFFFFFFFFF
"""NVML_DEVICE_MEMORY_LIMIT_MAX: no limit."""
_NOT_SUPPORTED, _NO_PERMISSION, _NOT_FOUND, _NO_FUNCTION, _OS = 3, 4, 6, 13, 17
_FIXES = {
    _NOT_SUPPORTED: "this cgroup has no dmem files, or the card does not do it",
    _NO_PERMISSION: "the device plugin must be root with the rights of an administrator",
    _OS: f"the host's {CGROUPS} must be mounted at its place",
}
Handle = Any


def why_not(driver: Driver, handle: Handle) -> str:
    """Why this card's driver keeps no limits; empty where it can.

    An answer for the root says only that the call exists: the root itself has no limit, whatever the driver can do.
    """
    nvml = driver.nvml
    if not hasattr(nvml, "c_nvmlGetMemoryLimits_v1_t"):
        return "this installation's pynvml does not know the call (13.615 and newer do)"
    try:
        _read(nvml, handle, CGROUPS)
    except nvml.NVMLError as error:
        code = getattr(error, "value", None)
        if code == _NO_FUNCTION:
            return NO_LIMITS
        if code not in {_NOT_SUPPORTED, _NOT_FOUND}:
            return f"the driver answers: {_words(error)}"
    return ""


def limit(driver: Driver, handle: Handle, cgroup: str, bytes_: int) -> None:
    """Set the hard limit. Raises LimitError.

    No soft limit: the driver adds one to every cgroup above, and takes it away only when it is set to 0 before the
    cgroup is removed, which a killed container does not wait for. Without one, removing the cgroup ends the limit.
    """
    nvml = driver.nvml
    wanted = nvml.c_nvmlSetMemoryLimits_v1_t(os.fsencode(cgroup), 0, bytes_)
    try:
        nvml.nvmlDeviceSetMemoryLimits_v1(handle, wanted)
    except nvml.NVMLError as error:
        raise LimitError(f"cannot limit the memory of {_name(cgroup)}: {_words(error)}") from error


def limit_of(driver: Driver, handle: Handle, cgroup: str) -> int | None:
    """The hard limit of a cgroup, None without one. Raises LimitError."""
    nvml = driver.nvml
    try:
        found = _read(nvml, handle, cgroup)
    except nvml.NVMLError as error:
        if getattr(error, "value", None) in {_NOT_SUPPORTED, _NOT_FOUND}:
            return None  # a driver that counts by itself answers so for a cgroup that has no limit
        raise LimitError(f"cannot read the limit of {_name(cgroup)}: {_words(error)}") from error
    return None if found == NONE else found


def _read(nvml: Any, handle: Handle, cgroup: str) -> int:  # noqa: ANN401 (pynvml is untyped)
    found = nvml.c_nvmlGetMemoryLimits_v1_t(os.fsencode(cgroup), 0, 0, 0)
    nvml.nvmlDeviceGetMemoryLimits_v1(handle, found)
    return int(found.hardLimit)


def _words(error: Exception) -> str:
    fix = _FIXES.get(getattr(error, "value", -1) or -1)
    return f"{error} ({fix})" if fix else str(error)


def _name(cgroup: str) -> str:
    return f"cgroup {Path(cgroup).name}"
