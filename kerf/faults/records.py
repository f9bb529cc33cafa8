r"""Kernel logs as records: the text of /dev/kmsg, of dmesg with any of its options, and of syslog.

/dev/kmsg writes `priority,sequence,microseconds,flags;text`, then lines ` KEY=value` that say more about the record.
Bytes that are no plain text, a line break among them, are written as `\x0a`. Where one printk makes several lines,
dmesg writes the time before the first one only; syslog writes it before each. Syslog counts equal messages, and
journalctl has forms of its own: an object a line (`-o json`), and `NAME=value` lines (`-o export`).
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kerf.faults.clock import Clock

_KMSG = re.compile(r"(\d{1,10}),(\d{1,20}),(\d{1,16}),([^;]{0,200});")
_MORE = re.compile(r" [A-Z_]{1,64}=")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})", re.IGNORECASE)
_LEVEL = re.compile(r"(?:<\d{1,4}>(?:1 (?=\d{4}-))?|[a-z]{3,8}\s{0,8}:[a-z]{2,6}\s{0,8}:\s?)", re.IGNORECASE)
_SYSLOG = re.compile(r"(?:\S{1,255}\s){0,2}kernel(?:\[\d{1,10}\])?(?::\s?| - - -? ?)", re.IGNORECASE)
"""The host's name, after the name of a time zone where there is one, and the kernel: as RFC 3164 or 5424 writes it."""
_JSON = re.compile(r'\s*"(time|msg|MESSAGE|__REALTIME_TIMESTAMP)"\s?:\s*(["\d].*?),?\s*')
_REPEATED = re.compile(
    r"(?:message repeated (\d{1,9}) times: \[ ?(.*)\]|(?:\S+ )?last message repeated (\d{1,9}) times)\s*"
)
_MOST_REPEATED = 10_000
"""As often as one line is counted at most."""
_STAMP, _MESSAGE = "__REALTIME_TIMESTAMP", "MESSAGE"
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}m")
_PADDING = "\0\ufeff"
"""What comes before the first line after a crash, or before that of a file from another system."""
_FIRST_WORDS = "Linux version "
LONGEST = 8192
"""Characters of a line that are read; the kernel's own limit is below 1,024."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the kernel's log. Times of one `boot` can be compared."""

    at: float
    text: str
    boot: int = 0
    continued: bool = False
    """More of the record before, of which `text` has the beginning, too."""


def parse_records(lines: Iterable[str]) -> Iterator[Record]:
    """The records of a log, line by line. Never raises: what is no record is the text of one."""
    clock, boot, last = Clock(), 0, ""
    for line in lines:
        read = _read(_plain(line), clock)
        if read is None:
            continue
        at, text, part = read
        if text.startswith(_FIRST_WORDS):
            boot += 1
        repeated = _REPEATED.fullmatch(text) if "message repeated" in text else None
        if repeated:
            text = last if repeated[2] is None else repeated[2]
        last = (last + text)[:LONGEST] if part == "+" else text
        for _ in range(min(int(repeated[1] or repeated[3]), _MOST_REPEATED) if repeated else 1):
            yield from (Record(at, each, boot, part == "+") for each in last.split("\n"))


def _plain(line: str) -> str:
    line = line.strip(_PADDING).rstrip("\r\n")[:LONGEST]
    return _COLOUR.sub("", line) if "\x1b" in line else line


def _read(line: str, clock: Clock) -> tuple[float, str, str] | None:
    """A line's time, text and flag ("+" continues the record before); None for a line that only describes a record."""
    found = _KMSG.match(line) if line[:1].isdigit() else None
    if found:
        at = int(found[3]) / 1e6
        clock.set(at)
        return at, _ESCAPED.sub(_unescaped, line[found.end() :]), found[4][:1]
    if line[:1] == " " and _MORE.match(line):
        return None
    line = line.lstrip()
    if line[:1] == '"' and (member := _JSON.fullmatch(line)):
        return _of_json(member[1], member[2], clock)
    if line[:1] == "{" and _MESSAGE in line:
        return _of_journal(line, clock)
    if line.startswith(_STAMP + "="):
        _at_microseconds(line.partition("=")[2], clock)
        return None
    line = line.removeprefix(_MESSAGE + "=")
    rest = line[level.end() :] if line[:1] != "[" and (level := _LEVEL.match(line)) else line
    at, rest, timed = clock.split(rest)
    if "kernel" in rest[:300] and (prefix := _SYSLOG.match(rest)):
        rest = rest[prefix.end() :]
        # The kernel's own time may follow the date; the date counts, because it goes on after a reboot.
        rest = Clock().split(rest)[1]
    return at, rest if timed else rest.strip(), ""


def _of_json(name: str, value: str, clock: Clock) -> tuple[float, str, str] | None:
    """A member of the objects that `dmesg --json` and `journalctl -o json-pretty` write, a line each."""
    try:
        read = json.loads(value)
    except ValueError:
        return None
    if name in {"msg", _MESSAGE} and isinstance(read, str):
        return clock.split("")[0], read, ""
    if name == "time" and isinstance(read, float):
        clock.set(read)
    if name == _STAMP:
        _at_microseconds(str(read), clock)
    return None


def _of_journal(line: str, clock: Clock) -> tuple[float, str, str] | None:
    """An entry of the journal as an object. Only the kernel's own count."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return clock.split("")[0], line, ""
    message = entry.get(_MESSAGE)
    if isinstance(message, list):  # bytes that are no text
        message = bytes(one for one in message if isinstance(one, int) and 0 <= one < 256).decode(errors="replace")
    if not isinstance(message, str) or entry.get("_TRANSPORT", "kernel") != "kernel":
        return None
    _at_microseconds(str(entry.get(_STAMP, "")), clock)
    return clock.split("")[0], message, ""


def _at_microseconds(text: str, clock: Clock) -> None:
    if text.isascii() and text.isdigit() and len(text) < 20:
        clock.set(int(text) / 1e6)


def _unescaped(found: "re.Match[str]") -> str:
    return chr(int(found[1], 16))
