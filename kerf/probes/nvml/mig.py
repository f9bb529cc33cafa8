"""MIG through NVML: what a card's driver can make and where, the instances that exist, and how they come and go.

The card must be in MIG mode; nothing here changes the mode. An instance is a GPU instance with one compute instance
that has all of it. Every profile and placement is the driver's own answer.
"""

from collections.abc import Callable, Iterator
from ctypes import byref, c_uint
from functools import partial
from typing import Any

from kerf.probes.base import MigError
from kerf.probes.nvml.driver import Driver, text
from kerf.values.mig import Geometry, Instance, Profile

_IN_USE = 19
"""NVML_ERROR_IN_USE: a process uses the instance."""
_NOT_FOUND = 6
_MOST_PROFILES = 0x12
"""NVML_GPU_INSTANCE_PROFILE_COUNT and NVML_COMPUTE_INSTANCE_PROFILE_COUNT of the bindings that Kerf is locked to."""
_MOST_COMPUTE = 0x9
_PREFIX = "MIG "
Handle = Any
"""pynvml is untyped: handles, and the structures that it fills."""


def geometry_of(driver: Driver, handle: Handle) -> Geometry:
    """The card's profiles with their placements, and every instance that exists. Raises NVMLError."""
    infos = list(_profiles(driver, handle))
    largest = max((int(info.multiprocessorCount) for info in infos), default=0)
    profiles = tuple(found for info in infos if (found := _profile(driver, handle, info, largest)))
    return Geometry(tuple(sorted(profiles)), _instances(driver, handle, infos))


def instances_of(driver: Driver, handle: Handle) -> tuple[Instance, ...]:
    """Every instance of the card. Raises NVMLError."""
    return _instances(driver, handle, list(_profiles(driver, handle)))


def make(driver: Driver, handle: Handle, profile: int, start: int, size: int) -> Instance:
    """Make an instance at a place. Raises MigError, after which nothing of it is left."""
    nvml = driver.nvml
    where = nvml.c_nvmlGpuInstancePlacement_t(start, size)
    made = _ask(
        "make a GPU instance",
        nvml,
        lambda: nvml.nvmlDeviceCreateGpuInstanceWithPlacement(handle, profile, byref(where)),
    )
    try:
        kind = _whole(driver, made)
        _ask("make a compute instance", nvml, lambda: nvml.nvmlGpuInstanceCreateComputeInstance(made, kind))
        number = int(_ask("read a GPU instance", nvml, lambda: nvml.nvmlGpuInstanceGetInfo(made)).id)
        uuid = _ask("name MIG devices", nvml, lambda: dict(_names(driver, handle))).get(number, "")
        if not uuid:
            raise MigError(f"the driver does not name the device of GPU instance {number}")
        return Instance(start, size, profile, number, uuid)
    except MigError:
        driver.optional(lambda: _remove(driver, made), None)
        raise


def destroy(driver: Driver, handle: Handle, number: int) -> None:
    """Remove an instance with its compute instances. No-op if there is none. Raises MigError."""
    nvml = driver.nvml
    try:
        _remove(driver, nvml.nvmlDeviceGetGpuInstanceById(handle, number))
    except nvml.NVMLError as error:
        if getattr(error, "value", None) != _NOT_FOUND:
            raise _error(f"remove GPU instance {number}", error) from error


def _profiles(driver: Driver, handle: Handle) -> Iterator[Handle]:
    """What the driver says of each profile that the card has."""
    nvml = driver.nvml
    for kind in range(_MOST_PROFILES):
        info = driver.optional(partial(nvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, kind), None)
        if info is not None:
            yield info


def _profile(driver: Driver, handle: Handle, info: Handle, largest: int) -> Profile | None:
    nvml, count = driver.nvml, c_uint(0)
    number = int(info.id)
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, number, None, byref(count))
    found = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, number, found, byref(count))
    places = sorted({(int(place.start), int(place.size)) for place in found[: count.value]})
    if not places or len({size for _, size in places}) != 1:
        return None
    name = text(info.name).removeprefix(_PREFIX)
    cores = int(info.multiprocessorCount) * 100 // max(largest, 1)
    return Profile(number, name, int(info.memorySizeMB), cores, places[0][1], tuple(start for start, _ in places))


def _instances(driver: Driver, handle: Handle, infos: list[Handle]) -> tuple[Instance, ...]:
    nvml, names = driver.nvml, dict(_names(driver, handle))
    found = []
    for info in infos:
        count = c_uint(0)
        held = (nvml.c_nvmlGpuInstance_t * max(int(info.instanceCount), 1))()
        nvml.nvmlDeviceGetGpuInstances(handle, int(info.id), held, byref(count))
        for each in held[: count.value]:
            one = nvml.nvmlGpuInstanceGetInfo(each)
            place = int(one.placement.start), int(one.placement.size)
            found.append(Instance(*place, int(one.profileId), int(one.id), names.get(int(one.id), "")))
    return tuple(sorted(found))


def _names(driver: Driver, handle: Handle) -> Iterator[tuple[int, str]]:
    """(GPU instance, UUID) of the card's MIG devices."""
    nvml = driver.nvml
    for index in range(driver.optional(lambda: int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)), 0)):
        device = driver.optional(partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index), None)
        if device is not None:
            yield int(nvml.nvmlDeviceGetGpuInstanceId(device)), text(nvml.nvmlDeviceGetUUID(device))


def _whole(driver: Driver, made: Handle) -> int:
    """The compute instance profile that has all of a GPU instance."""
    nvml = driver.nvml
    infos = [
        driver.optional(partial(nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, made, kind, 0), None)
        for kind in range(_MOST_COMPUTE)
    ]
    known = [info for info in infos if info is not None]
    if not known:
        raise MigError("the driver lists no compute instance for a new GPU instance")
    return int(max(known, key=lambda info: (int(info.multiprocessorCount), int(info.sliceCount))).id)


def _remove(driver: Driver, instance: Handle) -> None:
    """Compute instances first. Raises NVMLError."""
    nvml = driver.nvml
    for kind in range(_MOST_COMPUTE):
        info = driver.optional(partial(nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, instance, kind, 0), None)
        if info is None:
            continue
        count = c_uint(0)
        held = (nvml.c_nvmlComputeInstance_t * max(int(info.instanceCount), 1))()
        nvml.nvmlGpuInstanceGetComputeInstances(instance, int(info.id), held, byref(count))
        for each in held[: count.value]:
            nvml.nvmlComputeInstanceDestroy(each)
    nvml.nvmlGpuInstanceDestroy(instance)


def _ask(what: str, nvml: Handle, call: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return call()
    except nvml.NVMLError as error:
        raise _error(what, error) from error


def _error(what: str, error: Exception) -> MigError:
    return MigError(f"cannot {what}: {error}", busy=getattr(error, "value", None) == _IN_USE)
