# ruff: noqa: N802, N815 -- these are the names of pynvml
"""Cards through NVML, with a driver made of Python."""

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from kerf.probes.base import ProcessUse
from kerf.probes.nvml import NvmlProbe
from kerf.probes.recovery import CLEAN_READS, Sign
from kerf.values.device import Card, Mode
from kerf.values.fault import Fault, Signal
from kerf.values.health import HEALTHY, Health, State
from kerf.values.units import MIB
from kerf.vendors.registry import VENDORS

(VENDOR,) = (vendor for vendor in VENDORS if vendor.probe == "nvml")
START = 1_764_000_000


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(f"NVML error {value}")


@dataclass
class FakeNvml:
    """The part of `pynvml` the probe calls. `broken` names calls that fail, optionally for one card index."""

    count: int = 2
    broken: dict[str, int | None] = field(default_factory=dict)
    events: list[tuple[int, ...]] = field(default_factory=list)
    instance: int = 0xFFFFFFFF
    kinds: list[int] = field(default_factory=list)
    links: dict[int, list[int | str]] = field(default_factory=dict)
    mig: tuple[int, ...] = ()
    actions: dict[int, int] | None = None
    """Recovery actions by card index; None is a driver that does not have them."""
    code: int = 999
    supported: int = 0xFF9F
    reserved_mib: int | None = None
    """What the driver keeps of a card; None is a driver that does not have the second version of the call."""
    unified: tuple[int, ...] = ()
    """Cards without memory of their own."""
    capability: dict[int, int] = field(default_factory=dict)
    """Major compute capability by card, 9 where none is named."""
    prohibited: tuple[int, ...] = ()
    """Cards whose compute mode is prohibited."""
    limits: dict[tuple[int, str], int] | None = None
    """Hard limits by card and cgroup; None is a driver older than r615."""
    unset: int = 6
    """What the driver answers for a cgroup without a limit: 6 through dmem, 3 where it counts by itself."""
    starts: int = 0
    heard: list[int] = field(default_factory=list)

    NVMLError = NVMLError
    NVML_ERROR_TIMEOUT = 10
    nvmlMemory_v2 = 0x02000028
    nvmlEventTypeXidCriticalError = 8
    nvmlEventTypeDoubleBitEccError = 2

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or name.startswith("nvmlEventType"):
            raise AttributeError(name)

        def call(*args: Any, **named: Any) -> Any:
            if name in self.broken and self.broken[name] in (None, *args[:1]):
                raise NVMLError(self.code)
            return getattr(self, f"_{name}")(*args, **named)

        return call

    NVML_FI_DEV_GET_GPU_RECOVERY_ACTION = 230
    c_nvmlSetMemoryLimits_v1_t = pynvml.c_nvmlSetMemoryLimits_v1_t
    c_nvmlGetMemoryLimits_v1_t = pynvml.c_nvmlGetMemoryLimits_v1_t

    def _nvmlDeviceGetMemoryLimits_v1(self, handle: int, limits: Any) -> None:
        if self.limits is None:
            raise NVMLError(13)
        if (handle, limits.nameSpace) not in self.limits:
            raise NVMLError(self.unset)
        limits.hardLimit = self.limits[handle, limits.nameSpace]

    def _nvmlDeviceSetMemoryLimits_v1(self, handle: int, limits: Any) -> None:
        if self.limits is None:
            raise NVMLError(13)
        assert limits.softLimit == 0
        self.limits[handle, limits.nameSpace] = limits.hardLimit

    def _nvmlInit(self) -> None:
        self.starts += 1

    def _nvmlDeviceGetFieldValues(self, handle: int, _fields: list[int]) -> list[Any]:
        known = self.actions is not None
        action = self.actions.get(handle, 0) if self.actions is not None else 0
        return [SimpleNamespace(nvmlReturn=0 if known else 3, value=SimpleNamespace(uiVal=action))]

    def _nvmlShutdown(self) -> None: ...

    def _nvmlSystemGetDriverVersion(self) -> str:
        return "570.86.15"

    def _nvmlDeviceGetMaxMigDeviceCount(self, _handle: int) -> int:
        return 0

    def _nvmlDeviceGetGpuInstanceProfileInfo(self, _handle: int, _kind: int) -> Any:
        raise NVMLError(self.code)  # a driver without the call; `test_nvml_mig` has one with it

    def _nvmlEventSetCreate(self) -> str:
        return "events"

    def _nvmlDeviceGetSupportedEventTypes(self, handle: int) -> int:
        return self.supported

    def _nvmlDeviceRegisterEvents(self, handle: int, kinds: int, _events: Any) -> None:
        self.heard.append(handle)
        self.kinds.append(kinds)

    def _nvmlDeviceGetCount(self) -> int:
        return self.count

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def _nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def _nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA H100 80GB HBM3"

    def _nvmlDeviceGetMemoryInfo(self, handle: int, version: int = 0) -> Any:
        if handle in self.unified:
            raise NVMLError(3)
        if version and self.reserved_mib is None:
            raise NVMLError(13)
        kept = (self.reserved_mib or 0) * MIB
        return SimpleNamespace(total=81_559 * MIB + 5, reserved=kept, used=0 if version else kept)

    def _nvmlDeviceGetPciInfo(self, handle: int) -> Any:
        return SimpleNamespace(busId=f"0000FFFF:{handle:02X}:00.0")

    def _nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        return [int(handle in self.mig), 0]

    def _nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return self.capability.get(handle, 9), 0

    def _nvmlDeviceGetComputeMode(self, handle: int) -> int:
        return 2 if handle in self.prohibited else 0

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
        device, xid, *kind = self.events.pop(0)
        return SimpleNamespace(
            device=device, eventType=kind[0] if kind else 8, eventData=xid, gpuInstanceId=self.instance
        )

    def _nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=100 + handle, usedGpuMemory=5 * MIB), SimpleNamespace(pid=9, usedGpuMemory=None)]

    def _nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:
        return []

    def _nvmlDeviceGetProcessUtilization(self, handle: int, since: int) -> list[Any]:
        return [SimpleNamespace(pid=100 + handle, smUtil=40)]


