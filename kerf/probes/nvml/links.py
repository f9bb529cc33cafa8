"""Which cards NVLink joins: directly, or through a switch that both are wired to."""

from dataclasses import dataclass
from typing import Any

from kerf.probes.nvml.cards import Device
from kerf.probes.nvml.driver import Driver, text

MOST_LINKS = 18
_REMOTE_GPU, _REMOTE_SWITCH = 0, 2


@dataclass(frozen=True, slots=True)
class _Wires:
    """The far ends of a card's active links."""

    buses: frozenset[str]
    switched: bool


def links_of(driver: Driver, devices: list[Device]) -> dict[str, tuple[str, ...]]:
    """Ids of the joined cards by card id."""
    wires = {device.card.id: _wires(driver, device.handle) for device in devices}
    return {device.card.id: _peers(device, devices, wires) for device in devices}


def _peers(device: Device, devices: list[Device], wires: dict[str, _Wires]) -> tuple[str, ...]:
    own = wires[device.card.id]
    others = (other for other in devices if other is not device)
    joined = (o.card.id for o in others if o.bus in own.buses or (own.switched and wires[o.card.id].switched))
    return tuple(sorted(joined))


def _wires(driver: Driver, handle: Any) -> _Wires:  # noqa: ANN401 (pynvml is untyped)
    nvml, buses, switched = driver.nvml, set(), False
    for link in range(MOST_LINKS):
        try:
            if not nvml.nvmlDeviceGetNvLinkState(handle, link):
                continue
            kind = nvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link)
            switched = switched or kind == _REMOTE_SWITCH
            if kind == _REMOTE_GPU:
                buses.add(text(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId).lower())
        except nvml.NVMLError:
            break  # the card has no more links, or none at all
    return _Wires(frozenset(buses), switched)
