"""Faults in the lines of NVIDIA's kernel module, in every shape that it writes.

`NVRM: Xid (PCI:0000:5d:00 GPU-I:05 GPU-CI:00): 94, pid=7194, name=python3, …`, in which everything but an address and
the code may be missing. A card off the bus is also reported without a code, in one line or in three.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kerf.faults.bus import PATTERN, parse_bus
from kerf.faults.records import Record, parse_records
from kerf.faults.xid import OFF_THE_BUS
from kerf.values.fault import Fault, Signal

_XID = re.compile(
    rf"NVRM:\s*Xid\s*\((?:PCI:)?(?P<bus>{PATTERN})(?P<where>[^)]*)\)\s*:?\s*(?P<code>\d{{1,5}})\b", re.IGNORECASE
)
_INSTANCE = re.compile(r"GPU-I:\s*(\d+)", re.IGNORECASE)
_PID = re.compile(r"\bpid=['\"]?(\d{1,10})\b", re.IGNORECASE)
_GONE = re.compile(r"fallen\s+off\s+the\s+bus", re.IGNORECASE)
_HEAD = re.compile(rf"NVRM:\s*The NVIDIA GPU\s+(?:at\s+)?(?:PCI:)?({PATTERN})", re.IGNORECASE)
_GONE_LINE = re.compile(rf"NVRM:.*?\bGPU\s+(?:at\s+)?(?:PCI:)?({PATTERN})\b.*?fallen\s+off\s+the\s+bus", re.IGNORECASE)
_OTHERWISE = re.compile(r"\bis not supported|\bnot supported by|\brequires|\bignoring|\bprobe", re.IGNORECASE)
_NEXT = re.compile(r"(?=NVRM:\s*(?:Xid|GPU)\b)", re.IGNORECASE)
"""Where a message begins: bursts are written faster than lines end, so one line may have several."""
_WRAPPED = re.compile(r"(?:\(PCI ID:|installed in this system|fallen\s+off\s+the\s+bus)", re.IGNORECASE)
"""How the lines of a drop begin where a tool has taken the module's name from all but the first."""
_OF_A_PROGRAM = re.compile(r"(?<![\w./@-])(?!kernel\[)[\w./@-]{1,64}\[\d{1,10}\]:\s", re.IGNORECASE)
"""What syslog writes before a line of a program, which may quote the kernel's."""
_QUOTING = re.compile(r"[\"'=/]")
"""What comes before words that a line only quotes: tenants name the files in the kernel's own audit lines."""
_LONGEST_HEAD = 12
"""Lines of the module after which the beginning of a message that never ended is forgotten."""


@dataclass(slots=True)
class _Head:
    """The first line of a message of several lines."""

    bus: str
    record: Record
    lines: int = 0


def parse_log(lines: Iterable[str]) -> Iterator[tuple[int, Fault]]:
    """Every fault in a kernel log, with the boot in which it happened. Never raises."""
    open_heads: deque[_Head] = deque()
    reported = False
    for record in parse_records(lines):
        at = record.text.lower().find("nvrm:")
        if at < 0 and open_heads and _WRAPPED.match(record.text.lstrip()):
            at = 0
        if at < 0 or (record.continued and reported) or _is_quoted(record.text, at):
            continue
        faults = list(_of_line(record, record.text[at:])) or list(_of_several(record, open_heads))
        reported = bool(faults)
        for fault in faults:
            yield record.boot, fault


def _is_quoted(text: str, at: int) -> bool:
    """Whether the words at a place are another one's quotation of the module."""
    return bool(_QUOTING.search(text, 0, at) or _OF_A_PROGRAM.search(text, 0, at))


def _of_line(record: Record, line: str) -> Iterator[Fault]:
    """The faults that one line reports by itself."""
    for part in _NEXT.split(line):
        text = part.strip()
        xid = _XID.search(text)
        gone = None if xid or not _GONE.search(text) else _GONE_LINE.match(text)
        if xid:
            instance, pid = _INSTANCE.search(xid["where"]), _PID.search(text)
            yield Fault(
                record.at,
                parse_bus(xid["bus"]),
                int(xid["code"]),
                Signal.KERNEL,
                text,
                instance[1] if instance else "",
                int(pid[1]) if pid else 0,
            )
        elif gone:
            yield Fault(record.at, parse_bus(gone[1]), OFF_THE_BUS, Signal.KERNEL_BUS, text)


def _of_several(record: Record, heads: deque[_Head]) -> Iterator[Fault]:
    """The fault that this line completes. The messages of several cards may interleave, each in its own order."""
    for head in heads:
        head.lines += 1
    while heads and heads[0].lines > _LONGEST_HEAD:
        heads.popleft()
    began = _HEAD.search(record.text)
    if began:
        heads.append(_Head(parse_bus(began[1]), record))
    elif heads and _GONE.search(record.text):
        head = heads.popleft()
        text = f"{head.record.text.strip()} … {record.text.strip()}"
        yield Fault(head.record.at, head.bus, OFF_THE_BUS, Signal.KERNEL_BUS, text)
    elif heads and _OTHERWISE.search(record.text):
        heads.popleft()