def a_probe(**changes: Any) -> tuple[NvmlProbe, FakeNvml]:
    fake = FakeNvml(**changes)
    clock = itertools.count(START, 5)  # a reading every five seconds
    return NvmlProbe(4, nvml=fake, clock=lambda: next(clock)), fake  # type: ignore[arg-type]


def read(probe: NvmlProbe, times: int = CLEAN_READS) -> list[Health]:
    """The cards' health after so many readings, each followed by what the device plugin makes of reported faults."""
    found: list[Health] = []
    for _ in range(times):
        probe.cards()
        judge(probe)
        found = [shown(card.health) for card in probe.known()]
    return found


def judge(probe: NvmlProbe) -> None:
    """What the device plugin's intake does."""
    for fault in probe.faults():
        cause = VENDOR.faults.describe(fault) if fault.signal is not Signal.LOST else fault.text
        probe.report(fault.card, Sign(VENDOR.faults.verdict(fault), cause, int(fault.at), fault.code))


def shown(health: Health) -> Health:
    """State, cause and since; a card that is well again remembers its falls."""
    return HEALTHY if health.takes_slices else Health(health.state, health.cause, health.since)


def an_h100(index: int, **changes: Any) -> Card:
    return Card(**{"id": f"GPU-{index}", "index": index, "vendor": "nvidia", "model": "NVIDIA H100 80GB HBM3",
                   "memory_mib": 81_559, "slots": 4, "bus": f"ffff:{index:02x}:00", "driver": "570.86.15",
                   **changes})  # fmt: skip


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


def test_a_card_that_cannot_be_read_is_suspect_with_what_was_known_of_it_and_recovers():
    probe, fake = a_probe()
    probe.cards()

    fake.broken = {"nvmlDeviceGetMemoryInfo": 1}
    lost = Health(State.SUSPECT, "cannot be read: NVML error 999", START + 5, falls=1)
    assert probe.cards() == (an_h100(0), an_h100(1, health=lost))
    fake.broken = {}
    assert read(probe, 1) == [HEALTHY, Health(State.RECOVERING, lost.cause, START + 10)]

    assert read(probe) == [HEALTHY, HEALTHY]
    assert probe.errors == 1


