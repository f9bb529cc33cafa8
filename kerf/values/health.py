"""The health of a card: a state, its cause and since when."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What a card may do.

    Only a `healthy` card takes new slices. Containers that already hold a slice of a card keep it, and may restart on
    it, in every state: moving them away is a decision of its own, and only `cordoned` can be a reason for it.
    """

    HEALTHY = "healthy"
    SUSPECT = "suspect"  # a sign of a fault, or no word from the card; the fault may be elsewhere
    CORDONED = "cordoned"  # a fault that only a reset or a repair ends
    RECOVERING = "recovering"  # answers well again after a fault, but not yet for long enough


@dataclass(frozen=True, slots=True)
class Health:
    """A card's state, a short cause for people, and since when. It is all that a restarted device plugin has to know.

    `cause` is "" where nothing is known of it; `since` is in seconds since 1970 (UTC), 0 where it is not known.
    """

    state: State = State.HEALTHY
    cause: str = ""
    since: int = 0
    code: int = 0
    """The vendor's code of the fault; 0 where there is none."""
    moves: bool = False
    """What runs on the card is lost, so that its tenants have to move."""
    needs_reset: bool = False
    """Only a sign of a reset ends the fault; clean readings do not."""
    falls: int = 0
    """How often the card fell ill of late: each time it has to be well for longer before it takes slices again."""
    remedy: str = ""
    """What repairs the card (`kerf.values.recovery.Remedy`), as its vendor advises; empty where it advises nothing."""
    boot: str = ""
    """The boot in which the card fell ill; another boot is a sign of a reset."""

    @property
    def takes_slices(self) -> bool:
        """Whether new slices may be placed on the card."""
        return self.state is State.HEALTHY

    def __str__(self) -> str:
        return f"{self.state}: {self.cause}" if self.cause else self.state.value


HEALTHY = Health()
SUSPECT = Health(State.SUSPECT)
"""The health of a card that is reported unhealthy without a cause."""
