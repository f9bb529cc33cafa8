"""How a card falls ill and recovers, as a pure rule over the signs that a probe sees."""

from dataclasses import dataclass, replace

from kerf.values.fault import Verdict
from kerf.values.health import HEALTHY, Health, State
from kerf.values.recovery import Remedy

CLEAN_READS = 6
"""Readings without a fault after which a card is healthy again: half a minute at one reading every five seconds."""
MOST_CLEAN_READS = 360
"""The same for a card that fell ill again and again: half an hour."""
FORGET_S = 3600
"""Seconds of good health after which earlier falls no longer count."""
REPAIR_AFTER = 3
"""Falls after which no further reset is advised."""
_WELL = frozenset({State.HEALTHY, State.RECOVERING})


@dataclass(frozen=True, slots=True)
class Sign:
    """A fault as the rule sees it."""

    verdict: Verdict
    cause: str
    at: int
    """Seconds since 1970."""
    code: int = 0
    remedy: str = ""
    away: bool = False
    """The fault is that the card is away, after which it may have been reset: no other sign of a reset is needed."""


@dataclass(frozen=True, slots=True)
class Course:
    """One card's health, and how long it has been well since the last fault."""

    health: Health = HEALTHY
    clean: int = 0
    """Clean readings since the last sign of a fault."""

    def after_fault(self, sign: Sign, boot: str = "") -> "Course":
        """The card has a fault. The first of several causes is kept, because the others usually follow from it.

        A cause for which tenants have to move replaces one for which they need not.
        """
        known, moves = self.health, sign.verdict is Verdict.EVICT
        if sign.verdict.rank < Verdict.SUSPECT.rank or (known.state in _WELL and sign.at < known.since):
            return self  # no fault of the card, or one from before it recovered
        if sign.verdict is Verdict.SUSPECT:
            if known.state in {State.CORDONED, State.SUSPECT}:
                return Course(known)
            return Course(Health(State.SUSPECT, sign.cause, sign.at, sign.code, falls=self._falls(), boot=boot))
        if known.state is State.CORDONED and (known.moves or not moves):
            return Course(replace(known, needs_reset=not sign.away, boot=boot))
        falls = self._falls()
        remedy = Remedy.REPAIR_CARD if falls >= REPAIR_AFTER else sign.remedy
        return Course(
            Health(
                State.CORDONED,
                sign.cause,
                sign.at,
                sign.code,
                moves,
                not sign.away,
                falls=falls,
                remedy=remedy,
                boot=boot,
            )
        )

    def after_failed_reading(self, cause: str, now: int) -> "Course":
        """The card could not be read. A card that went away may have been reset, so no other sign is needed."""
        known = self.health
        if known.state is State.CORDONED or (known.state, known.cause) == (State.SUSPECT, cause):
            return Course(replace(known, needs_reset=False))
        return Course(Health(State.SUSPECT, cause, now, falls=self._falls(), boot=known.boot))

    def after_reading(self, reset_pending: bool | None, now: int, clean_reads: int = CLEAN_READS) -> "Course":
        """The card was read. `reset_pending` is the driver's own statement, None if it makes none.

        Clean readings count once the driver states that no reset is pending, or once the card has been away. A driver
        that makes no statement answers readings of a broken card too.
        """
        known = self.health
        if known.state is State.HEALTHY:
            return Course() if known.falls and now - known.since >= FORGET_S else self
        if reset_pending or (known.needs_reset and reset_pending is None):
            return replace(self, clean=0)
        if self.clean + 1 >= min(clean_reads << max(known.falls - 1, 0), max(MOST_CLEAN_READS, clean_reads)):
            return Course(Health(since=now, falls=known.falls))
        recovers = known.state is State.RECOVERING
        health = known if recovers else replace(known, state=State.RECOVERING, since=now, moves=False)
        return Course(replace(health, needs_reset=False), self.clean + 1)

    def after_restart(self, boot: str) -> "Course":
        """The device plugin was started again. Another boot than that of the fault is a sign of a reset."""
        rebooted = bool(boot and self.health.boot and self.health.boot != boot)
        return Course(replace(self.health, needs_reset=False)) if rebooted else Course(self.health)

    def _falls(self) -> int:
        """The falls, this one among them."""
        return self.health.falls + 1 if self.health.state in _WELL else max(self.health.falls, 1)
