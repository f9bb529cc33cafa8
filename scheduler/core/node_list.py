"""Lists of node names as kube-scheduler sends them, read and written as JSON text without a string for each name.

A filter at 5,000 nodes carries 5,000 names three times in each direction. To make that many strings and objects costs
more than to decide; here a name is a number, and a list of names an array of numbers.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import overload

import numpy as np
import orjson
from numpy.typing import NDArray

from scheduler.core.columns import Ints

Bytes = NDArray[np.uint8]
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
"""What the name of a node is made of; JSON writes it as it is."""
_LONGEST = 253
_DIGITS = 4
MOST_SCORE = 10**_DIGITS - 1


class Roster:
    """Numbers names in the order in which they are first seen, and knows the text of each. For one thread."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[bytes, int] = {}
        self._written: tuple[Bytes, Bytes] | None = None
        """What `json` and `scored` write of each name, until there are more of them."""

    def read(self, text: bytes) -> "NodeList | None":
        """A JSON list of distinct texts without spaces; None for anything but plain names."""
        parts = text[2:-2].split(b'","')
        if text[:2] != b'["' or text[-2:] != b'"]':
            return NodeList(self, np.zeros(0, np.int64), text) if text == b"[]" else None
        try:
            found = itemgetter(*parts)(self._numbers) if len(parts) > 1 else (self._numbers[parts[0]],)
        except KeyError:
            if not self._learn(parts):
                return None
            found = tuple(self._numbers[part] for part in parts)
        return NodeList(self, np.array(found, np.int64), text)

    def add(self, name: str) -> int:
        """The number of a name that need not be plain as long as no list is written as text."""
        return self._add(name.encode())

    def number(self, name: str) -> int:
        """A name's number, -1 for one that was never read."""
        return self._numbers.get(name.encode(), -1)

    def json(self, numbers: Ints) -> bytes:
        """A JSON list of names."""
        return b"[%s]" % self._joined(numbers)[:-1]

    def entries(self, numbers: Ints, value: str) -> bytes:
        """Members of a JSON object that give each name the same value; empty for no names."""
        told = b'":' + orjson.dumps(value) + b","
        return self._joined(numbers).replace(b'",', told)[:-1]

    def scored(self, numbers: Ints, scores: Ints) -> bytes:
        """kube-scheduler's HostPriorityList. Scores are whole numbers from 0 to MOST_SCORE."""
        if not len(numbers):
            return b"[]"
        lines = self._tables()[1][numbers]
        rest = scores
        for place in range(_DIGITS):
            column = lines.shape[1] - 3 - place
            lines[:, column] = rest % 10 + ord("0")
            if place:
                lines[rest == 0, column] = 0
            rest = rest // 10
        return b"[%s]" % lines.tobytes().translate(None, b"\0")[:-1]

    # ---- inside
    def _joined(self, numbers: Ints) -> bytes:
        return self._tables()[0][numbers].tobytes().translate(None, b"\0")

    def _add(self, part: bytes) -> int:
        number = self._numbers.get(part)
        if number is None:
            number = self._numbers[part] = len(self.names)
            self.names.append(part.decode())
            self._written = None
        return number

    def _learn(self, parts: list[bytes]) -> bool:
        fresh = [part for part in dict.fromkeys(parts) if part not in self._numbers]
        if not all(0 < len(part) <= _LONGEST and _PLAIN.issuperset(part) for part in fresh):
            return False
        for part in fresh:
            self._add(part)
        return True

    def _tables(self) -> tuple[Bytes, Bytes]:
        if self._written is None:
            quoted = _table([b'"%s",' % name for name in self._numbers])
            scores = [b'{"Host":"%s","Score":' % name for name in self._numbers]
            self._written = quoted, _table(scores, b"\0" * _DIGITS + b"},")
        return self._written


class NodeList(Sequence[str]):
    """Node names, made into strings only where someone asks for one."""

    def __init__(self, roster: Roster, numbers: Ints, text: bytes = b"") -> None:
        self.roster = roster
        self.numbers = numbers
        self._text = text

    @property
    def text(self) -> bytes:
        """The list as JSON."""
        if not self._text:
            self._text = self.roster.json(self.numbers)
        return self._text

    def take(self, places: Ints) -> "NodeList":
        """The names at these places; the list itself where that is all of them."""
        if len(places) == len(self.numbers):
            return self
        return NodeList(self.roster, self.numbers[places])

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "NodeList": ...
    def __getitem__(self, place: int | slice) -> "str | NodeList":
        if isinstance(place, slice):
            return NodeList(self.roster, self.numbers[place])
        return self.roster.names[int(self.numbers[place])]

    def __iter__(self) -> Iterator[str]:
        names = self.roster.names
        return (names[number] for number in self.numbers.tolist())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool((self.numbers == self.roster.number(name)).any())

    def index(self, name: str, start: int = 0, stop: int | None = None) -> int:
        """The first place of a name. Raises ValueError."""
        found = np.flatnonzero(self.numbers[start:stop] == self.roster.number(name))
        if not len(found):
            raise ValueError(name)
        return int(found[0]) + start

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def take(names: Sequence[str], places: Ints) -> Sequence[str]:
    """The names at these places, of a list of either kind."""
    return names.take(places) if isinstance(names, NodeList) else [names[i] for i in places.tolist()]


def _table(lines: list[bytes], end: bytes = b"") -> Bytes:
    """A row a line, filled up with NUL, which no line contains, and then the end."""
    if not lines:
        return np.zeros((0, 1), np.uint8)
    width = max(map(len, lines)) + len(end)
    text = b"".join(line.ljust(width - len(end), b"\0") + end for line in lines)
    return np.frombuffer(text, np.uint8).reshape(len(lines), width)
