"""The probe over NVML: what its parts see, joined to cards with a health."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

from kerf.probes.base import ProcessUse
from kerf.probes.nvml.cards import Device, read_device
from kerf.probes.nvml.driver import Driver
from kerf.probes.nvml.faults import fault_of, listen, reset_pending, state_after
from kerf.probes.nvml.links import links_of
from kerf.probes.nvml.processes import uses_of
from kerf.probes.recovery import Course
from kerf.values.device import Card
from kerf.values.fault import Fault, Verdict
from kerf.values.health import State

_LOG = logging.getLogger("kerf.probes.nvml")
_RETRY_S = 5.0
RESTART_S = 30
"""Least time between two restarts of NVML. A card that was lost is found again by a restarted NVML only."""
_LONGEST_CAUSE = 200


class NvmlProbe:
    """A `kerf.probes.base.Probe` over NVML. Without a driver there are no cards.

    A card with a fault, or one that cannot be read, takes no slices until it has been read without a fault several
    times; see `kerf.probes.recovery`. `judge` says what a fault means for its card.
    """

    def __init__(
        self,
        judge: Callable[[Fault], Verdict],
        slots: int = 10,
        nvml: ModuleType | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._driver = Driver(nvml)
        self._judge = judge
        self._slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Device] = {}
        self._heard: set[str] = set()
        self._courses: dict[str, Course] = {}
        self._started_at = 0

    @property
    def errors(self) -> int:
        """Failed readings since the start."""
        return self._driver.errors

    def cards(self) -> tuple[Card, ...]:
        now = int(self._clock())
        with self._lock:  # a restart must not meet another thread's calls
            self._restart_if_lost(now)
            devices, failures = self._read_all()
            links = links_of(self._driver, devices)
            found = {device.card.id: replace(device.card, links=links[device.card.id]) for device in devices}
            self._follow(devices, failures, now)
        lost = {card_id: device.card for card_id, device in self._known.items() if card_id not in found}
        cards = (replace(card, health=self._course(card.id).health) for card in (*found.values(), *lost.values()))
        return tuple(sorted(cards, key=lambda card: (card.index, card.id)))

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

    def uses(self) -> tuple[ProcessUse, ...]:
        with self._lock:
            if not self._driver.started:
                return ()
            readable = [self._known[card_id] for card_id in self._heard]
            return tuple(sorted(use for device in readable for use in uses_of(self._driver, device)))

    def close(self) -> None:
        with self._lock:
            self._driver.stop()

    # ---- inside
    def _course(self, card: str) -> Course:
        return self._courses.get(card, Course())

    def _read_all(self) -> tuple[list[Device], dict[int, Exception]]:
        """The cards that can be read, and the failures by index."""
        driver, devices, failures = self._driver, [], {}
        if not driver.start():
            return [], {}
        for index in range(driver.attempt("count the cards", driver.nvml.nvmlDeviceGetCount, 0)):
            try:
                devices.append(read_device(driver, index, self._slots))
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
            course = self._course(card_id)
            pending = reset_pending(self._driver, device.handle) if course.needs_reset else False
            self._courses[card_id] = course.after_reading(pending, now)
        self._known |= found
        for card_id, device in self._known.items():
            if card_id not in found:
                self._heard.discard(card_id)
                error = failures.get(device.card.index)
                cause = f"cannot be read: {error}"[:_LONGEST_CAUSE] if error else "not found by the driver"
                state = state_after(error) if error else State.SUSPECT
                self._courses[card_id] = self._course(card_id).after_failed_reading(state, cause, now)

    def _restart_if_lost(self, now: int) -> None:
        lost = self._known.keys() - self._heard
        if lost and self._driver.started and now - self._started_at >= RESTART_S:
            _LOG.info("restarting NVML to find cards %s again", ", ".join(sorted(lost)))
            self._started_at = now
            self._driver.stop()
            self._heard.clear()

    def _record(self, event: Any) -> bool:  # noqa: ANN401 (pynvml is untyped)
        now = int(self._clock())
        fault = fault_of(self._driver, event, now)
        if self._judge(fault).rank < Verdict.SUSPECT.rank:
            _LOG.warning("card %s reported %s, which is no fault of the card", fault.card, fault.text)
            return False
        broken = [fault.card] if fault.card else sorted(self._known)  # without a name any card may be meant
        for card in broken:
            self._courses[card] = self._course(card).after_fault(fault.text, now)
        _LOG.error("cards %s reported %s", ", ".join(broken), fault.text)
        return True
