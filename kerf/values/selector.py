"""Selectors of devices as trees, and what they come to for a device. Pure.

Kubernetes ends a whole claim where a selector reads what a device does not have, so Lacking is no "false". As in CEL,
`false && lacking` is false and `true || lacking` is true, whichever side comes first.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

from kerf.values.cel import (
    FUNCTIONS,
    METHODS,
    Failed,
    Lacking,
    Maybe,
    Quantity,
    Unread,
    Value,
    contains,
    counted,
    equal,
    negative,
    ordered,
    shown,
    truth,
)

Plain = str | bool | int | float | None
MOST_STEPS = 100_000
"""Of one evaluation. The API server's bound is on an estimate of the same."""
LAZY = {"orValue": 1, "or": 1}
"""Methods whose argument counts only where the optional has no value."""


@dataclass(frozen=True, slots=True)
class Term:
    """One node of a selector. `word` says what it does with its parts."""

    word: str
    parts: "tuple[Term | Plain, ...]" = ()
    depth: int = field(default=0, compare=False, repr=False)

    def __post_init__(self) -> None:
        deepest = max((part.depth for part in self.parts if isinstance(part, Term)), default=0)
        object.__setattr__(self, "depth", deepest + 1)

    @property
    def terms(self) -> "Iterator[Term]":
        """The parts that are terms."""
        return (part for part in self.parts if isinstance(part, Term))


def literal(value: Plain) -> Term:
    """A value by itself. Its type is a part, because 1 and true are one key to Python."""
    return Term("literal", (type(value).__name__, value))


@dataclass(frozen=True)
class DeviceFacts:
    """What is known of a device of Kerf's driver."""

    driver: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    capacity: Mapping[str, Fraction] = field(default_factory=dict)
    shared: bool = False

    @cached_property
    def variables(self) -> Mapping[str, Value]:
        """What a selector reads."""
        amounts = {name: Quantity(value) for name, value in self.capacity.items()}
        parts = {"attributes": _Domains({self.driver: self.attributes}), "capacity": _Domains({self.driver: amounts})}
        return {"device": {"driver": self.driver, "allowMultipleAllocations": self.shared, **parts}}


