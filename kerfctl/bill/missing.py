"""Hours of a span of which there is no record: they cost nothing in the bill, so the bill says which they are. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from kerf.values.usage import HOUR_MS, UsageRecord, hour_of
from kerf.wire.usage import moment_text

LATE_MS = 15 * 60_000
"""An hour that has just begun may have no record yet."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Sentences: of hours at an end of the span, as before metering began, and of hours between others."""

    ends: tuple[str, ...]
    holes: tuple[str, ...]


def missing_hours(records: Iterable[UsageRecord], since_ms: int, until_ms: int, now_ms: int) -> Missing:
    """What the records of the cards leave out of a span, cluster by cluster."""
    found: dict[str, set[int]] = {}
    for record in records:
        if record.of_cards:
            found.setdefault(record.cluster, set()).add(record.hour_ms)
    first = hour_of(since_ms)
    end = max(hour_of(min(until_ms, now_ms - LATE_MS) + HOUR_MS - 1), first)
    ends, holes = [], []
    for cluster, hours in sorted(found.items()):
        words = f"cluster {cluster}: " if cluster else ""
        begin, last = min(hours), max(hours) + HOUR_MS
        if begin > first:
            why = "it was not metered then, or its records were deleted (metering.retentionDays)"
            ends.append(f"{words}there is no record before {_hour(begin)}: {why}")
        if last < end:
            ends.append(f"{words}there is no record after {_hour(last)}: is metering on, and does a scheduler lead?")
        holes += [f"{words}there is no record between {_hour(a)} and {_hour(b)}" for a, b in _spans(hours)]
    return Missing(tuple(ends), tuple(holes))


def _spans(hours: set[int]) -> Iterator[tuple[int, int]]:
    """Spans without any hour, between others."""
    ordered = sorted(hours)
    for one, other in pairwise(ordered):
        if one + HOUR_MS < other:
            yield one + HOUR_MS, other


def _hour(moment_ms: int) -> str:
    return f"{moment_text(moment_ms)[:16]}Z"
