r"""Kernel logs as records: the text of /dev/kmsg, of dmesg with any of its options, and of syslog.

/dev/kmsg writes `priority,sequence,microseconds,flags;text`, then lines ` KEY=value` that say more about the record.
Bytes that are no plain text, a line break among them, are written as `\x0a`. Where one printk makes several lines,
dmesg writes the time before the first one only; syslog writes it before each.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kerf.faults.clock import Clock

_KMSG = re.compile(r"(\d{1,10}),(\d{1,20}),(\d{1,16}),([^;]{0,200});")
_MORE = re.compile(r" [A-Z_]{1,64}=")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})", re.IGNORECASE)
_LEVEL = re.compile(r"(?:<\d{1,4}>|[a-z]{3,8}\s{0,8}:[a-z]{2,6}\s{0,8}:\s?)", re.IGNORECASE)
_SYSLOG = re.compile(r"(?:\S{1,255}\s)?kernel:\s?", re.IGNORECASE)
_FIRST_WORDS = "Linux version "
LONGEST = 8192
"""Characters of a line that are read; the kernel's own limit is below 1,024."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the kernel's log. Times of one `boot` can be compared."""

    at: float
    text: str
    boot: int = 0


def parse_records(lines: Iterable[str]) -> Iterator[Record]:
    """The records of a log, line by line. Never raises: what is no record is the text of one."""
    clock, boot, last = Clock(), 0, ""
    for line in lines:
        read = _read(line.rstrip("\r\n")[:LONGEST], clock)
        if read is None:
            continue
        at, text, part = read
        if text.startswith(_FIRST_WORDS):
            boot += 1
        last = last + text if part == "+" else text
        if "\n" in last:
            yield from (Record(at, each, boot) for each in last.split("\n"))
        else:
            yield Record(at, last, boot)


def _read(line: str, clock: Clock) -> tuple[float, str, str] | None:
    """A line's time, text and flag ("+" continues the record before); None for a line that only describes a record."""
    found = _KMSG.match(line) if line[:1].isdigit() else None
    if found:
        at = int(found[3]) / 1e6
        clock.set(at)
        return at, _ESCAPED.sub(_unescaped, line[found.end() :]), found[4][:1]
    if line[:1] == " " and _MORE.match(line):
        return None
    rest = line[level.end() :] if line[:1] != "[" and (level := _LEVEL.match(line)) else line
    at, rest, timed = clock.split(rest)
    if "kernel:" in rest[:300] and (prefix := _SYSLOG.match(rest)):
        rest = rest[prefix.end() :]
        # The kernel's own time may follow the date; the date counts, because it goes on after a reboot.
        rest = Clock().split(rest)[1]
    return at, rest if timed else rest.strip(), ""


def _unescaped(found: "re.Match[str]") -> str:
    return chr(int(found[1], 16))