def test_a_driver_that_is_reloaded_is_started_again_and_its_cards_recover():
    probe, fake = a_probe()
    probe.cards()
    fake.broken = {"nvmlDeviceGetCount": None}
    assert read(probe, 10) == [Health(State.SUSPECT, "not found by the driver", START + 5)] * 2

    fake.broken = {}

    assert read(probe) == [HEALTHY, HEALTHY]
    assert fake.starts == 3  # the first start, and one every thirty seconds in fifty
    assert fake.heard == [0, 1, 0, 1]


def test_a_lost_card_is_cordoned_and_its_neighbour_is_not():
    probe, fake = a_probe(code=15)
    probe.cards()
    fake.broken = {"nvmlDeviceGetMemoryInfo": 1}

    assert read(probe, 3) == [HEALTHY, Health(State.CORDONED, "cannot be read: NVML error 15", START + 5)]
    fake.broken = {}
    assert read(probe) == [HEALTHY, HEALTHY]


def heard(probe: NvmlProbe, times: int = 1) -> list[bool]:
    """Whether each wait brought something, with what the device plugin makes of it."""
    found = []
    for _ in range(times):
        found.append(probe.wait_change(1.0))
        judge(probe)
    return found


XID_79 = Health(State.CORDONED, "XID 79 (GPU has fallen off the bus)", START + 10)


def test_a_critical_xid_breaks_its_card_and_a_programs_own_error_does_not():
    probe, fake = a_probe()
    probe.cards()
    fake.events = [(0, 31), (1, 79)]

    assert heard(probe, 3) == [True, True, False]
    assert [health.moves for health in (card.health for card in probe.known())] == [False, True]
    assert read(probe, 100) == [HEALTHY, XID_79]  # no sign of a reset


def test_a_broken_card_recovers_without_a_restart_of_the_plugin_once_it_has_been_away():
    probe, fake = a_probe()
    probe.cards()
    fake.events = [(0, 31), (1, 79)]
    heard(probe, 2)
    fake.broken = {"nvmlDeviceGetHandleByIndex": 1}
    assert read(probe, 1) == [HEALTHY, XID_79]

    fake.broken = {}

    assert read(probe) == [HEALTHY, HEALTHY]


def test_a_broken_card_recovers_once_the_driver_no_longer_asks_for_a_reset():
    probe, fake = a_probe(actions={1: 4})
    fake.events = [(1, 48)]
    heard(probe)
    assert read(probe, 100)[1].state is State.CORDONED

    fake.actions = {}

    assert read(probe) == [HEALTHY, HEALTHY]


@pytest.mark.parametrize(("action", "moves"), [(1, True), (2, True), (3, False), (4, False), (6, True)])
def test_a_recovery_action_cordons_its_card_without_any_event(action: int, moves: bool):
    probe, fake = a_probe(actions={1: action})

    assert [health.state for health in read(probe, 3)] == [State.HEALTHY, State.CORDONED]
    assert [card.health.moves for card in probe.known()] == [False, moves]
    fake.actions = {}
    assert read(probe) == [HEALTHY, HEALTHY]


def test_an_action_of_a_future_driver_is_reported_and_moves_nothing():
    probe, _ = a_probe(actions={1: 99})

    assert read(probe, 3) == [HEALTHY, HEALTHY]


def test_a_card_that_the_driver_does_not_find_among_others_is_off_the_bus_after_a_minute():
    probe, fake = a_probe()
    probe.cards()
    fake.count = 1

    assert [read(probe, 1)[1].state for _ in range(14)] == [State.SUSPECT] * 12 + [State.CORDONED] * 2
    assert [card.health.moves for card in probe.known()] == [False, True]


