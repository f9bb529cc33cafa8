"""The part of CEL that selectors of devices are written in: parsed and evaluated. Pure.

Kubernetes ends a whole claim where a selector reads what a device does not have, so `Missing` is no "false". As in CEL,
`false && missing` is false and `true || missing` is true, whichever side comes first.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from kerf.values.units import parse_quantity

Value = object
Node = Callable[[Mapping[str, Value]], Value]
"""Evaluates a part of an expression with these variables. Raises Missing, Unreadable."""
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<sign>\|\||&&|==|!=|<=|>=|\.\?|\[\?|[<>!+\-*/%?:.,()\[\]]))"""
)
_LONGEST = 10_240
"""As the API server's own bound on the expression of a selector."""
_DEEPEST, _MOST_PARTS = 40, 400


class Unreadable(Exception):
    """The expression is not one that kerf reads, or it is none of CEL."""


class Missing(Exception):
    """The expression reads an attribute or a capacity that the device does not have."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount of a capacity."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Maybe:
    """What `.?name` gives: a value, or none."""

    value: Value = None
    there: bool = False


@lru_cache(maxsize=512)
def parse(expression: str) -> Node:
    """The expression, ready to be evaluated. Raises Unreadable."""
    if len(expression) > _LONGEST:
        raise Unreadable(f"it has {len(expression):,} characters; at most {_LONGEST:,} are allowed")
    parser = _Parser(_tokens(expression))
    node = parser.choice()
    parser.end()
    return node


def holds(expression: str, variables: Mapping[str, Value]) -> bool:
    """Whether a selector is true. Raises Missing, Unreadable."""
    found = parse(expression)(variables)
    if not isinstance(found, bool):
        raise Unreadable("it does not say true or false")
    return found


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"it cannot be read at {text[at:].strip()[:20]!r}")
        kind = str(match.lastgroup)
        found.append((kind, match.group(kind)))
        at = match.end()
        if len(found) > _MOST_PARTS:
            raise Unreadable(f"it has more than {_MOST_PARTS} parts, which kerf does not read")
    return found


class _Parser:
    """Recursive descent, by CEL's precedence."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise Unreadable(f"{self._tokens[self._at][1]!r} is not expected")

    def choice(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Unreadable("it is nested too deeply")
        found = self._any()
        if self._takes("?"):
            yes = self.choice()
            self._must(":")
            no, condition = self.choice(), found
            found = lambda v: yes(v) if _truth(condition(v)) else no(v)  # noqa: E731
        self._depth -= 1
        return found

    # ---- inside
    def _any(self) -> Node:
        found = self._all()
        while self._takes("||"):
            found = _either(found, self._all(), decides=True)
        return found

    def _all(self) -> Node:
        found = self._relation()
        while self._takes("&&"):
            found = _either(found, self._relation(), decides=False)
        return found

    def _relation(self) -> Node:
        found = self._sum()
        while True:
            if sign := next((each for each in _COMPARED if self._takes(each)), ""):
                found = _compared(sign, found, self._sum())
            elif self._peek() == ("name", "in"):
                self._at += 1
                one, many = found, self._sum()
                found = lambda v, one=one, many=many: one(v) in _many(many(v))  # type: ignore[misc]  # noqa: E731
            else:
                return found

    def _sum(self) -> Node:
        found = self._unary()
        while sign := next((each for each in _NUMBERS if self._takes(each)), ""):
            found = _counted(sign, found, self._unary())
        return found

    def _unary(self) -> Node:
        if self._takes("!"):
            inner = self._unary()
            return lambda v: not _truth(inner(v))
        if self._takes("-"):
            number = self._unary()
            return lambda v: -_number(number(v))
        return self._member()

    def _member(self) -> Node:
        found = self._primary()
        while True:
            if self._takes("."):
                name = self._name()
                found = (
                    _method(name, found, self._arguments()) if self._takes("(") else _selected(found, _constant(name))
                )
            elif self._takes(".?"):
                found = _maybe(found, _constant(self._name()))
            elif self._takes("[?"):
                found = _maybe(found, self.choice())
                self._must("]")
            elif self._takes("["):
                found = _selected(found, self.choice())
                self._must("]")
            else:
                return found

    def _primary(self) -> Node:
        kind, text = self._peek()
        self._at += 1
        if kind == "number":
            return _constant(float(text) if "." in text else int(text))
        if kind == "text":
            return _constant(re.sub(r"\\(.)", r"\1", text[1:-1]))
        if kind == "name":
            return self._named(text)
        if text == "(":
            found = self.choice()
            self._must(")")
            return found
        if text == "[":
            parts = self._arguments("]")
            return lambda v: [part(v) for part in parts]
        raise Unreadable(f"{text!r} is not expected" if text else "it ends too early")

    def _named(self, name: str) -> Node:
        if name in {"true", "false"}:
            return _constant(name == "true")
        if not self._takes("("):
            return lambda v: _variable(v, name)
        parts = self._arguments()
        if name == "has" and len(parts) == 1:
            return _has(parts[0])
        if name in _FUNCTIONS and len(parts) == 1:
            return lambda v: _FUNCTIONS[name](parts[0](v))
        raise Unreadable(f"kerf does not read the function {name}")

    def _arguments(self, end: str = ")") -> list[Node]:
        parts: list[Node] = []
        while not self._takes(end):
            if parts:
                self._must(",")
            parts.append(self.choice())
        return parts

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _takes(self, sign: str) -> bool:
        taken = self._peek() == ("sign", sign)
        self._at += taken
        return taken

    def _must(self, sign: str) -> None:
        if not self._takes(sign):
            raise Unreadable(f"{sign!r} is missing")

    def _name(self) -> str:
        kind, text = self._peek()
        if kind != "name":
            raise Unreadable("a name is missing after the point")
        self._at += 1
        return text


def _constant(value: Value) -> Node:
    return lambda _: value


def _either(one: Node, other: Node, *, decides: bool) -> Node:
    """`||` where `decides` is true, else `&&`: the side that decides wins over one that is missing."""

    def found(variables: Mapping[str, Value]) -> Value:
        missing: Missing | None = None
        for side in (one, other):
            try:
                if _truth(side(variables)) is decides:
                    return decides
            except Missing as error:
                missing = error
        if missing is not None:
            raise missing
        return not decides

    return found


def _compared(sign: str, one: Node, other: Node) -> Node:
    compare = _COMPARED[sign]

    def found(variables: Mapping[str, Value]) -> Value:
        left, right = _plain(one(variables)), _plain(other(variables))
        if sign in {"==", "!="}:
            return compare(left, right)
        if type(left) is type(right) or (isinstance(left, int | float) and isinstance(right, int | float)):
            return compare(left, right)
        raise Unreadable(f"it compares {left!r} with {right!r}")

    return found


def _counted(sign: str, one: Node, other: Node) -> Node:
    def found(variables: Mapping[str, Value]) -> Value:
        left, right = one(variables), other(variables)
        if sign == "+" and isinstance(left, str) and isinstance(right, str):
            return left + right
        return _NUMBERS[sign](_number(left), _number(right))

    return found


def _selected(of: Node, key: Node) -> Node:
    def found(variables: Mapping[str, Value]) -> Value:
        value, name = of(variables), key(variables)
        if isinstance(value, Maybe):
            return _inside(value.value, name) if value.there else Maybe()
        if isinstance(value, list) and isinstance(name, int) and 0 <= name < len(value):
            return value[name]
        inside = _inside(value, name)
        if not inside.there:
            raise Missing(str(name))
        return inside.value

    return found


def _maybe(of: Node, key: Node) -> Node:
    def found(variables: Mapping[str, Value]) -> Value:
        value = of(variables)
        if isinstance(value, Maybe):
            return _inside(value.value, key(variables)) if value.there else value
        return _inside(value, key(variables))

    return found


def _inside(value: Value, name: Value) -> Maybe:
    if not isinstance(value, Mapping):
        raise Unreadable(f"{name!r} is read of {value!r}, which has no parts")
    return Maybe(value[name], there=True) if name in value else Maybe()


def _has(part: Node) -> Node:
    def found(variables: Mapping[str, Value]) -> Value:
        try:
            part(variables)
        except Missing:
            return False
        return True

    return found


def _method(name: str, of: Node, parts: list[Node]) -> Node:
    method = _METHODS.get((name, len(parts)))
    if method is None:
        raise Unreadable(f"kerf does not read the function {name}")

    def found(variables: Mapping[str, Value]) -> Value:
        try:
            return method(of(variables), *(part(variables) for part in parts))
        except (TypeError, AttributeError, re.error) as error:
            raise Unreadable(f"{name} cannot be asked there") from error

    return found


def _variable(variables: Mapping[str, Value], name: str) -> Value:
    if name not in variables:
        raise Unreadable(f"it names {name}, which is nothing")
    return variables[name]


def _truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise Unreadable(f"{value!r} is neither true nor false")
    return value


def _number(value: Value) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(f"{value!r} is no number")
    return value


def _many(value: Value) -> list[Value] | Mapping[str, Value]:
    if not isinstance(value, list | Mapping):
        raise Unreadable(f"{value!r} is no list")
    return value


def _plain(value: Value) -> Value:
    return value.value if isinstance(value, Quantity) else value


def _quantity(text: Value) -> Quantity:
    try:
        return Quantity(parse_quantity(text))
    except ValueError as error:
        raise Unreadable(str(error)) from error


def _size(value: Value) -> int:
    if not isinstance(value, str | list | Mapping):
        raise Unreadable(f"{value!r} has no size")
    return len(value)


def _text_method(method: Callable[[str, str], bool]) -> Callable[..., Value]:
    def found(text: Value, part: Value) -> Value:
        if not (isinstance(text, str) and isinstance(part, str)):
            raise TypeError
        return method(text, part)

    return found


_COMPARED: Mapping[str, Callable[..., bool]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_NUMBERS: Mapping[str, Callable[..., int | float]] = {"+": operator.add, "-": operator.sub}
_FUNCTIONS: Mapping[str, Callable[[Value], Value]] = {"quantity": _quantity, "size": _size}
_METHODS: Mapping[tuple[str, int], Callable[..., Value]] = {
    ("contains", 1): _text_method(lambda text, part: part in text),
    ("startsWith", 1): _text_method(str.startswith),
    ("endsWith", 1): _text_method(str.endswith),
    ("matches", 1): _text_method(lambda text, part: re.search(part, text) is not None),
    ("lowerAscii", 0): lambda text: text.lower(),
    ("upperAscii", 0): lambda text: text.upper(),
    ("size", 0): _size,
    ("orValue", 1): lambda maybe, other: maybe.value if maybe.there else other,
    ("hasValue", 0): lambda maybe: maybe.there,
    ("compareTo", 1): lambda one, other: (one.value > other.value) - (one.value < other.value),
    ("isGreaterThan", 1): lambda one, other: one.value > other.value,
    ("isLessThan", 1): lambda one, other: one.value < other.value,
}
