"""GPU time of MIG instances: the driver measures no process of a card in MIG mode, but GPM measures each instance.

GPM is in Hopper and newer.
"""

import math
from functools import partial
from typing import Any

from kerf.probes.nvml.cards import Device
from kerf.probes.nvml.driver import Driver

_SM_UTIL = 2
"""NVML_GPM_METRIC_SM_UTIL: percent of the instance's SMs that were busy between two samples."""
_VERSION = 1
"""NVML_GPM_METRICS_GET_VERSION."""
Key = tuple[str, int]
"""(card, GPU instance)."""


class InstanceTime:
    """Keeps one sample of each instance from look to look. Not safe from several threads."""

    def __init__(self) -> None:
        self._last: dict[Key, Any] = {}

    def busy(self, driver: Driver, device: Device, instances: set[int]) -> dict[int, int]:
        """Percent of the **card's** SMs that each instance kept busy since the last look; none in its first look."""
        shares = _shares(device)
        found: dict[int, int] = {}
        for number in sorted(instances & shares.keys()):
            key = (device.card.id, number)
            fresh = driver.optional(partial(_sample, driver.nvml, device.handle, number), None)
            before = self._last.pop(key, None)
            if fresh is not None and before is not None:
                util = driver.optional(partial(_between, driver.nvml, before, fresh), None)
                if util is not None:
                    found[number] = round(min(max(util, 0.0), 100.0) * shares[number] / 100)
            _free(driver, before)
            if fresh is not None:
                self._last[key] = fresh
        for key in [key for key in self._last if key[0] == device.card.id and key[1] not in instances]:
            _free(driver, self._last.pop(key))
        return found

    def forget(self) -> None:
        """NVML was started again: samples of before are no longer valid."""
        self._last.clear()


def _shares(device: Device) -> dict[int, int]:
    """Percent of the card's SMs that each existing instance has, by the driver's number."""
    mig = device.card.mig
    if mig is None:
        return {}
    cores = {profile.id: profile.cores for profile in mig.profiles}
    return {each.id: cores[each.profile] for each in mig.taken if each.profile in cores}


def _sample(nvml: Any, handle: Any, number: int) -> Any:  # noqa: ANN401 (pynvml is untyped)
    """One sample. Raises NVMLError where the card or the driver takes none."""
    made = nvml.nvmlGpmSampleAlloc()
    try:
        return nvml.nvmlGpmMigSampleGet(handle, number, made)
    except nvml.NVMLError:
        nvml.nvmlGpmSampleFree(made)
        raise


def _between(nvml: Any, before: Any, fresh: Any) -> float | None:  # noqa: ANN401 (pynvml is untyped)
    """Percent of the instance's SMs that were busy; None where the driver does not say. Raises NVMLError."""
    asked = nvml.c_nvmlGpmMetricsGet_t()
    asked.version, asked.numMetrics = _VERSION, 1
    asked.sample1, asked.sample2 = before, fresh
    asked.metrics[0].metricId = _SM_UTIL
    found = nvml.nvmlGpmMetricsGet(asked).metrics[0]
    value = float(found.value)
    return value if found.nvmlReturn == 0 and math.isfinite(value) else None


def _free(driver: Driver, sample: Any) -> None:  # noqa: ANN401 (pynvml is untyped)
    if sample is not None:
        driver.optional(partial(driver.nvml.nvmlGpmSampleFree, sample), None)
