"""Prometheus' text format, as engines of any age write it: names with `:` or `_`, OpenMetrics' endings, odd lines.

Counters and gauges alone: buckets, quantiles and created times are left out. A line that cannot be read is left out;
an engine's page is not ours to refuse.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MOST_SAMPLES = 50_000
_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:.]*)\s*(?:\{(.*)\})?\s+(\S+)(?:\s.*)?", re.ASCII)
_LABEL = re.compile(r'\s*"?([a-zA-Z_][a-zA-Z0-9_.:]*)"?\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)', re.ASCII)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n"}
_SKIPPED = ("_bucket", "_created")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. The name has `_` where the page has `:`."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_exposition(text: str) -> tuple[Sample, ...]:
    """The samples of a page, at most MOST_SAMPLES. Never raises."""
    found = []
    for sample in _samples(text):
        found.append(sample)
        if len(found) >= MOST_SAMPLES:
            break
    return tuple(found)


def _samples(text: str) -> Iterator[Sample]:
    for line in text.split("\n"):
        if not line or line[0] == "#":
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1].endswith(_SKIPPED):
            continue
        value = _number(match[3])
        if value is not None:
            yield Sample(match[1].replace(":", "_"), value, dict(_labels(match[2] or "")))


def _labels(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text) and (match := _LABEL.match(text, at)):
        yield match[1], _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), match[2])
        at = match.end()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
