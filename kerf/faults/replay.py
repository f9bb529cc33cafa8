"""A kernel log from its beginning to its end, as the events that the device plugin would have made of it."""

from collections.abc import Iterable, Mapping

from kerf.faults.nvrm import parse_log
from kerf.faults.windows import FaultEvent, events
from kerf.values.fault import Fault, FaultTable, Verdict


def replay(lines: Iterable[str], table: FaultTable, overrides: Mapping[int, Verdict]) -> tuple[FaultEvent, ...]:
    """The events of a log, boot after boot."""
    boots: dict[int, list[Fault]] = {}
    for boot, fault in parse_log(lines):
        boots.setdefault(boot, []).append(fault)
    return tuple(event for boot in sorted(boots) for event in events(boots[boot], table, overrides))
