"""What CEL computes with in selectors of devices: its values, and its functions and methods by name. Pure.

A function that is not here is not read. Those of Kubernetes' libraries that are: quantities, texts, lists, optionals.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from kerf.values.pattern import Unmatched, matches
from kerf.values.units import parse_quantity

Value = object
"""A bool, int, float, str, None, tuple, Mapping, Quantity or Maybe."""
LEAST, MOST = -(2**63), 2**63 - 1
LONGEST_TEXT = 65_536


class Failed(ValueError):
    """Kubernetes ends a claim with a selector that comes to this: the message is what is wrong."""


class Lacking(Failed):
    """The device does not have what the selector reads: the message is its name."""


class Unread(ValueError):
    """kerf does not read a part of the selector, so it cannot say what it comes to."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount of a capacity."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Maybe:
    """What `.?name` gives: a value, or none."""

    value: Value = None
    there: bool = False


def truth(value: Value) -> bool:
    """The value as true or false. Raises Failed."""
    if not isinstance(value, bool):
        raise Failed(f"{shown(value)} is neither true nor false")
    return value


def shown(value: Value) -> str:
    """A value for people, in a few characters."""
    if isinstance(value, Quantity):
        return f"a quantity of {value.value}"
    return f"{str(value).lower() if isinstance(value, bool) else value!r}"[:60]


def equal(one: Value, other: Value) -> bool:
    """As CEL compares: numbers by value, and values of different types differ. Raises Failed for quantities."""
    if isinstance(one, Quantity) is not isinstance(other, Quantity):
        raise Failed(f"it compares {shown(one)} with {shown(other)}")
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return len(one) == len(other) and all(key in other and equal(one[key], other[key]) for key in one)
    if isinstance(one, Maybe) and isinstance(other, Maybe):
        return one.there is other.there and (not one.there or equal(one.value, other.value))
    return one == other


def ordered(sign: str, one: Value, other: Value) -> bool:
    """Whether `one < other`, or another sign. Raises Failed for what has no order, quantities among it."""
    texts, numbers = isinstance(one, str) and isinstance(other, str), _number(one) and _number(other)
    if not texts and not numbers and not (isinstance(one, bool) and isinstance(other, bool)):
        hint = "; compare quantities by compareTo, isLessThan, isGreaterThan" if isinstance(one, Quantity) else ""
        raise Failed(f"it compares {shown(one)} with {shown(other)}{hint}")
    return bool(_ORDERS[sign](one, other))


def contains(many: Value, one: Value) -> bool:
    """Whether a list has the value, or a map the key. Raises Failed."""
    if isinstance(many, Mapping):
        return isinstance(one, str | int) and any(equal(key, one) for key in many)
    if not isinstance(many, tuple):
        raise Failed(f"{shown(many)} is neither a list nor a map")
    return any(equal(each, one) for each in many)


def counted(sign: str, one: Value, other: Value) -> Value:
    """Arithmetic, and texts and lists put together. Raises Failed."""
    if sign == "+" and isinstance(one, str) and isinstance(other, str):
        if len(one) + len(other) > LONGEST_TEXT:
            raise Unread(f"it makes a text of more than {LONGEST_TEXT:,} characters")
        return one + other
    if sign == "+" and isinstance(one, tuple) and isinstance(other, tuple):
        return one + other
    if not (_number(one) and _number(other)) or type(one) is not type(other):
        raise Failed(f"it counts {shown(one)} {sign} {shown(other)}")
    if isinstance(one, int) and isinstance(other, int):
        return _of_whole(sign, one, other)
    assert isinstance(one, float), "numbers are whole or not"
    assert isinstance(other, float), "numbers are whole or not"
    if sign == "%" or (sign == "/" and other == 0):
        raise Failed(f"it counts {one} {sign} {other}")
    return _REAL[sign](one, other)


def negative(value: Value) -> Value:
    """The number with the other sign. Raises Failed."""
    if isinstance(value, float):
        return -value
    return counted("-", 0, value)


def _of_whole(sign: str, one: int, other: int) -> int:
    if sign in "/%":
        if other == 0:
            raise Failed(f"it counts {one} {sign} 0")
        quotient = abs(one) // abs(other) * (1 if (one < 0) is (other < 0) else -1)
        return _whole(quotient) if sign == "/" else one - quotient * other
    return _whole(int(_REAL[sign](one, other)))


def _whole(value: int) -> int:
    if not LEAST <= value <= MOST:
        raise Failed("a number is beyond 64 bits")
    return value


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- functions and methods
def _typed(function: Callable[..., Value], *types: type) -> Callable[..., Value]:
    """The function for values of these types alone."""

    def found(*values: Value) -> Value:
        for value, wanted in zip(values, types, strict=True):
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is int):
                raise Failed(f"{shown(value)} is no value for it")
        return function(*values)

    return found


def _of_either(**by_type: Callable[..., Value]) -> Callable[..., Value]:
    """The method of a text or that of a list."""

    def found(value: Value, *values: Value) -> Value:
        name = "text" if isinstance(value, str) else "list" if isinstance(value, tuple) else ""
        if name not in by_type:
            raise Failed(f"{shown(value)} is no value for it")
        return by_type[name](value, *values)

    return found


def _quantity(text: str) -> Quantity:
    try:
        return Quantity(parse_quantity(text))
    except ValueError as error:
        raise Failed(str(error)) from error


def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except ValueError:
        return False
    return True


def _as_integer(one: Quantity) -> int:
    if one.value.denominator != 1:
        raise Failed(f"{shown(one)} is no whole number")
    return _whole(one.value.numerator)


