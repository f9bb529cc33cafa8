"""NVIDIA cards through NVML. The only importer of `pynvml`; nothing here raises to the caller."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from kerf.probes.base import ProcessUse
from kerf.values.device import Card, Mode
from kerf.values.health import SUSPECT
from kerf.values.units import MIB

_LOG = logging.getLogger("kerf.probes.nvml")
T = TypeVar("T")
APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Errors that a program causes and the card survives: illegal access, a channel that was reset, a stopped context."""
MOST_LINKS = 18
_REMOTE_GPU, _REMOTE_SWITCH = 0, 2
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Device:
    handle: Any
    card: Card
    bus: str


class NvmlProbe:
    """A `kerf.probes.base.Probe` over NVML.

    A card is unhealthy while it cannot be read, and for good after a critical XID: what such a card computes is not
    to be trusted before somebody reset it and restarted the plugin. Without a driver there are no cards.
    """

    def __init__(self, slots: int = 10, nvml: ModuleType | None = None) -> None:
        self.errors = 0
        self._slots = slots
        self._nvml: Any = nvml if nvml is not None else _library()
        self._known: dict[str, _Device] = {}
        self._broken: set[str] = set()
        self._events: Any = None
        self._ready = False

    def cards(self) -> tuple[Card, ...]:
        seen = self._scan()
        for card_id, device in self._known.items():
            if card_id not in seen:
                seen[card_id] = replace(device.card, health=SUSPECT)
        cards = (replace(card, health=SUSPECT) if card.id in self._broken else card for card in seen.values())
        return tuple(sorted(cards, key=lambda card: (card.index, card.id)))

    def wait_change(self, timeout_s: float) -> bool:
        if self._events is None:
            time.sleep(min(timeout_s, _RETRY_S))
            return True
        try:
            event = self._nvml.nvmlEventSetWait_v2(self._events, int(timeout_s * 1000))
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) != self._nvml.NVML_ERROR_TIMEOUT:
                self._failed("wait for events", error)
                time.sleep(min(timeout_s, 1.0))
            return False
        return self._struck(event)

    def uses(self) -> tuple[ProcessUse, ...]:
        found: list[ProcessUse] = []
        for card_id, device in list(self._known.items()):  # another thread may be finding a card
            memory = self._memory_by_pid(device)
            busy = self._busy_by_pid(device)
            found += [ProcessUse(card_id, pid, memory.get(pid, 0), busy.get(pid, 0)) for pid in {*memory, *busy}]
        return tuple(sorted(found))

    def close(self) -> None:
        if self._ready:
            self._ready = False
            self._try("shut NVML down", self._nvml.nvmlShutdown, None)

    # ---- cards
    def _scan(self) -> dict[str, Card]:
        if not self._start():
            return {}
        count = self._try("count the cards", self._nvml.nvmlDeviceGetCount, 0)
        devices = [device for index in range(count) if (device := self._device(index))]
        for device in devices:
            if device.card.id not in self._known:
                self._listen(device)
            self._known[device.card.id] = device
        return {device.card.id: replace(device.card, links=self._links(device, devices)) for device in devices}

    def _start(self) -> bool:
        if self._ready:
            return True
        if self._nvml is None:
            self.errors += 1
            return False
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            self._failed("start NVML (is the driver loaded and mounted?)", error)
            return False
        self._ready = True
        self._events = self._try("make an event set", self._nvml.nvmlEventSetCreate, None)
        return True

    def _device(self, index: int) -> _Device | None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
            memory = nvml.nvmlDeviceGetMemoryInfo(handle).total // MIB
        except nvml.NVMLError as error:
            self._failed(f"read card {index}", error)
            return None
        pci = self._try(f"find card {index} on the bus", lambda: nvml.nvmlDeviceGetPciInfo(handle), None, quiet=True)
        bus = _text(pci.busId).lower() if pci else ""
        mig = self._try("", lambda: nvml.nvmlDeviceGetMigMode(handle)[0], 0, quiet=True)
        card = Card(
            id=uuid,
            index=index,
            vendor="nvidia",
            model=name,
            memory_mib=memory,
            slots=self._slots,
            numa=_numa_of(bus),
            mode=Mode.MIG if mig else Mode.SHARED,
        )
        return _Device(handle, card, bus)

    def _links(self, device: _Device, devices: list[_Device]) -> tuple[str, ...]:
        """Cards joined by NVLink: directly, or through a switch that both are wired to."""
        buses: set[str] = set()
        switched = self._wired_to_switch(device, buses)
        peers = [
            other.card.id
            for other in devices
            if other is not device and (other.bus in buses or (switched and self._wired_to_switch(other, set())))
        ]
        return tuple(sorted(peers))

    def _wired_to_switch(self, device: _Device, buses: set[str]) -> bool:
        """Whether any active link ends at a switch; ends at other cards are added to `buses`."""
        nvml, handle, switched = self._nvml, device.handle, False
        for link in range(MOST_LINKS):
            try:
                if not nvml.nvmlDeviceGetNvLinkState(handle, link):
                    continue
                kind = nvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link)
                switched = switched or kind == _REMOTE_SWITCH
                if kind == _REMOTE_GPU:
                    buses.add(_text(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId).lower())
            except nvml.NVMLError:
                break  # the card has no more links, or none at all
        return switched

    # ---- health
    def _listen(self, device: _Device) -> None:
        if self._events is None:
            return
        nvml = self._nvml
        kinds = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
        self._try(
            f"listen to card {device.card.id}",
            lambda: nvml.nvmlDeviceRegisterEvents(device.handle, kinds, self._events),
            None,
        )

    def _struck(self, event: Any) -> bool:  # noqa: ANN401 (pynvml is untyped)
        xid = int(event.eventData)
        if event.eventType == self._nvml.nvmlEventTypeXidCriticalError and xid in APPLICATION_XIDS:
            return False
        uuid = self._try("name a sick card", lambda: _text(self._nvml.nvmlDeviceGetUUID(event.device)), "")
        sick = {uuid} if uuid else set(self._known)  # an event without a card: trust none
        _LOG.error("cards %s reported XID %d", ", ".join(sorted(sick)), xid)
        self._broken |= sick
        return True

    # ---- use
    def _memory_by_pid(self, device: _Device) -> dict[int, int]:
        held: dict[int, int] = {}
        none: list[Any] = []
        for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            processes = self._try("", partial(getattr(self._nvml, name), device.handle), none, quiet=True)
            for process in processes:
                held[int(process.pid)] = max(held.get(int(process.pid), 0), int(process.usedGpuMemory or 0))
        return held

    def _busy_by_pid(self, device: _Device) -> dict[int, int]:
        since = int((time.time() - 1.0) * 1_000_000)
        none: list[Any] = []
        call = partial(self._nvml.nvmlDeviceGetProcessUtilization, device.handle, since)
        samples = self._try("", call, none, quiet=True)
        return {int(sample.pid): int(sample.smUtil) for sample in samples}

    # ---- failures
    def _try(self, what: str, call: Callable[[], T], default: T, *, quiet: bool = False) -> T:
        try:
            return call()
        except self._nvml.NVMLError as error:
            if not quiet:
                self._failed(what, error)
            return default

    def _failed(self, what: str, error: Exception) -> None:
        self.errors += 1
        _LOG.error("cannot %s: %s", what, error)


def _library() -> ModuleType | None:
    try:
        import pynvml
    except ImportError as error:  # pragma: no cover (a broken installation)
        _LOG.error("cannot import pynvml: %s", error)
        return None
    found: ModuleType = pynvml
    return found


def _numa_of(bus: str) -> int:
    """The NUMA node of a PCI address as NVML writes it (00000000:0a:00.0); 0 where the kernel does not tell."""
    address = bus[4:] if len(bus) == len("00000000:00:00.0") else bus
    try:
        return max(int(Path(f"/sys/bus/pci/devices/{address}/numa_node").read_text(encoding="ascii")), 0)
    except (OSError, ValueError):
        return 0


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
