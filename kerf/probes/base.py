"""The protocol of probes: the hardware of one node as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kerf.probes.recovery import Sign
from kerf.values.device import Card
from kerf.values.fault import Fault
from kerf.values.health import Health
from kerf.values.mig import Instance


@dataclass(frozen=True, slots=True, order=True)
class ProcessUse:
    """What one process (its PID on the host) uses of one card: bytes, and percent of the SMs over the last second."""

    card: str
    pid: int
    memory_bytes: int
    percent: int = 0


class MigError(Exception):
    """The driver did not make or remove an instance. `busy`: it may, once a process that uses it has ended."""

    def __init__(self, message: str, *, busy: bool = False) -> None:
        super().__init__(message)
        self.busy = busy


class MigDriver(Protocol):
    """Instances of cards that are in MIG mode already. Every call asks the hardware, and raises MigError."""

    def instances(self, card: str) -> tuple[Instance, ...]:
        """All instances of a card, of whatever origin."""

    def make(self, card: str, profile: int, start: int) -> Instance:
        """Make an instance with one compute instance that has all of it. Refused where another one lies."""

    def destroy(self, card: str, instance: int) -> None:
        """Remove an instance and its compute instances. No-op if there is none with this number."""


class LimitError(Exception):
    """The driver did not keep a limit of memory, or does not say so."""


class LimitDriver(Protocol):
    """Limits of a card's memory that the driver keeps for a cgroup. Every call asks the hardware; raises LimitError."""

    def limit(self, card: str, cgroup: str, bytes_: int) -> None:
        """The processes of a cgroup, and of those below it, hold at most so much of a card from now on."""

    def limit_of(self, card: str, cgroup: str) -> int | None:
        """The limit of a cgroup in bytes; None where there is none."""


class Probe(Protocol):
    """Reads cards. No method raises: a card that cannot be read is not healthy, and failures are counted."""

    @property
    def errors(self) -> int:
        """Failed readings since the start."""

    @property
    def mig(self) -> MigDriver:
        """What makes instances of the cards in MIG mode."""

    @property
    def limits(self) -> LimitDriver:
        """What keeps limits of memory in the driver."""

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