def _added(times: int, one: Quantity, other: Value) -> Quantity:
    if isinstance(other, Quantity):
        return Quantity(one.value + times * other.value)
    if isinstance(other, int) and not isinstance(other, bool):
        return Quantity(one.value + times * other)
    raise Failed(f"{shown(other)} is no value for it")


def _matches(text: str, pattern: str) -> bool:
    try:
        return matches(pattern, text)
    except Unmatched as error:
        raise Unread(str(error)) from error


def _size(value: Value) -> int:
    if not isinstance(value, str | tuple | Mapping):
        raise Failed(f"{shown(value)} has no size")
    return len(value)


def _to_int(value: Value) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and
                                                                                  len(value) > 20):  # fmt: skip
            raise Failed(f"{shown(value)} is no number")
        return _whole(int(value))
    except (ValueError, OverflowError) as error:
        raise Failed(f"{shown(value)} is no number") from error


def _to_double(value: Value) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise Failed(f"{shown(value)} is no number")
        return float(value)
    except (ValueError, OverflowError) as error:
        raise Failed(f"{shown(value)} is no number") from error


def _to_text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        raise Unread("it writes a fraction as text")
    if not isinstance(value, str | int):
        raise Failed(f"{shown(value)} is no text")
    return str(value)


def _part(text: str, start: int, end: int | None = None) -> str:
    last = len(text) if end is None else end
    if not 0 <= start <= last <= len(text):
        raise Failed(f"substring({start}, {last}) of {shown(text)}")
    return text[start:last]


def _char(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise Failed(f"charAt({at}) of {shown(text)}")
    return text[at : at + 1]


def _split(text: str, mark: str, most: int = -1) -> tuple[str, ...]:
    if most in {0, 1}:
        return (text,) if most else ()
    if not mark:
        raise Unread("it splits a text by nothing")
    return tuple(text.split(mark, most - 1 if most > 0 else -1))


def _replaced(text: str, old: str, new: str) -> str:
    if not old or len(text) * max(len(new), 1) > LONGEST_TEXT:
        raise Unread("it replaces nothing, or makes a text that is too long")
    return text.replace(old, new)


def _joined(parts: tuple[Value, ...], mark: str = "") -> str:
    texts = [each for each in parts if isinstance(each, str)]
    if len(texts) < len(parts):
        raise Failed("it joins what is no text")
    return mark.join(texts)


def _where_in(parts: tuple[Value, ...], one: Value) -> int:
    return next((i for i, each in enumerate(parts) if equal(each, one)), -1)


def _value(maybe: Maybe) -> Value:
    if not maybe.there:
        raise Failed("optional.none() has no value")
    return maybe.value


def _lower(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)


def _upper(text: str) -> str:
    return "".join(char.upper() if char.isascii() else char for char in text)


def _sign(one: Quantity) -> int:
    return (one.value > 0) - (one.value < 0)


def _order(one: Quantity, other: Quantity) -> int:
    return (one.value > other.value) - (one.value < other.value)


_ORDERS: Mapping[str, Callable[..., bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_REAL: Mapping[str, Callable[..., float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
FUNCTIONS: Mapping[tuple[str, int], Callable[..., Value]] = {
    ("quantity", 1): _typed(_quantity, str),
    ("isQuantity", 1): _typed(_is_quantity, str),
    ("size", 1): _size,
    ("int", 1): _to_int,
    ("double", 1): _to_double,
    ("string", 1): _to_text,
    ("dyn", 1): lambda value: value,
    ("optional.of", 1): partial(Maybe, there=True),
    ("optional.none", 0): Maybe,
}
METHODS: Mapping[tuple[str, int], Callable[..., Value]] = {
    ("contains", 1): _typed(lambda text, part: part in text, str, str),
    ("startsWith", 1): _typed(str.startswith, str, str),
    ("endsWith", 1): _typed(str.endswith, str, str),
    ("matches", 1): _typed(_matches, str, str),
    ("lowerAscii", 0): _typed(_lower, str),
    ("upperAscii", 0): _typed(_upper, str),
    ("trim", 0): _typed(str.strip, str),
    ("charAt", 1): _typed(_char, str, int),
    ("substring", 1): _typed(_part, str, int),
    ("substring", 2): _typed(_part, str, int, int),
    ("split", 1): _typed(_split, str, str),
    ("split", 2): _typed(_split, str, str, int),
    ("replace", 2): _typed(_replaced, str, str, str),
    ("join", 0): _typed(_joined, tuple),
    ("join", 1): _typed(_joined, tuple, str),
    ("indexOf", 1): _of_either(text=_typed(str.find, str, str), list=_where_in),
    ("size", 0): _size,
    ("hasValue", 0): _typed(lambda maybe: maybe.there, Maybe),
    ("value", 0): _typed(_value, Maybe),
    ("compareTo", 1): _typed(_order, Quantity, Quantity),
    ("isGreaterThan", 1): _typed(lambda one, other: one.value > other.value, Quantity, Quantity),
    ("isLessThan", 1): _typed(lambda one, other: one.value < other.value, Quantity, Quantity),
    ("add", 1): partial(_added, 1),
    ("sub", 1): partial(_added, -1),
    ("sign", 0): _typed(_sign, Quantity),
    ("isInteger", 0): _typed(lambda one: one.value.denominator == 1, Quantity),
    ("asInteger", 0): _typed(_as_integer, Quantity),
    ("asApproximateFloat", 0): _typed(lambda one: float(one.value), Quantity),
}
"""By name and number of arguments. Lazy ones are `kerf.values.selector`'s."""
