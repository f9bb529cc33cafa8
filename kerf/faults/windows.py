"""One fault is one event: sightings of a card's code within a minute belong together, from whatever sources."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kerf.values.fault import Fault, FaultTable, Verdict

WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """A card's code within one window, which begins with the first sighting."""

    card: str
    code: int
    verdict: Verdict
    """The strongest of the window's sightings."""
    count: int
    """How often it happened: the sightings of the signal that reports it most, since others report the same fault."""
    text: str
    """What the first of the strongest sightings says."""
    at: float


def events(faults: Iterable[Fault], table: FaultTable, overrides: Mapping[int, Verdict]) -> tuple[FaultEvent, ...]:
    """The events of one boot, by time, card and code, in whatever order the sources reported."""
    windows: dict[tuple[str, int], list[list[Fault]]] = {}
    for fault in sorted(faults, key=lambda one: one.at):
        of_code = windows.setdefault((fault.card, fault.code), [])
        if not of_code or round(fault.at - of_code[-1][0].at, 6) >= WINDOW_S:
            of_code.append([])
        of_code[-1].append(fault)
    found = (_event(window, table, overrides) for of_code in windows.values() for window in of_code)
    return tuple(sorted(found, key=lambda event: (event.at, event.card, event.code)))


def _event(window: list[Fault], table: FaultTable, overrides: Mapping[int, Verdict]) -> FaultEvent:
    verdicts = [table.verdict(fault, overrides) for fault in window]
    strongest = max(verdicts, key=lambda verdict: verdict.rank)
    first = window[verdicts.index(strongest)]
    count = max(Counter(fault.signal for fault in window).values())
    return FaultEvent(first.card, first.code, strongest, count, first.text, window[0].at)