class _Domains(dict[str, Any]):
    """A domain of which a device says nothing has no names."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __missing__(self, name: str) -> Mapping[str, Any]:
        return {}


def selects(term: Term, device: DeviceFacts) -> bool:
    """Whether the device is selected. Raises Failed, Lacking and Unread."""
    found = _Evaluation().of(term, device.variables)
    if not isinstance(found, bool):
        raise Failed(f"it says {shown(found)} instead of true or false")
    return found


def holds(term: Term, device: DeviceFacts) -> bool:
    """Whether the device is selected; not where Kubernetes would end the claim, either."""
    try:
        return selects(term, device)
    except (Failed, Unread):
        return False


Scope = Mapping[str, Value]


class _Evaluation:
    """One evaluation, with the steps that it has taken."""

    def __init__(self) -> None:
        self._steps = 0

    def of(self, term: Term, scope: Scope) -> Value:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise Unread(f"it takes more than {MOST_STEPS:,} steps")
        return _WORDS[term.word](self, term.parts, scope)

    # ---- words
    def literal(self, parts: tuple[Any, ...], _: Scope) -> Value:
        return parts[1]

    def name(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        if parts[0] not in scope:
            raise Failed(f"it names {parts[0]}, which is nothing")
        return scope[parts[0]]

    def list(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        return tuple(self.of(part, scope) for part in parts)

    def map(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        values = [self.of(part, scope) for part in parts]
        if any(isinstance(key, float) or not isinstance(key, str | int) for key in values[::2]):
            raise Failed("a key of a map is neither a text, a whole number nor true or false")
        if any(isinstance(key, bool) for key in values[::2]):
            raise Unread("a map has true or false as a key")
        return dict(zip(values[::2], values[1::2], strict=True))

    def item(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        value, key = self.of(parts[0], scope), self.of(parts[1], scope)
        if isinstance(value, Maybe):
            return _inside(value.value, key) if value.there else value
        found = _inside(value, key)
        if not found.there:
            raise Lacking(str(key))
        return found.value

    def maybe_item(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        value = self.of(parts[0], scope)
        if isinstance(value, Maybe):
            return _inside(value.value, self.of(parts[1], scope)) if value.there else value
        return _inside(value, self.of(parts[1], scope))

    def has(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        found = self.maybe_item(parts, scope)
        assert isinstance(found, Maybe), "an item that may be there"
        return found.there

    def not_(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        return not truth(self.of(parts[0], scope))

    def negative(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        return negative(self.of(parts[0], scope))

    def and_(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        return not _decided(partial(self._says, part, scope, False) for part in parts)

    def or_(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        return _decided(partial(self._says, part, scope, True) for part in parts)

    def choose(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        return self.of(parts[1] if truth(self.of(parts[0], scope)) else parts[2], scope)

    def compare(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        sign, one, other = parts[0], self.of(parts[1], scope), self.of(parts[2], scope)
        if sign in {"==", "!="}:
            return equal(one, other) is (sign == "==")
        return contains(other, one) if sign == "in" else ordered(sign, one, other)

    def count(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        return counted(parts[0], self.of(parts[1], scope), self.of(parts[2], scope))

    def call(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        return self._apply(FUNCTIONS, parts[0], parts[1:], scope)

    def method(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        name, target = parts[0], parts[1]
        if LAZY.get(name) != len(parts) - 2:
            return self._apply(METHODS, name, parts[1:], scope)
        value = self.of(target, scope)
        if not isinstance(value, Maybe):
            raise Failed(f"{name}: {shown(value)} is no optional")
        if value.there:
            return value if name == "or" else value.value
        return self.of(parts[2], scope)

    def bind(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        name, value, body = parts
        return self.of(body, {**scope, name: self.of(value, scope)})

    def each(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        """The macros all, exists, exists_one, filter and map, over a list or the keys of a map."""
        kind, name, *terms = parts
        many = self.of(terms[0], scope)
        if not isinstance(many, tuple | Mapping):
            raise Failed(f"{kind}: {shown(many)} is neither a list nor a map")
        scopes = ({**scope, name: value} for value in many)
        body = terms[-1]
        if kind in {"all", "exists"}:
            wanted = kind == "exists"
            return _decided(partial(self._says, body, inner, wanted) for inner in scopes) is wanted
        if kind == "map":
            kept = (inner for inner in scopes if len(terms) == 2 or truth(self.of(terms[1], inner)))
            return tuple(self.of(body, inner) for inner in kept)
        found = tuple(inner[name] for inner in scopes if truth(self.of(body, inner)))
        return found if kind == "filter" else len(found) == 1

    def if_there(self, parts: tuple[Any, ...], scope: Scope) -> Value:
        """Whether or not the optional has a value: optMap and optFlatMap."""
        kind, name, value, body = parts
        found = self.of(value, scope)
        if not isinstance(found, Maybe):
            raise Failed(f"{kind}: {shown(found)} is no optional")
        if not found.there:
            return found
        made = self.of(body, {**scope, name: found.value})
        return Maybe(made, there=True) if kind == "optMap" else made

    def _says(self, term: Term, scope: Scope, wanted: bool) -> bool:
        return truth(self.of(term, scope)) is wanted

    def _apply(
        self, known: Mapping[Any, Callable[..., Value]], name: str, terms: tuple[Any, ...], scope: Scope
    ) -> Value:
        function = known.get((name, len(terms) - (known is METHODS)))
        if function is None:
            raise Unread(f"kerf does not read the function {name}")
        values = [self.of(term, scope) for term in terms]
        try:
            return function(*values)
        except Failed as error:
            raise Failed(f"{name}: {error}") from error


def _decided(sides: Iterator[Callable[[], bool]]) -> bool:
    """Whether a side is true. A side that is wins over one that fails."""
    wrong: ValueError | None = None
    for side in sides:
        try:
            if side():
                return True
        except Unread as error:
            wrong = error
        except Failed as error:
            wrong = wrong or error
    if wrong is not None:
        raise wrong
    return False


def _inside(value: Value, key: Value) -> Maybe:
    if isinstance(value, tuple) and isinstance(key, int) and not isinstance(key, bool):
        return Maybe(value[key], there=True) if 0 <= key < len(value) else Maybe()
    if not isinstance(value, Mapping):
        raise Failed(f"{shown(key)} is read of {shown(value)}, which has no parts")
    plain = isinstance(key, str | int) and not isinstance(key, bool)
    return Maybe(value[key], there=True) if plain and key in value else Maybe()


_WORDS: Mapping[str, Callable[..., Value]] = {
    "literal": _Evaluation.literal, "name": _Evaluation.name, "list": _Evaluation.list, "map": _Evaluation.map,
    "item": _Evaluation.item, "item?": _Evaluation.maybe_item, "has": _Evaluation.has, "not": _Evaluation.not_,
    "negative": _Evaluation.negative, "and": _Evaluation.and_, "or": _Evaluation.or_, "choose": _Evaluation.choose,
    "compare": _Evaluation.compare, "count": _Evaluation.count, "call": _Evaluation.call,
    "method": _Evaluation.method, "bind": _Evaluation.bind, "each": _Evaluation.each,
    "if there": _Evaluation.if_there,
}  # fmt: skip
