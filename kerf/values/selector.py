"""Conditions on devices: what a DeviceClass or a request for devices selects, as a value that cards are held against.

Only what all cards of a model have in common is known. A part that the device lacks makes a condition fail, as it does
in Kubernetes, unless the rest decides it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

Plain = str | bool | int | Fraction
_ORDERS = {"<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}


class Lacking(ValueError):
    """The device does not have what the condition reads, or it is of another type."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What is known of a device of Kerf's driver: its driver, its attributes and its capacity."""

    driver: str
    attributes: Mapping[str, Plain] = field(default_factory=dict)
    capacity: Mapping[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Term:
    """One node of a condition. `word` says what it does with its parts."""

    word: str
    parts: "tuple[Term | Plain, ...]" = ()

    def holds(self, device: DeviceFacts) -> bool:
        """Whether the device is selected."""
        try:
            return self.value(device) is True
        except Lacking:
            return False

    def value(self, device: DeviceFacts) -> object:
        """What it comes to. Raises Lacking."""
        match self.word:
            case "literal":
                return self.parts[0]
            case "list":
                return tuple(_term(part).value(device) for part in self.parts)
            case "driver":
                return device.driver
            case "attribute":
                return _known(device.attributes, self.parts[0])
            case "capacity":
                return _known(device.capacity, self.parts[0])
            case "lacking":
                raise Lacking(self.word)
            case "and" | "or":
                return self._both(device)
            case "has" | "orValue":
                return self._if_there(device)
            case _:
                return _applied(self.word, [_term(part).value(device) for part in self.parts])

    def _both(self, device: DeviceFacts) -> bool:
        """`false && error` is false and `true || error` is true, in either order."""
        decisive, lacking = self.word == "or", None
        for part in self.parts:
            try:
                found = _term(part).value(device)
            except Lacking as error:
                lacking = error
                continue
            if not isinstance(found, bool):
                raise Lacking(self.word)
            if found is decisive:
                return decisive
        if lacking is not None:
            raise lacking
        return not decisive

    def _if_there(self, device: DeviceFacts) -> object:
        try:
            found = _term(self.parts[0]).value(device)
        except Lacking:
            return False if self.word == "has" else _term(self.parts[1]).value(device)
        return True if self.word == "has" else found


def _term(part: "Term | Plain") -> Term:
    return part if isinstance(part, Term) else Term("literal", (part,))


def _known(found: Mapping[str, Plain], name: object) -> Plain:
    if not isinstance(name, str) or name not in found:
        raise Lacking(str(name))
    return found[name]


def _applied(word: str, values: list[object]) -> object:
    """An operator or a method on values. Raises Lacking for values of the wrong types."""
    first = values[0]
    if word == "not" and isinstance(first, bool):
        return not first
    if word == "lowerAscii" and isinstance(first, str):
        return first.lower()
    if len(values) < 2:
        raise Lacking(word)
    second = values[1]
    if word == "in" and isinstance(second, tuple):
        return any(type(each) is type(first) and each == first for each in second)
    if word in {"==", "!="}:
        if type(first) is not type(second):
            raise Lacking(word)
        return (first == second) is (word == "==")
    if isinstance(first, str) and isinstance(second, str):
        return _of_texts(word, first, second)
    if isinstance(first, bool) or isinstance(second, bool) or type(first) is not type(second):
        raise Lacking(word)
    if isinstance(first, int | Fraction) and isinstance(second, int | Fraction):
        return _of_numbers(word, first, second)
    raise Lacking(word)


def _of_texts(word: str, first: str, second: str) -> bool:
    match word:
        case "contains":
            return second in first
        case "startsWith":
            return first.startswith(second)
        case "endsWith":
            return first.endswith(second)
        case _:
            raise Lacking(word)


def _of_numbers(word: str, first: int | Fraction, second: int | Fraction) -> bool | int:
    order = (first > second) - (first < second)
    match word:
        case "compareTo":
            return order
        case "isGreaterThan":
            return order > 0
        case "isLessThan":
            return order < 0
        case _ if word in _ORDERS:
            return order in _ORDERS[word]
        case _:
            raise Lacking(word)
