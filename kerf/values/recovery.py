"""What the policy says of faults."""

from collections.abc import Mapping
from dataclasses import dataclass

from kerf.values.fault import Verdict


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """The policy's block `recovery`."""

    clean_readings: int = 6
    """Readings without a fault after which a card takes slices again; there is one every five seconds."""
    codes: tuple[tuple[int, Verdict], ...] = ()
    """Verdicts of the operator's own, by code; every other code has that of its vendor's table."""

    @property
    def verdicts(self) -> Mapping[int, Verdict]:
        """The operator's verdicts by code."""
        return dict(self.codes)
