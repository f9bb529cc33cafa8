"""Spans of time as people write them: 7d, 36h, 2026-11-01, 2026-11-01T12:00:00Z, 2026-11-01T13:00:00+01:00. Pure."""

import re
from collections.abc import Iterator
from datetime import datetime

from kerf.values.usage import HOUR_MS
from kerf.wire.errors import WireError
from kerf.wire.usage import parse_moment
from kerfctl.errors import CliError

_UNITS = {"m": 60_000, "h": HOUR_MS, "d": 24 * HOUR_MS, "w": 7 * 24 * HOUR_MS}
_AGO = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ELSEWHERE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?[+-]\d{2}:\d{2}", re.ASCII)
"""A moment by a clock that is not UTC's."""


def parse_span(since: str, until: str | None, now_ms: int) -> tuple[int, int]:
    """The ends of a span; without `until` it ends now. Raises CliError."""
    begin = parse_time(since, "--since", now_ms)
    end = parse_time(until, "--until", now_ms) if until else now_ms
    if end < begin and until:
        raise CliError(f"--until {until}: it is before --since {since}")
    if end < begin:
        raise CliError(f"--since {since}: this is still to come; name a time before now")
    return begin, end


def shared_hours(since: str, until: str | None, now_ms: int) -> Iterator[str]:
    """A sentence for each end that is named and lies within an hour: two bills that meet there both count that hour."""
    for flag, text, verb in (("--since", since, "ends"), ("--until", until, "begins")):
        if text and not _AGO.fullmatch(text) and parse_time(text, flag, now_ms) % HOUR_MS:
            yield f"{flag} {text} lies within an hour of UTC, which counts whole, here and in a bill that {verb} then"


def parse_time(text: str, flag: str, now_ms: int) -> int:
    """Milliseconds since 1970. Raises CliError with the fix."""
    if found := _AGO.fullmatch(text):
        return max(now_ms - int(found[1]) * _UNITS[found[2]], 0)
    try:
        if _ELSEWHERE.fullmatch(text):
            return max(int(datetime.fromisoformat(text).timestamp()) * 1000, 0)
        return parse_moment(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text, flag)
    except (WireError, ValueError, OverflowError) as error:
        moments = "2026-11-01T12:00:00Z or 2026-11-01T13:00:00+01:00"
        fix = f"write a span such as 7d or 36h (m, h, d, w), a day in UTC such as 2026-11-01, {moments}"
        raise CliError(f"{flag} {text}: {fix}") from error
