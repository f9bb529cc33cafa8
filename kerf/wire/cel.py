"""CEL, as Kubernetes reads it in selectors of devices, parsed into a tree. Pure.

The grammar is whole but for messages, bytes and unsigned numbers. A function that `kerf.values.cel` does not have
parses: only its evaluation fails, and only where nothing else decides.
"""

import re
from functools import lru_cache

from kerf.values.cel import LEAST, MOST
from kerf.values.selector import Plain, Term, literal

LONGEST = 10_240
"""As the API server's own bound on the expression of a selector."""
NESTED, DEEPEST = 40, 100
_TOKEN = re.compile(
    r"""(?:\s|//[^\n]*(?:\n|$))*(?:"""
    r"""(?P<text>[rR]?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))"""
    r"""|(?P<number>(?:0[xX][0-9a-fA-F]+|\d+\.\d+(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+)(?![\w]))"""
    r"""|(?P<name>[A-Za-z_]\w*)(?!["'])|(?P<sign>&&|\|\||==|!=|<=|>=|\.\?|\[\?|[-<>!?:()\[\]{}.,+*/%])|(?P<end>$))""",
    re.ASCII | re.DOTALL,
)
_RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL)
_EACH = {"all": (2,), "exists": (2,), "exists_one": (2,), "existsOne": (2,), "filter": (2,), "map": (2, 3)}
_SPACES = frozenset({"optional", "cel", "sets", "math", "lists", "net", "base64", "regex", "strings"})
"""Of functions that are written with a point."""


@lru_cache(maxsize=128)
def parse_cel(expression: str) -> Term:
    """Read one expression. Raises ValueError with what is not read, and why."""
    if len(expression) > LONGEST:
        raise ValueError(f"it has {len(expression):,} characters; at most {LONGEST:,} are allowed")
    reader = _Reader(_tokens(expression))
    found = reader.choice()
    if reader.kind != "end":
        raise ValueError(f"{reader.word!r} is not expected")
    return found


def _tokens(expression: str) -> list[tuple[str, str]]:
    found, at = list[tuple[str, str]](), 0
    while not found or found[-1][0] != "end":
        token = _TOKEN.match(expression, at)
        if token is None:
            raise ValueError(f"{expression[at : at + 20].strip()!r} is not read")
        found.append((str(token.lastgroup), token[str(token.lastgroup)]))
        at = token.end()
    return found


