# ruff: noqa: N802, N815 -- these are the names of pynvml
"""MIG through NVML, with a driver made of Python that keeps instances as a driver does."""

from ctypes import Structure, c_uint
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from kerf.probes.base import MigError
from kerf.probes.mig_models import GEOMETRIES
from kerf.probes.nvml import NvmlProbe
from kerf.values.device import Backend, Mode
from kerf.values.mig import Geometry, Instance, Profile
from tests.kerf.probes.test_nvml import FakeNvml, NVMLError

H100 = GEOMETRIES["NVIDIA H100 80GB HBM3"]
SMS = {19: 16, 20: 16, 15: 26, 14: 32, 9: 60, 5: 64, 0: 132}
KINDS = {0: 19, 1: 14, 2: 9, 3: 5, 4: 0, 7: 20, 9: 15}
"""NVML's numbers of profiles by what is asked for, as the header has them."""
NOT_FOUND, IN_USE, NOT_SUPPORTED, NO_RESOURCES = 6, 19, 3, 23


class Placement(Structure):
    _fields_ = (("start", c_uint), ("size", c_uint))


@dataclass
class FakeMig(FakeNvml):
    """One H100 in MIG mode. `gpu` has (profile, start, size) by number, `compute` the GPU instances with a device."""

    count: int = 1
    mig: tuple[int, ...] = (0,)
    gpu: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    compute: set[int] = field(default_factory=set)
    used: set[int] = field(default_factory=set)
    """GPU instances that a process uses."""

    util: dict[int, float] = field(default_factory=dict)
    """Percent of its SMs that each GPU instance keeps busy, by GPM."""
    samples: int = 0
    """Samples that are not freed."""

    c_nvmlGpuInstancePlacement_t = Placement
    c_nvmlGpuInstance_t = c_uint
    c_nvmlComputeInstance_t = c_uint

    def _nvmlDeviceGetGpuInstanceProfileInfo(self, _handle: int, kind: int) -> Any:
        if kind not in KINDS:
            raise NVMLError(NOT_SUPPORTED)
        found = next(profile for profile in H100.profiles if profile.id == KINDS[kind])
        return SimpleNamespace(
            id=found.id,
            name=f"MIG {found.name}".encode(),
            memorySizeMB=found.memory_mib,
            multiprocessorCount=SMS[found.id],
            instanceCount=7,
        )

    def _nvmlDeviceGetGpuInstancePossiblePlacements(self, _handle: int, number: int, found: Any, count: Any) -> None:
        profile = next(each for each in H100.profiles if each.id == number)
        count._obj.value = len(profile.starts)
        for i, start in enumerate(profile.starts if found is not None else ()):
            found[i].start, found[i].size = start, profile.size

    def _nvmlDeviceGetGpuInstances(self, _handle: int, number: int, held: Any, count: Any) -> None:
        mine = [gi for gi, (profile, _, _) in sorted(self.gpu.items()) if profile == number]
        count._obj.value = len(mine)
        for i, gi in enumerate(mine):
            held[i] = gi

    def _nvmlGpuInstanceGetInfo(self, gi: int) -> Any:
        profile, start, size = self.gpu[gi]
        return SimpleNamespace(id=gi, profileId=profile, placement=SimpleNamespace(start=start, size=size))

    def _nvmlDeviceCreateGpuInstanceWithPlacement(self, _handle: int, profile: int, where: Any) -> int:
        start, size = where._obj.start, where._obj.size
        if any(start < s + n and s < start + size for _, s, n in self.gpu.values()):
            raise NVMLError(NO_RESOURCES)
        gi = max(self.gpu, default=0) + 1
        self.gpu[gi] = (profile, start, size)
        return gi

    def _nvmlGpuInstanceGetComputeInstanceProfileInfo(self, gi: int, kind: int, _engine: int) -> Any:
        if kind > 1:
            raise NVMLError(NOT_SUPPORTED)
        sms = SMS[self.gpu[gi][0]]
        return SimpleNamespace(id=kind, instanceCount=1, multiprocessorCount=sms if kind else 16, sliceCount=kind + 1)

    def _nvmlGpuInstanceCreateComputeInstance(self, gi: int, kind: int) -> int:
        assert kind == 1, "the compute instance has all of the GPU instance"
        self.compute.add(gi)
        return gi

    def _nvmlGpuInstanceGetComputeInstances(self, gi: int, kind: int, held: Any, count: Any) -> None:
        count._obj.value = int(kind == 1 and gi in self.compute)
        held[0] = gi

    def _nvmlComputeInstanceDestroy(self, gi: int) -> None:
        if gi in self.used:
            raise NVMLError(IN_USE)
        self.compute.remove(gi)

    def _nvmlGpuInstanceDestroy(self, gi: int) -> None:
        if gi in self.compute:
            raise NVMLError(IN_USE)
        del self.gpu[gi]

    def _nvmlDeviceGetGpuInstanceById(self, _handle: int, gi: int) -> int:
        if gi not in self.gpu:
            raise NVMLError(NOT_FOUND)
        return gi

    def _nvmlDeviceGetMaxMigDeviceCount(self, _handle: int) -> int:
        return 7

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, _handle: int, index: int) -> int:
        if index >= len(self.compute):
            raise NVMLError(NOT_FOUND)
        return 1000 + sorted(self.compute)[index]

    def _nvmlDeviceGetGpuInstanceId(self, device: int) -> int:
        return device - 1000

    def _nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=500 + gi, usedGpuMemory=7, gpuInstanceId=gi) for gi in sorted(self.gpu)]

    def _nvmlDeviceGetProcessUtilization(self, handle: int, since: int) -> list[Any]:
        raise NVMLError(NOT_SUPPORTED)

    def c_nvmlGpmMetricsGet_t(self) -> Any:
        return SimpleNamespace(metrics=[SimpleNamespace()])

    def _nvmlGpmSampleAlloc(self) -> Any:
        self.samples += 1
        return SimpleNamespace(of=0)

    def _nvmlGpmSampleFree(self, _sample: Any) -> None:
        self.samples -= 1

    def _nvmlGpmMigSampleGet(self, _handle: int, gi: int, sample: Any) -> Any:
        if gi not in self.util:
            raise NVMLError(NOT_SUPPORTED)
        sample.of = gi
        return sample

    def _nvmlGpmMetricsGet(self, asked: Any) -> Any:
        assert (asked.version, asked.numMetrics, asked.metrics[0].metricId) == (1, 1, 2)
        assert asked.sample1.of == asked.sample2.of != 0
        asked.metrics[0].value, asked.metrics[0].nvmlReturn = self.util[asked.sample1.of], 0
        return asked

    def _nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"MIG-{handle - 1000}" if handle > 1000 else super()._nvmlDeviceGetUUID(handle)


