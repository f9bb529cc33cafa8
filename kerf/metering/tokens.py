"""Tokens counted per start of a container, from an engine's counters.

A counter that drops means that the engine started again: its whole new value counts. The first value of an engine
counts from zero where its container started after the meter began to watch, else it is where counting begins. So a pod
that lives between two readings of anything else still counts whole, which `increase()` cannot do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kerf.values.engine import ModelReading, Tokens
from kerf.values.usage import CounterRow

Key = tuple[str, str, str]
"""(pod uid, the container's start, served model)."""


@dataclass(frozen=True, slots=True)
class Start:
    """A start of a container: its pod, when it began, and whether that was after the meter began to watch."""

    uid: str
    started: str
    watched: bool


class TokenCounters:
    """The last values. Not safe from several threads."""

    def __init__(self, rows: Iterable[CounterRow] = ()) -> None:
        self._last: dict[Key, Tokens] = {
            (row.uid, row.started, row.model): Tokens(row.input, row.cached, row.output) for row in rows
        }

    def read(self, start: Start, models: Iterable[ModelReading]) -> Mapping[str, Tokens]:
        """What was counted since the last reading, by served model."""
        known = start.watched or any(key[:2] == (start.uid, start.started) for key in self._last)
        found: dict[str, Tokens] = {}
        for reading in models:
            key = (start.uid, start.started, reading.model)
            last = self._last.get(key)
            self._last[key] = reading.tokens
            if last is None and not known:
                continue
            more = _since(last or Tokens(), reading.tokens)
            if more:
                found[reading.model] = more
        return found

    def keep(self, uids: Iterable[str]) -> None:
        """Forget pods that are not among these."""
        live = set(uids)
        self._last = {key: value for key, value in self._last.items() if key[0] in live}

    def rows(self) -> tuple[CounterRow, ...]:
        """The last values, for the next leader."""
        return tuple(CounterRow(*key, each.input, each.cached, each.output) for key, each in sorted(self._last.items()))


def _since(last: Tokens, now: Tokens) -> Tokens:
    if now.input + now.cached < last.input + last.cached or now.output < last.output:
        return now  # it started again within the same container
    prompt = now.input + now.cached - last.input - last.cached
    cached = min(max(now.cached - last.cached, 0), prompt)  # it may be counted later than the prompt that it is part of
    return Tokens(prompt - cached, cached, now.output - last.output)