class _Reader:
    """Recursive descent, one method for each level of binding."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._nested = 0

    @property
    def kind(self) -> str:
        """The kind of the next token: text, number, name, sign or end."""
        return self._tokens[self._at][0]

    @property
    def word(self) -> str:
        """The next token."""
        return self._tokens[self._at][1]

    def choice(self) -> Term:
        """The whole of an expression."""
        self._nested += 1
        if self._nested > NESTED:
            raise ValueError("it is nested too deeply")
        found = self._either()
        if self._takes("?"):
            yes = self.choice()
            self._needs(":")
            found = _term("choose", found, yes, self.choice())
        self._nested -= 1
        return found

    # ---- levels
    def _either(self) -> Term:
        parts = [self._all()]
        while self._takes("||"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else _term("or", *parts)

    def _all(self) -> Term:
        parts = [self._relation()]
        while self._takes("&&"):
            parts.append(self._relation())
        return parts[0] if len(parts) == 1 else _term("and", *parts)

    def _relation(self) -> Term:
        found = self._sum()
        while sign := self._takes("==", "!=", "<=", ">=", "<", ">", "in"):
            found = _term("compare", sign, found, self._sum())
        return found

    def _sum(self) -> Term:
        found = self._product()
        while sign := self._takes("+", "-"):
            found = _term("count", sign, found, self._product())
        return found

    def _product(self) -> Term:
        found = self._unary()
        while sign := self._takes("*", "/", "%"):
            found = _term("count", sign, found, self._unary())
        return found

    def _unary(self) -> Term:
        sign, turns = self._takes("!", "-"), 1
        if not sign:
            return self._member(self._primary())
        while self._takes(sign):
            turns += 1
        if sign == "-" and self.kind == "number":
            found = self._member(literal(self._number(-1)))
            turns -= 1
        else:
            found = self._member(self._primary())
        return _term("not" if sign == "!" else "negative", found) if turns % 2 else found

    def _member(self, found: Term) -> Term:
        while sign := self._takes(".", ".?", "[", "[?"):
            if sign[0] == "[":
                found = _term("item?" if sign == "[?" else "item", found, self.choice())
                self._needs("]")
            elif sign == ".?":
                found = _term("item?", found, literal(self._name()))
            else:
                name = self._name()
                found = self._method(name, found) if self._takes("(") else _term("item", found, literal(name))
        return found

    def _primary(self) -> Term:
        kind, word = self.kind, self.word
        if kind == "text":
            self._at += 1
            return literal(_unquoted(word))
        if kind == "number":
            return literal(self._number())
        if kind == "name":
            return self._named()
        if self._takes("("):
            found = self.choice()
            self._needs(")")
            return found
        if self._takes("["):
            return _term("list", *self._arguments("]"))
        if self._takes("{"):
            return self._map()
        raise ValueError(f"{word!r} is not expected" if word else "it ends too early")

    # ---- names
    def _named(self) -> Term:
        name = self._name()
        if name in {"true", "false", "null"}:
            return literal({"true": True, "false": False, "null": None}[name])
        if name in _RESERVED or name == "in":
            raise ValueError(f"{name!r} is not expected")
        if self._takes("{"):
            raise ValueError(f"messages such as {name} are not read")
        if not self._takes("("):
            return _term("name", name)
        parts = self._arguments()
        if name != "has":
            return _term("call", name, *parts)
        if len(parts) != 1 or parts[0].word != "item" or not _is_name(parts[0].parts[1]):
            raise ValueError("has() is written with one name of a part: has(device.attributes['…'].name)")
        return _term("has", *parts[0].parts)

    def _method(self, name: str, target: Term) -> Term:
        """A macro, a function whose name has a point, or a method. The arguments come next."""
        parts = self._arguments()
        space = target.parts[0] if target.word == "name" else ""
        if space == "cel" and name == "bind" and len(parts) == 3:
            return _term("bind", _variable(parts[0]), *parts[1:])
        if name in _EACH and len(parts) in _EACH[name]:
            kind = "exists_one" if name == "existsOne" else name
            return _term("each", kind, _variable(parts[0]), target, *parts[1:])
        if name in {"optMap", "optFlatMap"} and len(parts) == 2:
            return _term("if there", name, _variable(parts[0]), target, parts[1])
        if space in _SPACES:
            return _term("call", f"{space}.{name}", *parts)
        return _term("method", name, target, *parts)

    def _map(self) -> Term:
        parts: list[Term] = []
        while not self._takes("}"):
            if parts:
                self._needs(",")
                if self._takes("}"):
                    break
            parts.append(self.choice())
            self._needs(":")
            parts.append(self.choice())
        return _term("map", *parts)

    def _arguments(self, end: str = ")") -> list[Term]:
        parts: list[Term] = []
        while not self._takes(end):
            if parts:
                self._needs(",")
                if end == "]" and self._takes(end):
                    break
            parts.append(self.choice())
        return parts

    # ---- tokens
    def _takes(self, *words: str) -> str:
        """The next token if it is one of these signs or `in`, which is then behind; else empty."""
        if self.word in words and (self.kind == "sign" or self.word == "in"):
            self._at += 1
            return self._tokens[self._at - 1][1]
        return ""

    def _needs(self, sign: str) -> None:
        if not self._takes(sign):
            raise ValueError(f"{sign!r} is missing" + (f" before {self.word!r}" if self.word else ""))

    def _name(self) -> str:
        if self.kind != "name":
            raise ValueError(f"a name is missing{f' before {self.word!r}' if self.word else ''}")
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _number(self, sign: int = 1) -> int | float:
        word = self.word.lower()
        self._at += 1
        if not word.startswith("0x") and not word.isdigit():
            return sign * float(word)
        value = sign * int(word, 16 if word.startswith("0x") else 10) if len(word) < 64 else MOST + 1
        if not LEAST <= value <= MOST:
            raise ValueError(f"the number {word[:24]} is beyond 64 bits")
        return value


def _term(word: str, *parts: "Term | Plain") -> Term:
    found = Term(word, parts)
    if found.depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    return found


def _is_name(part: "Term | Plain") -> bool:
    return isinstance(part, Term) and part.word == "literal" and part.parts[0] == "str"


def _variable(term: Term) -> str:
    if term.word != "name":
        raise ValueError("a macro begins with the name of a variable")
    return str(term.parts[0])


def _unquoted(token: str) -> str:
    raw = token[0] in "rR"
    token = token[1:] if raw else token
    inner = token[3:-3] if len(token) >= 6 and token[:3] in {'"' * 3, "'" * 3} else token[1:-1]
    return inner if raw else _ESCAPE.sub(_escaped, inner)


def _escaped(found: "re.Match[str]") -> str:
    code = found[1] or found[2] or found[3]
    if code or found[4]:
        number = int(code, 16) if code else int(found[4], 8)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise ValueError(f"the character {found[0]} does not exist")
        return chr(number)
    if found[5] in "\\?\"'`":
        return found[5]
    if found[5] not in _SIMPLE:
        raise ValueError(f"{found[0]} in a text is not read")
    return _SIMPLE[found[5]]
