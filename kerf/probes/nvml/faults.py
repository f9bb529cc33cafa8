"""Signs of a card's faults in NVML: events, failed readings, and the recovery action that the driver asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kerf.probes.nvml.driver import Driver, text
from kerf.values.health import State
from kerf.values.vendor import Effect

_GONE_CODES = frozenset({15, 16})
"""NVML_ERROR_GPU_IS_LOST and NVML_ERROR_RESET_REQUIRED: only a reset brings the card back."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An event that breaks cards; `card` is "" if the driver does not name one."""

    card: str
    cause: str


def listen(driver: Driver, handle: Any, card: str) -> None:  # noqa: ANN401 (pynvml is untyped)
    """Ask for the card's events."""
    nvml = driver.nvml
    if driver.events is not None:
        kinds = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
        driver.attempt(
            f"listen to card {card}", lambda: nvml.nvmlDeviceRegisterEvents(handle, kinds, driver.events), None
        )


def fault_of(driver: Driver, event: Any, effect_of: Callable[[int], Effect]) -> Fault | None:  # noqa: ANN401
    """The fault that an event reports, None for an error that is harmless to the card."""
    xid = int(event.eventData)
    is_xid = event.eventType == driver.nvml.nvmlEventTypeXidCriticalError
    if is_xid and effect_of(xid) is Effect.HARMLESS:
        return None
    card = driver.attempt("name a faulty card", lambda: text(driver.nvml.nvmlDeviceGetUUID(event.device)), "")
    return Fault(card, f"XID {xid}" if is_xid else "double-bit ECC error")


def state_after(error: Exception) -> State:
    """The state of a card whose reading failed with this error."""
    return State.CORDONED if getattr(error, "value", None) in _GONE_CODES else State.SUSPECT


def reset_pending(driver: Driver, handle: Any) -> bool | None:  # noqa: ANN401
    """Whether the driver asks for a reset or reboot because of this card. None if it cannot say (older drivers)."""
    nvml = driver.nvml
    values: Any = driver.optional(
        lambda: nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]), None
    )
    if values is None or values[0].nvmlReturn:
        return None
    return int(values[0].value.uiVal) != 0