def test_events_of_newer_drivers_are_the_xids_that_report_the_same_and_others_are_none():
    probe, fake = a_probe()
    probe.cards()
    fake.nvmlEventTypeFatalPoisonError, fake.nvmlEventTypeGpuRecoveryAction = 0x2000, 0x8000
    fake.events = [(1, 0, 0x2000), (1, 0, 0x8000)]

    assert [probe.wait_change(1.0), probe.wait_change(1.0)] == [True, True]
    assert [(fault.card, fault.code) for fault in probe.faults()] == [("GPU-1", 95)]


def test_an_event_names_its_mig_instance():
    probe, fake = a_probe(instance=3)
    probe.cards()
    fake.events = [(1, 48)]

    probe.wait_change(1.0)

    assert probe.faults() == (Fault(START + 5, "GPU-1", 48, Signal.EVENT, "XID 48", "3"),)


def test_a_driver_that_does_not_say_what_it_supports_is_asked_for_what_all_have():
    probe, fake = a_probe(broken={"nvmlDeviceGetSupportedEventTypes": None})

    probe.cards()

    assert fake.kinds == [10, 10]


def test_an_event_that_names_no_card_breaks_all_of_them():
    probe, fake = a_probe()
    probe.cards()
    fake.events = [(0, 48)]
    fake.broken = {"nvmlDeviceGetUUID": None}

    assert heard(probe) == [True]
    fake.broken = {}
    assert healthy(probe) == [False, False]


def test_what_an_earlier_run_knew_of_a_card_goes_on():
    probe, _ = a_probe()
    fallen = Health(State.CORDONED, "XID 79", START - 60, 79, moves=True, needs_reset=True, falls=1)
    probe.restore({"GPU-1": fallen})

    assert read(probe, 50) == [HEALTHY, Health(State.CORDONED, "XID 79", START - 60)]


def test_uses_join_memory_and_utilisation_by_process():
    probe, _ = a_probe(count=1)
    probe.cards()

    assert probe.uses() == (ProcessUse("GPU-0", 9, 0), ProcessUse("GPU-0", 100, 5 * MIB, 40))


def test_uses_are_empty_if_the_driver_does_not_report_them():
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


def test_what_the_driver_keeps_for_itself_is_not_promised() -> None:
    probe, _ = a_probe(reserved_mib=480)

    assert {(card.memory_mib, card.reserved_mib) for card in probe.cards()} == {(81_079, 480)}


def test_a_driver_that_does_not_say_what_it_keeps_is_believed() -> None:
    probe, _ = a_probe()

    assert {(card.memory_mib, card.reserved_mib) for card in probe.cards()} == {(81_559, 0)}


def test_a_card_that_shares_the_hosts_memory_is_listed_with_a_reason_or_sized_by_a_setting() -> None:
    listed, _ = a_probe(unified=(1,))
    sized = NvmlProbe(4, nvml=FakeNvml(unified=(1,)), unified_mib=100_000)  # type: ignore[arg-type]

    assert [card.memory_mib for card in listed.cards()] == [81_559, 0]
    assert "--unified-memory-mib" in VENDOR.slicing_of(listed.cards()[1]).refusal
    assert [card.memory_mib for card in sized.cards()] == [81_559, 100_000]
    assert VENDOR.slicing_of(sized.cards()[1]).refusal == ""


def test_a_card_whose_memory_cannot_be_read_for_another_reason_is_no_such_card() -> None:
    probe, _ = a_probe(broken={"nvmlDeviceGetMemoryInfo": 1})

    assert [card.id for card in probe.cards()] == ["GPU-0"]


def test_cards_that_mps_cannot_share_say_why():
    nvml = FakeNvml(count=4, capability={1: 6}, prohibited=(2,), broken={"nvmlDeviceGetComputeMode": 3})

    probe = NvmlProbe(4, nvml=nvml)  # type: ignore[arg-type]

    assert [card.no_mps for card in probe.cards()] == [
        "",
        "it is older than Volta, so its programs would share one address space",
        "its compute mode is prohibited: nvidia-smi -c DEFAULT",
        "",
    ]
