"""Hysteresis: capacity that is lost counts for a while yet, capacity that comes counts at once."""

from dataclasses import dataclass, replace

from kerf.values.quota import NOTHING, Amount, CardClass
from scheduler.quota.capacity import Capacity, ClassCapacity


@dataclass(frozen=True, slots=True)
class PeakWindow:
    """The highest capacity of the last `seconds`, dimension by dimension: a sliding maximum."""

    seconds: float
    seen: tuple[tuple[float, tuple[tuple[CardClass, ClassCapacity], ...]], ...] = ()
    """What was found and when (monotonic seconds), oldest first; only what can still be the maximum."""
    known: tuple[tuple[CardClass, ClassCapacity], ...] = ()
    """Every class ever seen: one whose last node is gone gives nothing, but keeps its name and its tenants."""

    def after(self, now: float, found: Capacity) -> "PeakWindow":
        """The damper once `found` was seen."""
        entry = tuple(found.items())
        unchanged = bool(self.seen) and self.seen[-1][1] == entry
        kept = self.seen if unchanged else (*self.seen, (now, entry))
        # An entry counts until the one after it has been there for `seconds`.
        fresh = [i for i in range(len(kept)) if i + 1 == len(kept) or kept[i + 1][0] > now - self.seconds]
        known = tuple(sorted({**dict(self.known), **found}.items()))
        return replace(self, seen=tuple(kept[i] for i in fresh), known=known)

    @property
    def capacity(self) -> Capacity:
        """What counts now."""
        latest = dict(self.seen[-1][1]) if self.seen else {}
        peaks: dict[CardClass, Amount] = {}
        for _, entries in self.seen:
            for key, gives in entries:
                peaks[key] = peaks.get(key, NOTHING).peak(gives.total)
        gone = {key: replace(gives, cards=0) for key, gives in self.known}
        return {key: replace(latest.get(key, gone[key]), total=peaks.get(key, NOTHING)) for key in gone}

    def settles_at(self, now: float) -> float | None:
        """When the answer changes without news, None if it does not."""
        return self.seen[1][0] + self.seconds if len(self.seen) > 1 and self.seen[1][0] + self.seconds > now else None
