"""What the policy says of faults: who acts on them, how far, and what repairs a card."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kerf.values.fault import Verdict


class RecoveryMode(StrEnum):
    """What Kerf does about a card with a fault. In every mode a card that is not healthy takes no new slices."""

    OBSERVE = "observe"
    """Report it."""
    CORDON = "cordon"
    """Also keep the card out of use until it is well, whatever its device plugin says meanwhile."""
    RECOVER = "recover"
    """Also move the card's tenants where what they run is lost, and start the remedy."""


class AfterDeadline(StrEnum):
    """What happens to a pod that cannot be evicted before the deadline."""

    WAIT = "wait"  # the eviction is retried, and an alert says so
    DELETE = "delete"  # the pod is deleted, whatever its PodDisruptionBudget says


class Remedy(StrEnum):
    """What repairs a card. Kerf does none of it: an operator's Job may."""

    RESET_CARD = "reset-card"
    REBOOT_NODE = "reboot-node"
    REPAIR_CARD = "repair-card"  # by hand: a ticket to the vendor


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When so much fails at once that the cards are hardly the cause."""

    percent: int = 50
    """Of the cards, or of the nodes, of a pool."""
    window_s: float = 300.0
    quiet_s: float = 900.0
    """How long no further card may fail before evictions go on."""


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """The policy's block `recovery`."""

    mode: RecoveryMode = RecoveryMode.OBSERVE
    """For nodes whose pool names none."""
    dry_run: bool = False
    """Say what would be evicted, and evict nothing."""
    deadline_s: float = 600.0
    """After the fault, how long evictions are retried."""
    after_deadline: AfterDeadline = AfterDeadline.WAIT
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    clean_readings: int = 6
    """Readings without a fault after which a card takes slices again; there is one every five seconds."""
    codes: tuple[tuple[int, Verdict], ...] = ()
    """Verdicts of the operator's own, by code; every other code has that of its vendor's table."""
    remedies: tuple[tuple[Remedy, str], ...] = ()
    """Templates of Jobs, as JSON texts."""

    @property
    def verdicts(self) -> Mapping[int, Verdict]:
        """The operator's verdicts by code."""
        return dict(self.codes)
