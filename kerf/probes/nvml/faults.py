"""Signs of a card's faults in NVML: events, failed readings, and the recovery action that the driver asks for."""

from collections.abc import Mapping
from typing import Any

from kerf.faults.xid import ACTION_CHANGED, ACTIONS, DOUBLE_BIT, OFF_THE_BUS
from kerf.probes.nvml.driver import Driver, text
from kerf.values.fault import Fault, Signal

_NO_INSTANCE = 0xFFFFFFFF
_GONE_CODES = frozenset({15, 16})
"""NVML_ERROR_GPU_IS_LOST and NVML_ERROR_RESET_REQUIRED: only a reset brings the card back."""
_AS_XID: Mapping[str, int] = {
    "nvmlEventTypeDoubleBitEccError": DOUBLE_BIT,
    "nvmlEventTypeDramRetirementFailure": 64,
    "nvmlEventTypeNonFatalPoisonError": 94,
    "nvmlEventTypeFatalPoisonError": 95,
    "nvmlEventTypeGpuUnavailableError": OFF_THE_BUS,
}
"""Events of newer drivers, by the Xid that reports the same."""
_NOTHING_NEW = "nvmlEventTypeGpuRecoveryAction"
"""The event that the recovery action changed: the action itself is read after every event."""


def listen(driver: Driver, handle: Any, card: str) -> None:  # noqa: ANN401 (pynvml is untyped)
    """Ask for the card's events. One kind that the card does not support would fail the whole call."""
    nvml = driver.nvml
    if driver.events is None:
        return
    wanted = nvml.nvmlEventTypeXidCriticalError
    for name in (*_AS_XID, _NOTHING_NEW):
        wanted |= int(getattr(nvml, name, 0))
    oldest = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
    kinds = wanted & int(driver.optional(lambda: nvml.nvmlDeviceGetSupportedEventTypes(handle), oldest))
    if kinds:
        driver.attempt(
            f"listen to card {card}", lambda: nvml.nvmlDeviceRegisterEvents(handle, kinds, driver.events), None
        )


def fault_of(driver: Driver, event: Any, at: float) -> Fault | None:  # noqa: ANN401
    """The fault that an event reports, None for one that reports none; its card is "" if the driver names none."""
    nvml = driver.nvml
    kinds = {int(getattr(nvml, name, 0)): code for name, code in _AS_XID.items()}
    is_xid = event.eventType == nvml.nvmlEventTypeXidCriticalError
    code = int(event.eventData) if is_xid else kinds.get(int(event.eventType), 0)
    if not code:
        return None
    card = driver.attempt("name a faulty card", lambda: text(nvml.nvmlDeviceGetUUID(event.device)), "")
    instance = int(getattr(event, "gpuInstanceId", _NO_INSTANCE))
    return Fault(at, card, code, Signal.EVENT, f"XID {code}", "" if instance == _NO_INSTANCE else str(instance))


def lost(error: Exception) -> bool:
    """Whether NVML says with this error that the card is gone for good."""
    return getattr(error, "value", None) in _GONE_CODES


def lost_fault(card: str, cause: str, at: float) -> Fault:
    """The fault of a card that is gone for good."""
    return Fault(at, card, OFF_THE_BUS, Signal.LOST, cause)


def action_of(driver: Driver, handle: Any) -> int | None:  # noqa: ANN401
    """The recovery action that the driver asks for because of this card. None if it cannot say (older drivers)."""
    nvml = driver.nvml
    field = getattr(nvml, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", None)
    values: Any = driver.optional(lambda: nvml.nvmlDeviceGetFieldValues(handle, [field]), None) if field else None
    if values is None or values[0].nvmlReturn:
        return None
    return int(values[0].value.uiVal)


def action_fault(card: str, action: int, at: float) -> Fault:
    """The fault of a card for which the driver asks for an action."""
    words = ACTIONS.get(action, ("unknown", None))[0]
    text = f"GPU recovery action changed from 0x0 (None) to 0x{action:x} ({words})"
    return Fault(at, card, ACTION_CHANGED, Signal.ACTION, text)
