# ruff: noqa: N802, N815 -- these are the names of pynvml
"""Cards through NVML, with a driver made of Python."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kerf.probes.base import ProcessUse
from kerf.probes.nvml import NvmlProbe
from kerf.values.device import Card, Mode
from kerf.values.health import SUSPECT
from kerf.values.units import MIB


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(f"NVML error {value}")


@dataclass
class FakeNvml:
    """The part of `pynvml` the probe calls. `broken` names calls that fail, optionally for one card index."""

    count: int = 2
    broken: dict[str, int | None] = field(default_factory=dict)
    events: list[tuple[int, int]] = field(default_factory=list)
    links: dict[int, list[int | str]] = field(default_factory=dict)
    mig: tuple[int, ...] = ()

    NVMLError = NVMLError
    NVML_ERROR_TIMEOUT = 10
    nvmlEventTypeXidCriticalError = 8
    nvmlEventTypeDoubleBitEccError = 2

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*args: Any) -> Any:
            if name in self.broken and self.broken[name] in (None, *args[:1]):
                raise NVMLError(999)
            return getattr(self, f"_{name}")(*args)

        return call

    def _nvmlInit(self) -> None: ...

    def _nvmlShutdown(self) -> None: ...

    def _nvmlEventSetCreate(self) -> str:
        return "events"

    def _nvmlDeviceRegisterEvents(self, *_: Any) -> None: ...

    def _nvmlDeviceGetCount(self) -> int:
        return self.count

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def _nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def _nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA H100 80GB HBM3"

    def _nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=81_559 * MIB + 5)

    def _nvmlDeviceGetPciInfo(self, handle: int) -> Any:
        return SimpleNamespace(busId=f"0000FFFF:{handle:02X}:00.0")

    def _nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        return [int(handle in self.mig), 0]

    def _nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> int:
        if link >= len(self.links.get(handle, [])):
            raise NVMLError(2)
        return 1

    def _nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: int, link: int) -> int:
        return 2 if self.links[handle][link] == "switch" else 0

    def _nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, link: int) -> Any:
        return self._nvmlDeviceGetPciInfo(int(self.links[handle][link]))

    def _nvmlEventSetWait_v2(self, events: str, milliseconds: int) -> Any:
        if not self.events:
            raise NVMLError(self.NVML_ERROR_TIMEOUT)
        device, xid = self.events.pop(0)
        return SimpleNamespace(device=device, eventType=8, eventData=xid)

    def _nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=100 + handle, usedGpuMemory=5 * MIB), SimpleNamespace(pid=9, usedGpuMemory=None)]

    def _nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:
        return []

    def _nvmlDeviceGetProcessUtilization(self, handle: int, since: int) -> list[Any]:
        return [SimpleNamespace(pid=100 + handle, smUtil=40)]


def a_probe(**changes: Any) -> tuple[NvmlProbe, FakeNvml]:
    fake = FakeNvml(**changes)
    return NvmlProbe(slots=4, nvml=fake), fake  # type: ignore[arg-type]


def an_h100(index: int, **changes: Any) -> Card:
    return Card(**{"id": f"GPU-{index}", "index": index, "vendor": "nvidia", "model": "NVIDIA H100 80GB HBM3",
                   "memory_mib": 81_559, "slots": 4, **changes})  # fmt: skip


def healthy(probe: NvmlProbe) -> list[bool]:
    return [card.healthy for card in probe.cards()]


def test_cards_are_read_with_memory_in_mib_and_mig_mode():
    probe, _ = a_probe(mig=(1,))

    assert probe.cards() == (an_h100(0), an_h100(1, mode=Mode.MIG))


def test_links_are_direct_or_through_a_switch_that_both_are_wired_to():
    probe, _ = a_probe(count=4, links={0: [1], 1: [0], 2: ["switch"], 3: ["switch", "switch"]})

    assert [card.links for card in probe.cards()] == [("GPU-1",), ("GPU-0",), ("GPU-3",), ("GPU-2",)]


def test_without_a_driver_there_are_no_cards_and_one_error_a_reading():
    probe, fake = a_probe(broken={"nvmlInit": None})
    assert (probe.cards(), probe.errors) == ((), 1)

    fake.broken.clear()

    assert healthy(probe) == [True, True]


def test_a_card_that_cannot_be_read_is_unhealthy_with_what_was_known_of_it_and_recovers():
    probe, fake = a_probe()
    probe.cards()

    fake.broken = {"nvmlDeviceGetMemoryInfo": 1}
    assert probe.cards() == (an_h100(0), an_h100(1, health=SUSPECT))
    fake.broken = {"nvmlDeviceGetCount": None}
    assert healthy(probe) == [False, False]
    fake.broken = {}

    assert (healthy(probe), probe.errors) == ([True, True], 2)


def test_a_critical_xid_breaks_its_card_for_good_and_a_programs_own_error_does_not():
    probe, fake = a_probe()
    probe.cards()
    fake.events = [(0, 31), (1, 79)]

    assert [probe.wait_change(1.0) for _ in range(3)] == [False, True, False]
    assert healthy(probe) == [True, False]


def test_an_event_that_names_no_card_breaks_all_of_them():
    probe, fake = a_probe()
    probe.cards()
    fake.events = [(0, 48)]
    fake.broken = {"nvmlDeviceGetUUID": None}

    assert probe.wait_change(1.0)
    fake.broken = {}
    assert healthy(probe) == [False, False]


def test_uses_join_memory_and_utilisation_by_process():
    probe, _ = a_probe(count=1)
    probe.cards()

    assert probe.uses() == (ProcessUse("GPU-0", 9, 0), ProcessUse("GPU-0", 100, 5 * MIB, 40))


def test_uses_are_empty_where_the_driver_does_not_tell():
    probe, fake = a_probe(count=1)
    probe.cards()
    fake.broken = dict.fromkeys(
        (
            "nvmlDeviceGetComputeRunningProcesses",
            "nvmlDeviceGetGraphicsRunningProcesses",
            "nvmlDeviceGetProcessUtilization",
        )
    )

    assert (probe.uses(), probe.errors) == ((), 0)
