"""How a card falls ill and recovers, as a pure rule over the signs that a probe sees."""

from dataclasses import dataclass, replace

from kerf.values.health import HEALTHY, Health, State

CLEAN_READS = 6
"""Readings without a fault after which a card is healthy again: half a minute at one reading every five seconds."""


@dataclass(frozen=True, slots=True)
class Course:
    """One card's health and what it lacks to be healthy again. Times are seconds since 1970."""

    health: Health = HEALTHY
    needs_reset: bool = False
    """A fault was reported that only a reset ends, and there is no sign of a reset yet."""
    clean: int = 0
    """Clean readings since the last sign of a fault."""

    def after_fault(self, cause: str, now: int) -> "Course":
        """The card reported a fault. The first of several causes is kept: the others usually follow from it."""
        health = self.health if self.health.state is State.CORDONED else Health(State.CORDONED, cause, now)
        return Course(health, needs_reset=True)

    def after_failed_reading(self, state: State, cause: str, now: int) -> "Course":
        """The card could not be read. A card that went away may have been reset, so no other sign is needed."""
        if self.health.state is State.CORDONED or (self.health.state, self.health.cause) == (state, cause):
            return Course(self.health)
        return Course(Health(state, cause, now))

    def after_reading(self, reset_pending: bool | None, now: int) -> "Course":
        """The card was read. `reset_pending` is the driver's own statement, None if it makes none.

        Clean readings count once the driver states that no reset is pending, or once the card has been away. A driver
        that makes no statement answers readings of a broken card too.
        """
        if self.health.state is State.HEALTHY:
            return self
        if reset_pending or (self.needs_reset and reset_pending is None):
            return replace(self, clean=0)
        if self.clean + 1 >= CLEAN_READS:
            return Course()
        recovers = self.health.state is State.RECOVERING
        health = self.health if recovers else Health(State.RECOVERING, self.health.cause, now)
        return Course(health, clean=self.clean + 1)
