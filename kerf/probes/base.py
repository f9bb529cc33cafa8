"""The protocol of probes: the hardware of one node as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kerf.probes.recovery import Sign
from kerf.values.device import Card
from kerf.values.fault import Fault
from kerf.values.health import Health


@dataclass(frozen=True, slots=True, order=True)
class ProcessUse:
    """What one process (its PID on the host) uses of one card: bytes, and percent of the SMs over the last second."""

    card: str
    pid: int
    memory_bytes: int
    percent: int = 0


class Probe(Protocol):
    """Reads cards. No method raises: a card that cannot be read is not healthy, and failures are counted."""

    @property
    def errors(self) -> int:
        """Failed readings since the start."""

    def cards(self) -> tuple[Card, ...]:
        """Every card by index, in any health."""

    def known(self) -> tuple[Card, ...]:
        """The cards as last read, with their health as of now. Never asks the hardware, which may hang."""

    def wait_change(self, timeout_s: float) -> bool:
        """Block until something may have changed; False after `timeout_s` without a sign."""

    def faults(self) -> tuple[Fault, ...]:
        """The faults that the hardware reported since the last call. What they mean is not decided here."""

    def report(self, card: str, sign: Sign) -> bool:
        """A card has a fault, from whatever source; whether its health is another now."""

    def restore(self, healths: Mapping[str, Health]) -> None:
        """Go on from what an earlier run knew of cards."""

    def uses(self) -> tuple[ProcessUse, ...]:
        """What processes use right now. Empty if the driver does not report it."""

    def close(self) -> None:
        """Release the hardware."""
