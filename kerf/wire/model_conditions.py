"""Selectors of devices as conditions on models of cards. Pure.

What a plan over models cannot know is refused by name.
"""

from collections.abc import Mapping

from kerf.values.cel import FUNCTIONS, METHODS
from kerf.values.pattern import Unmatched, matches
from kerf.values.selector import LAZY, Plain, Term
from kerf.wire.cel import parse_cel
from kerf.wire.devices import DRIVER

_SINGLE = frozenset({"uuid", "bus", "numa", "index", "driver"})
"""Attributes in which cards of a model differ."""
_LONGEST_VALUE = 64
"""Of an attribute that is a text."""
_WHOLE = f"it reads a map as a whole: name one part, such as device.attributes['{DRIVER}'].model"
_Path = tuple[str, ...]
"""The names by which a part of the device is read: ("device", "attributes", "gpu.kerf.dev", "model")."""
_Variables = Mapping[str, _Path]
"""Those that are bound, each with what it is of the device; an empty path for any other value."""


def parse_condition(expression: str) -> Term:
    """Read a selector that all cards of a model answer alike. Raises ValueError with what is not read, and why."""
    found = parse_cel(expression)
    _check(found, {"device": ("device",)})
    return found


def _check(term: Term, known: _Variables) -> None:
    path = _path(term, known)
    if path:
        _check_path(path)
        return
    match term.word:
        case "name":
            if term.parts[0] not in known:
                raise ValueError(f"{term.parts[0]} is not read")
        case "bind":
            value = _term(term, 1)
            path = _path(value, known)
            if len(path) not in {1, 2, 3}:
                _check(value, known)
            _check(_term(term, 2), {**known, str(term.parts[0]): path})
        case "each" | "if there":
            over, *inner = term.terms
            _check(over, known)
            for part in inner:
                _check(part, {**known, str(term.parts[1]): ()})
        case "compare" if term.parts[0] == "in" and _path(_term(term, 2), known):
            _check(Term("item", (_term(term, 2), _term(term, 1))), known)
        case _:
            _check_call(term)
            for part in term.terms:
                _check(part, known)


def _path(term: Term, known: _Variables) -> _Path:
    """What a term is of the device; empty where it is computed."""
    if term.word == "name":
        return known.get(str(term.parts[0]), ())
    if term.word not in {"item", "item?", "has"}:
        return ()
    path, key = _path(_term(term, 0), known), _term(term, 1)
    if not path or len(path) > 3:
        return ()
    if key.word != "literal" or not isinstance(key.parts[1], str):
        raise ValueError("it computes the name of an attribute")
    return (*path, key.parts[1])


def _check_path(path: _Path) -> None:
    kind = path[1] if len(path) > 1 else ""
    if kind in {"driver", "allowMultipleAllocations"} and len(path) == 2:
        return
    if kind and kind not in {"attributes", "capacity"}:
        raise ValueError(f"device.{kind} is not read")
    if len(path) < 4:
        raise ValueError(_WHOLE)
    if path[1:3] == ("attributes", DRIVER) and path[3] in _SINGLE:
        raise ValueError(f"{path[3]} belongs to one card, and a plan chooses among models")


def _check_call(term: Term) -> None:
    if term.word not in {"call", "method"}:
        return
    name, count = str(term.parts[0]), len(term.parts) - (1 if term.word == "call" else 2)
    if (name, count) not in (FUNCTIONS if term.word == "call" else METHODS) and LAZY.get(name) != count:
        raise ValueError(f"{name} is not read")
    if name == "matches":
        pattern = _term(term, 2)
        if pattern.word != "literal" or not isinstance(pattern.parts[1], str):
            raise ValueError("it computes a pattern")
        try:
            matches(pattern.parts[1], " " * _LONGEST_VALUE)
        except Unmatched as error:
            raise ValueError(str(error)) from error


def _term(term: Term, index: int) -> Term:
    part: Term | Plain = term.parts[index]
    assert isinstance(part, Term), "a part of this word is a term"
    return part
