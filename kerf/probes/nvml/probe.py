"""The probe over NVML: what its parts see, joined to cards with a health."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from kerf.probes.base import LimitDriver, LimitError, MigDriver, MigError, ProcessUse
from kerf.probes.boot import boot_id
from kerf.probes.courses import Courses
from kerf.probes.nvml.cards import Device, read_device
from kerf.probes.nvml.driver import Driver
from kerf.probes.nvml.faults import action_fault, action_of, fault_of, listen, lost, lost_fault
from kerf.probes.nvml.instance_time import InstanceTime
from kerf.probes.nvml.limits import limit, limit_of
from kerf.probes.nvml.links import links_of
from kerf.probes.nvml.mig import destroy, instances_of, make
from kerf.probes.nvml.processes import uses_of
from kerf.probes.recovery import CLEAN_READS, Sign
from kerf.values.device import BY_INDEX, Card
from kerf.values.fault import Fault
from kerf.values.health import Health
from kerf.values.mig import Instance

_LOG = logging.getLogger("kerf.probes.nvml")
_RETRY_S = 5.0
RESTART_S = 30
"""Least time between two restarts of NVML. A card that was lost is found again by a restarted NVML only."""
MISSING_S = 60
"""A card that the driver does not find for so long, while it finds others of the node, is off the bus."""
_LONGEST_CAUSE = 200
_MOST_FAULTS = 1000


class NvmlProbe:
    """A `kerf.probes.base.Probe` over NVML. Without a driver there are no cards.

    A card with a fault, or one that cannot be read, takes no slices until it has been read without a fault several
    times; see `kerf.probes.recovery`.
    """

    def __init__(
        self,
        slots: int = 10,
        clean_reads: Callable[[], int] = lambda: CLEAN_READS,
        nvml: ModuleType | None = None,
        clock: Callable[[], float] = time.time,
        unified_mib: int = 0,
    ) -> None:
        self._driver = Driver(nvml)
        self._slots = slots
        self._unified_mib = unified_mib
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Device] = {}
        self._links: dict[str, tuple[str, ...]] = {}
        self._heard: set[str] = set()
        self._missing: dict[str, int] = {}
        self._courses = Courses(boot_id(), clean_reads)
        self._faults: deque[Fault] = deque(maxlen=_MOST_FAULTS)
        self._started_at = 0
        self._times = InstanceTime()

    @property
    def errors(self) -> int:
        """Failed readings since the start."""
        return self._driver.errors

    def cards(self) -> tuple[Card, ...]:
        now = int(self._clock())
        with self._lock:  # a restart must not meet another thread's calls
            self._restart_if_lost(now)
            devices, failures = self._read_all()
            self._follow(devices, failures, now)
            self._links |= links_of(self._driver, devices)
        return self.known()

    def known(self) -> tuple[Card, ...]:
        links, heard = self._links, self._heard
        joined = {card_id: links.get(card_id, ()) if card_id in heard else () for card_id in self._known}
        cards = (
            replace(device.card, health=self._courses.health(card_id), links=joined.get(card_id, ()))
            for card_id, device in self._known.items()
        )
        return tuple(sorted(cards, key=BY_INDEX))

    def wait_change(self, timeout_s: float) -> bool:
        driver = self._driver
        if driver.events is None:
            time.sleep(min(timeout_s, _RETRY_S))
            return True
        try:
            event = driver.nvml.nvmlEventSetWait_v2(driver.events, int(timeout_s * 1000))
        except driver.nvml.NVMLError as error:
            if getattr(error, "value", None) != driver.nvml.NVML_ERROR_TIMEOUT:
                driver.failed("wait for events", error)
                time.sleep(min(timeout_s, 1.0))
            return False
        return self._record(event)

    def faults(self) -> tuple[Fault, ...]:
        return tuple(self._faults.popleft() for _ in range(len(self._faults)))

    def report(self, card: str, sign: Sign) -> bool:
        return self._courses.fault(card, sign)

    def restore(self, healths: Mapping[str, Health]) -> None:
        self._courses.restore(healths)

    def uses(self) -> tuple[ProcessUse, ...]:
        with self._lock:
            if not self._driver.started:
                return ()
            readable = [self._known[card_id] for card_id in self._heard]
            return tuple(sorted(use for device in readable for use in uses_of(self._driver, device, self._times)))

    def close(self) -> None:
        with self._lock:
            self._driver.stop()

    @property
    def mig(self) -> MigDriver:
        return self

    def instances(self, card: str) -> tuple[Instance, ...]:
        with self._lock:
            handle = self._handle(card)
            try:
                return instances_of(self._driver, handle)
            except self._driver.nvml.NVMLError as error:
                raise MigError(f"card {card}: cannot list its instances: {error}") from error

    def make(self, card: str, profile: int, start: int) -> Instance:
        with self._lock:
            handle = self._handle(card)
            mig = self._known[card].card.mig
            size = next((each.size for each in mig.profiles if each.id == profile), 0) if mig else 0
            return make(self._driver, handle, profile, start, size)

    def destroy(self, card: str, instance: int) -> None:
        with self._lock:
            destroy(self._driver, self._handle(card), instance)

    @property
    def limits(self) -> LimitDriver:
        return self

    def limit(self, card: str, cgroup: str, bytes_: int) -> None:
        with self._lock:
            limit(self._driver, self._readable(card), cgroup, bytes_)

    def limit_of(self, card: str, cgroup: str) -> int | None:
        with self._lock:
            return limit_of(self._driver, self._readable(card), cgroup)

    # ---- inside
    def _readable(self, card: str) -> Any:  # noqa: ANN401 (pynvml is untyped)
        """The handle of a card that NVML answers for now. Raises LimitError."""
        if card not in self._heard:
            raise LimitError(f"card {card} cannot be read now")
        return self._known[card].handle

    def _handle(self, card: str) -> Any:  # noqa: ANN401 (pynvml is untyped)
        """The handle of a card in MIG mode that NVML answers for now. Raises MigError."""
        if card not in self._heard or self._known[card].card.mig is None:
            raise MigError(f"card {card} cannot be read now, or is not in MIG mode")
        return self._known[card].handle

    def _read_all(self) -> tuple[list[Device], dict[int, Exception]]:
        """The cards that can be read, and the failures by index."""
        driver, devices, failures = self._driver, [], {}
        if not driver.start():
            return [], {}
        for index in range(driver.attempt("count the cards", driver.nvml.nvmlDeviceGetCount, 0)):
            try:
                devices.append(read_device(driver, index, self._slots, self._unified_mib))
            except driver.nvml.NVMLError as error:
                driver.failed(f"read card {index}", error)
                failures[index] = error
        return devices, failures

    def _follow(self, devices: list[Device], failures: dict[int, Exception], now: int) -> None:
        """Update each known card's course, and ask for the events of cards that are new or back."""
        found = {device.card.id: device for device in devices}
        for card_id, device in found.items():
            if card_id not in self._heard:
                listen(self._driver, device.handle, card_id)
                self._heard.add(card_id)
            self._missing.pop(card_id, None)
            self._read(card_id, device, now)
        self._known = {**self._known, **found}
        for card_id, device in self._known.items():
            if card_id not in found:
                self._heard.discard(card_id)
                self._not_read(card_id, failures.get(device.card.index), bool(found), now)

    def _read(self, card_id: str, device: Device, now: int) -> None:
        action = action_of(self._driver, device.handle)
        if action and not self._courses.cordoned(card_id):
            self._faults.append(action_fault(card_id, action, now))
        self._courses.read(card_id, None if action is None else action != 0, now)

    def _not_read(self, card_id: str, error: Exception | None, others: bool, now: int) -> None:
        cause = f"cannot be read: {error}"[:_LONGEST_CAUSE] if error else "not found by the driver"
        since = self._missing.setdefault(card_id, now) if error is None and others else now
        self._courses.failed(card_id, cause, now)
        gone = lost(error) if error else now - since >= MISSING_S
        if gone and not self._courses.cordoned(card_id):
            self._faults.append(lost_fault(card_id, cause, now))

    def _restart_if_lost(self, now: int) -> None:
        lost_cards = self._known.keys() - self._heard
        if lost_cards and self._driver.started and now - self._started_at >= RESTART_S:
            _LOG.info("restarting NVML to find cards %s again", ", ".join(sorted(lost_cards)))
            self._started_at = now
            self._driver.stop()
            self._times.forget()
            self._heard.clear()

    def _record(self, event: Any) -> bool:  # noqa: ANN401 (pynvml is untyped)
        fault = fault_of(self._driver, event, int(self._clock()))
        if fault is None:
            return True  # the recovery action changed, for example: read it
        named = [fault.card] if fault.card else sorted(self._known)  # without a name any card may be meant
        self._faults.extend(replace(fault, card=card) for card in named)
        return True
