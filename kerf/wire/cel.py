"""The part of CEL in which people select Kerf's devices, as conditions that models of cards can be held against.

Read are `device.driver`, `device.attributes[…]` and `device.capacity[…]` of the driver gpu.kerf.dev, comparisons, `in`,
`&&`, `||`, `!`, `has`, `.?name.orValue(…)`, quantities, and the methods of texts without patterns. Everything else, and
what differs between the cards of one model, is refused by name: a plan over models of cards cannot know it.
"""

import json
import re
from collections.abc import Iterator

from kerf.values.selector import Plain, Term
from kerf.values.units import parse_quantity
from kerf.wire.devices import DRIVER

LONGEST, DEEPEST = 4096, 40
_SINGLE = frozenset({"uuid", "bus", "numa", "index"})
"""Attributes of one card."""
_METHODS = {
    "contains": 1, "startsWith": 1, "endsWith": 1, "lowerAscii": 0, "compareTo": 1, "isGreaterThan": 1, "isLessThan": 1,
}  # fmt: skip
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<number>\d+)(?![\w.])|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<sign>&&|\|\||==|!=|<=|>=|\.\?|[-<>!()\[\].,]))""",
    re.ASCII,
)


def parse_cel(expression: str) -> Term:
    """Read one expression. Raises ValueError with what is not read, and why."""
    if len(expression) > LONGEST:
        raise ValueError(f"it has more than {LONGEST} characters")
    reader = _Reader([*_tokens(expression)])
    found = reader.either()
    if reader.kind:
        raise ValueError(f"{reader.word!r} was not expected")
    return found


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(expression.rstrip())
    while at < end:
        found = _TOKEN.match(expression, at)
        if found is None:
            raise ValueError(f"{expression[at : at + 20].strip()!r} is not read")
        yield str(found.lastgroup), found[str(found.lastgroup)]
        at = found.end()


class _Reader:
    """Recursive descent, one method for each level of binding."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def kind(self) -> str:
        """The kind of the next token; empty at the end."""
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    @property
    def word(self) -> str:
        """The next token; empty at the end."""
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _takes(self, *words: str) -> str:
        """The next token if it is one of these signs or names, which is then behind; else empty."""
        if self.kind in {"sign", "name"} and self.word in words:
            self._at += 1
            return words[words.index(self._tokens[self._at - 1][1])]
        return ""

    def _needs(self, *words: str) -> str:
        found = self._takes(*words)
        if not found:
            raise ValueError(f"{self.word or 'the end'!r} is found where {' or '.join(words)} is expected")
        return found

    def either(self) -> Term:
        """Parts with || between them."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        parts = [self._all()]
        while self._takes("||"):
            parts.append(self._all())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Term("or", tuple(parts))

    def _all(self) -> Term:
        parts = [self._relation()]
        while self._takes("&&"):
            parts.append(self._relation())
        return parts[0] if len(parts) == 1 else Term("and", tuple(parts))

    def _relation(self) -> Term:
        left = self._unary()
        sign = self._takes("==", "!=", "<=", ">=", "<", ">", "in")
        return Term(sign, (left, self._unary())) if sign else left

    def _unary(self) -> Term:
        turns = 0
        while self._takes("!"):
            turns += 1
        found = self._with_methods(self._primary())
        return Term("not", (found,)) if turns % 2 else found

    def _with_methods(self, target: Term) -> Term:
        while self._takes("."):
            name = self._name()
            if name not in _METHODS:
                raise ValueError(f"{name} is not read: use {', '.join(_METHODS)}, == and ||")
            self._needs("(")
            arguments = [self.either() for _ in range(_METHODS[name])]
            self._needs(")")
            target = Term(name, (target, *arguments))
        return target

    def _primary(self) -> Term:
        if self._takes("("):
            found = self.either()
            self._needs(")")
            return found
        if self._takes("["):
            return self._list()
        return _literal(self._plain()) if self.kind in {"text", "number"} or self.word == "-" else self._named()

    def _plain(self) -> Plain:
        if self.kind == "text":
            return self._text()
        return -self._number() if self._takes("-") else self._number()

    def _named(self) -> Term:
        name = self._name()
        if name in {"true", "false"}:
            return _literal(name == "true")
        if name == "device":
            return self._device()
        if name not in {"has", "quantity"}:
            raise ValueError(f"{name} is not read")
        self._needs("(")
        if name == "has":
            self._needs("device")
            found = Term("has", (self._device(),))
        else:
            found = _literal(parse_quantity(self._text()))
        self._needs(")")
        return found

    def _list(self) -> Term:
        parts: list[Term] = []
        while not self._takes("]"):
            if parts:
                self._needs(",")
            parts.append(self.either())
        return Term("list", tuple(parts))

    def _device(self) -> Term:
        self._needs(".")
        what = self._name()
        if what == "driver":
            return Term("driver")
        if what not in {"attributes", "capacity"}:
            raise ValueError(f"device.{what} is not read")
        self._needs("[")
        domain = self._text()
        self._needs("]")
        optional = self._needs(".", ".?") == ".?"
        name = self._name()
        if domain == DRIVER and what == "attributes" and name in _SINGLE:
            raise ValueError(f"{name} belongs to one card, and a plan chooses among models")
        found = Term("attribute" if what == "attributes" else "capacity", (name,))
        found = found if domain == DRIVER else Term("lacking")
        return self._or_value(found) if optional else found

    def _or_value(self, found: Term) -> Term:
        self._needs(".")
        self._needs("orValue")
        self._needs("(")
        other = self.either()
        self._needs(")")
        return Term("orValue", (found, other))

    def _name(self) -> str:
        if self.kind != "name":
            raise ValueError(f"{self.word or 'the end'!r} is found where a name is expected")
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _number(self) -> int:
        if self.kind != "number" or len(self.word) > 18:
            raise ValueError(f"{self.word or 'the end'!r} is not a number that is read")
        self._at += 1
        return int(self._tokens[self._at - 1][1])

    def _text(self) -> str:
        if self.kind != "text":
            raise ValueError(f"{self.word or 'the end'!r} is found where a text is expected")
        self._at += 1
        return _unquoted(self._tokens[self._at - 1][1])


def _literal(value: Plain) -> Term:
    return Term("literal", (value,))


def _unquoted(token: str) -> str:
    if "\\" not in token:
        return token[1:-1]
    inner = token[1:-1].replace('\\"', '"').replace("\\'", "'").replace('"', '\\"')
    try:
        return str(json.loads(f'"{inner}"'))
    except ValueError as error:
        raise ValueError(f"the text {token} is not read") from error