def a_probe(**state: Any) -> tuple[NvmlProbe, FakeMig, str]:
    fake = FakeMig(**state)
    probe = NvmlProbe(nvml=fake)  # type: ignore[arg-type]
    (card,) = probe.cards()
    return probe, fake, card.id


def test_a_card_in_mig_mode_has_what_its_driver_lists():
    probe, _, _ = a_probe(gpu={1: (20, 3, 1)}, compute={1})

    (card,) = probe.cards()
    assert (card.mode, card.backend, card.joint) == (Mode.MIG, Backend.MIG, False)
    assert card.mig == Geometry(tuple(sorted(H100.profiles)), (Instance(3, 1, 20, 1, "MIG-1"),))
    assert (card.physical_mib, card.memory_mib) == (81_152, 81_152 - 9_984)


def test_an_instance_is_made_with_its_device_found_and_removed():
    probe, fake, card = a_probe()

    made = probe.mig.make(card, 9, 4)

    assert made == Instance(4, 4, 9, 1, "MIG-1")
    assert probe.mig.instances(card) == (made,)
    probe.mig.destroy(card, made.id)
    probe.mig.destroy(card, made.id)
    assert (fake.gpu, fake.compute) == ({}, set())


def test_what_the_driver_refuses_is_said_and_leaves_nothing():
    probe, fake, card = a_probe(gpu={1: (9, 4, 4)}, compute={1})
    with pytest.raises(MigError, match="cannot make a GPU instance"):
        probe.mig.make(card, 19, 5)

    fake.broken = {"nvmlGpuInstanceCreateComputeInstance": None}
    with pytest.raises(MigError, match="cannot make a compute instance"):
        probe.mig.make(card, 19, 0)
    assert list(fake.gpu) == [1]


def test_an_instance_in_use_is_not_removed_and_said_to_be_busy():
    probe, fake, card = a_probe(gpu={1: (9, 4, 4)}, compute={1}, used={1})

    with pytest.raises(MigError) as caught:
        probe.mig.destroy(card, 1)

    assert (caught.value.busy, list(fake.gpu)) == (True, [1])


def test_a_card_that_is_not_in_mig_mode_makes_no_instance():
    probe, _, card = a_probe(mig=())

    for call in (
        lambda: probe.mig.make(card, 9, 4),
        lambda: probe.mig.instances(card),
        lambda: probe.mig.destroy("x", 1),
    ):
        with pytest.raises(MigError, match="not in MIG mode"):
            call()


def test_a_driver_that_lists_no_profiles_by_name_leaves_the_card_unsliced():
    probe, _, _ = a_probe(broken={"nvmlDeviceGetGpuInstancePossiblePlacements": None})

    (card,) = probe.cards()
    assert (card.mode, card.mig) == (Mode.MIG, None)


def test_profiles_are_sorted_by_their_number_as_the_driver_names_them():
    probe, _, _ = a_probe()
    (card,) = probe.cards()

    assert card.mig is not None
    assert card.mig.profiles[-1] == Profile(20, "1g.10gb+me", 9_984, 12, 1, tuple(range(7)))


def test_gpu_time_of_an_instance_is_its_share_of_the_card_from_the_second_look_on():
    probe, fake, card = a_probe(gpu={1: (9, 4, 4), 2: (19, 0, 1)}, compute={1, 2}, util={1: 80.0, 2: float("nan")})
    looks = [[(use.pid, use.memory_bytes, use.percent) for use in probe.uses()] for _ in range(2)]

    assert looks == [[(501, 7, 0), (502, 7, 0)], [(501, 7, 36), (502, 7, 0)]]  # 80 % of 3g's 45 %
    assert fake.samples == 2

    fake.gpu.pop(1)
    probe.uses()
    assert (fake.samples, card) == (1, "GPU-0")


def test_a_card_without_gpm_has_memory_alone_and_keeps_no_samples():
    probe, fake, _ = a_probe(gpu={1: (9, 4, 4)}, compute={1})

    assert [(use.pid, use.percent) for use in (*probe.uses(), *probe.uses())] == [(501, 0)] * 2
    assert (fake.samples, probe.errors) == (0, 0)
