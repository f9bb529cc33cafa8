"""The protocol of probes: the hardware of one node as values."""

from dataclasses import dataclass
from typing import Protocol

from kerf.values.device import Card


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

    def wait_change(self, timeout_s: float) -> bool:
        """Block until something may have changed; False after `timeout_s` without a sign."""

    def uses(self) -> tuple[ProcessUse, ...]:
        """What processes use right now. Empty if the driver does not report it."""

    def close(self) -> None:
        """Release the hardware."""
