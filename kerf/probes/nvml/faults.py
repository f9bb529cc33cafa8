"""Signs of a card's faults in NVML: events, failed readings, and the recovery action that the driver asks for."""

from typing import Any

from kerf.faults.xid import DOUBLE_BIT
from kerf.probes.nvml.driver import Driver, text
from kerf.values.fault import Fault, Signal
from kerf.values.health import State

_NO_INSTANCE = 0xFFFFFFFF
_GONE_CODES = frozenset({15, 16})
"""NVML_ERROR_GPU_IS_LOST and NVML_ERROR_RESET_REQUIRED: only a reset brings the card back."""


def listen(driver: Driver, handle: Any, card: str) -> None:  # noqa: ANN401 (pynvml is untyped)
    """Ask for the card's events."""
    nvml = driver.nvml
    if driver.events is not None:
        kinds = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
        driver.attempt(
            f"listen to card {card}", lambda: nvml.nvmlDeviceRegisterEvents(handle, kinds, driver.events), None
        )


def fault_of(driver: Driver, event: Any, at: float) -> Fault:  # noqa: ANN401
    """The fault that an event reports; its card is "" if the driver does not name one."""
    is_xid = event.eventType == driver.nvml.nvmlEventTypeXidCriticalError
    code = int(event.eventData) if is_xid else DOUBLE_BIT
    card = driver.attempt("name a faulty card", lambda: text(driver.nvml.nvmlDeviceGetUUID(event.device)), "")
    instance = int(getattr(event, "gpuInstanceId", _NO_INSTANCE))
    return Fault(at, card, code, Signal.EVENT, f"XID {code}", "" if instance == _NO_INSTANCE else str(instance))


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
