"""The times that kernel logs are written with, as seconds."""

import re

from kerf.values.days import days_of

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<part>[.,]\d{1,9})?)?"
_DAY = r"(?P<day>\d{1,2})"
_WEEKDAY = r"(?:[a-z]{3},? )?"
_DELTA = r"(?:\s{0,8}<[^>]{0,40}>)?"
_CALLER = r"(?:\s?\[\s{0,8}[tc]\d{1,10}\])?"
_SINCE_BOOT = re.compile(rf"\[\s*(\d{{1,12}}\.\d{{1,9}}){_DELTA}\]{_CALLER}\s?", re.IGNORECASE)
_SINCE_1970 = re.compile(r"(\d{9,11}\.\d{3,9})\s")
_LATER = re.compile(r"\[\s*(?:\+|<\s*\+?)(\d{1,12}\.\d{1,9})>?\]\s?")
_DATES = (
    re.compile(rf"\[{_WEEKDAY}{_MONTH}\s+{_DAY}\s+{_CLOCK} (?P<year>\d{{4}}){_DELTA}\]\s?", re.IGNORECASE),
    re.compile(rf"\[{_MONTH}\s?{_DAY} {_CLOCK}\]\s?", re.IGNORECASE),
    re.compile(
        rf"{_WEEKDAY}(?P<year>\d{{4}})-(?P<number>\d\d)-{_DAY}[T ]{_CLOCK}\s?(?P<zone>Z|[+-]\d\d:?\d\d)?\s",
        re.IGNORECASE,
    ),
    re.compile(rf"{_WEEKDAY}{_MONTH}\s+{_DAY} {_CLOCK}(?: (?P<year>\d{{4}}))?\s", re.IGNORECASE),
)
_HALF_A_YEAR_S = 182 * 86_400.0
_ALMOST_A_YEAR_S = 360 * 86_400.0
_NO_YEAR = 1972
"""A leap year for dates that name none."""


class Clock:
    """Reads the time that a line begins with. Dates without a year go on into the next one in January."""

    def __init__(self) -> None:
        self._now = 0.0
        self._year = _NO_YEAR

    def split(self, line: str) -> tuple[float, str, bool]:
        """The line's time, what follows it, and whether the line names a time. Without one it is that of the last."""
        if not line[:1].isalnum() and line[:1] != "[":
            return self._now, line, False
        relative = ((_SINCE_BOOT, self._as_written), (_LATER, self._later), (_SINCE_1970, self._as_written))
        for pattern, read in relative:
            found = pattern.match(line)
            if found:
                self._now = read(found)
                return self._now, line[found.end() :], True
        for pattern in _DATES:
            found = pattern.match(line)
            if found:
                self._now = self._date(found)
                return self._now, line[found.end() :], True
        return self._now, line, False

    def set(self, now: float) -> None:
        """The time of a line that was read otherwise."""
        self._now = now

    # ---- inside
    def _as_written(self, found: "re.Match[str]") -> float:
        return float(found[1])

    def _later(self, found: "re.Match[str]") -> float:
        return self._now + float(found[1])

    def _date(self, found: "re.Match[str]") -> float:
        parts = found.groupdict()
        month = int(parts["number"]) if parts.get("number") else _MONTHS.index(parts["month"].lower()) + 1
        of_day = int(parts["hour"]) * 3600 + int(parts["minute"]) * 60 + int(parts["second"] or 0)
        seconds = of_day + float((parts["part"] or "0").replace(",", ".")) - _offset(parts.get("zone"))
        day = int(parts["day"])
        if parts.get("year"):
            return days_of(int(parts["year"]), month, day) * 86_400.0 + seconds
        at = days_of(self._year, month, day) * 86_400.0 + seconds
        if at < self._now - _HALF_A_YEAR_S:
            self._year += 1
            return days_of(self._year, month, day) * 86_400.0 + seconds
        if at > self._now + _ALMOST_A_YEAR_S and self._now >= days_of(self._year, 1, 1) * 86_400.0:
            # A line of December behind one of January: sources are not in order.
            self._year -= 1
            return days_of(self._year, month, day) * 86_400.0 + seconds
        return at


def _offset(zone: str | None) -> int:
    """Seconds east of UTC."""
    if not zone or zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "")
    return (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if zone[0] == "-" else 1)
