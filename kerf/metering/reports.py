"""Reports of gateways, summed by hour, gateway, key, user and model within bounds.

Beyond the bounds nothing is lost: further keys and users of a gateway are summed as OTHER, and so are further models.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kerf.values.usage import ReportedHour, ReportedRow, hour_of

OTHER = "(other)"
MOST_ROWS = 2000
"""Rows of one hour and gateway; an object with so many is below half a mebibyte."""
MOST_HOURS = 48
"""Hours of all gateways that are not stored yet; further ones are refused."""
Key = tuple[int, str]
"""An hour and a gateway."""


@dataclass(slots=True)
class _Hour:
    rows: dict[tuple[str, str, str], ReportedRow]
    version: int = 0
    stored: int = 0


class Reports:
    """Not safe from several threads."""

    def __init__(self, server: str, most_rows: int = MOST_ROWS, most_hours: int = MOST_HOURS) -> None:
        self._server = server
        self._most_rows = most_rows
        self._most_hours = most_hours
        self._hours: dict[Key, _Hour] = {}

    def add(self, now_ms: int, gateway: str, row: ReportedRow) -> bool:
        """Count a report; False where there is no room for a further hour, because none can be stored."""
        key = (hour_of(now_ms), gateway)
        hour = self._hours.get(key)
        if hour is None:
            if len(self._hours) >= self._most_hours:
                return False
            hour = self._hours[key] = _Hour({})
        row = self._fitting(hour, row)
        at = (row.key, row.user, row.model)
        hour.rows[at] = hour.rows[at] + row if at in hour.rows else row
        hour.version += 1
        return True

    def unsaved(self) -> Iterator[tuple[ReportedHour, int]]:
        """What has changed since it was stored, the oldest first, and its version."""
        for (hour_ms, gateway), hour in sorted(self._hours.items()):
            if hour.version != hour.stored:
                rows = tuple(row for _, row in sorted(hour.rows.items()))
                yield ReportedHour(hour_ms, gateway, self._server, rows), hour.version

    def stored(self, hour: ReportedHour, version: int) -> None:
        """This version is stored."""
        self._hours[hour.hour_ms, hour.gateway].stored = version

    def forget(self, now_ms: int) -> None:
        """Hours that are over and stored are needed no longer."""
        now = hour_of(now_ms)
        self._hours = {k: hour for k, hour in self._hours.items() if k[0] >= now or hour.version != hour.stored}

    @property
    def rows(self) -> int:
        """How many rows are kept."""
        return sum(len(hour.rows) for hour in self._hours.values())

    def _fitting(self, hour: _Hour, row: ReportedRow) -> ReportedRow:
        if (row.key, row.user, row.model) in hour.rows or len(hour.rows) < self._most_rows:
            return row
        known = {model for _, _, model in hour.rows}
        most_models = self._most_rows // 10
        return replace(
            row, key=OTHER, user=OTHER, model=row.model if row.model in known or len(known) < most_models else OTHER
        )
