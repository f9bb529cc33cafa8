"""Regular expressions of strangers' files, answered in a time that no expression makes long.

Python's own matcher tries one way after the other, so `(a+)+b` takes for ever. What it may need more than a few
thousand steps for is answered by sets: all positions of the text that the expression can have come to, at once.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

LONGEST = 300
DEEPEST = 2
"""Repeats and assertions within each other: each of them takes as many rounds as the text has characters."""
LONGEST_TEXT = 80
MOST_STEPS = 20_000
"""Of Python's matcher, on a text of that length."""
_ESCAPES, _CLASSES = re.compile(r"\\.", re.DOTALL), re.compile(r"\[\^?\]?[^]]*\]")
_NAMED = re.compile(r"\(\?P<\w+>")
_ATOM = re.compile(r"\\(?:[dDwWsS]|[^\w\s])|\[\^?\]?(?:\\.|[^\]\\])*\]|[^\\()\[\]{}*+?|^$]")
_REPEAT = re.compile(r"([*+?]|\{(\d*)(,?)(\d*)\})([?+]?)")
_GROUPS = {"(?:": "", "(?=": "ahead", "(?!": "not ahead", "(?<=": "behind", "(?<!": "not behind", "(": ""}
_ENDLESS = 10**6


class NotRead(ValueError):
    """The expression is none, or one that only Python's own matcher reads. The message says why."""


def matcher(text: str) -> Callable[[str], bool]:
    """Whether a name begins with what the expression describes, as `re.match` has it. Raises NotRead."""
    if len(text) > LONGEST:
        raise NotRead(f"it has more than {LONGEST} characters")
    try:
        compiled = _compiled(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise NotRead(str(error)) from error
    plain = _NAMED.sub("(?:", text)
    if _steps(plain.removeprefix("(?i)")) <= MOST_STEPS:
        return lambda name: compiled.match(name) is not None
    return Expression(plain).begins


def _compiled(text: str) -> re.Pattern[str]:
    """Without Python's warning that signs such as `[[` may mean something else one day. Raises re.error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(text)


def _steps(text: str) -> int:
    """The most that Python's matcher may need: how often it may choose, multiplied."""
    plain = _CLASSES.sub("x", _ESCAPES.sub("x", text))
    if re.search(r"\)[*+?{]|\(\?[^:]", plain):
        return _ENDLESS
    steps = 1
    for number, _ in enumerate(re.findall(r"[*+]|\{", plain), 1):
        steps = steps * LONGEST_TEXT // number
    return (steps << plain.count("?")) * _choices(plain)


def _choices(plain: str) -> int:
    """How many ways alternatives leave, group by group: one of four is four ways, not eight."""
    ways, open_groups = 1, [1]
    for sign in plain:
        if sign == "(":
            open_groups.append(1)
        elif sign == "|":
            open_groups[-1] += 1
        elif sign == ")" and len(open_groups) > 1:
            ways *= open_groups.pop()
    return ways * prod(open_groups)


@dataclass(frozen=True, slots=True)
class _Node:
    """A part of an expression: an atom, or parts that follow or stand for each other."""

    kind: str
    atom: str = ""
    parts: tuple["_Node", ...] = ()
    least: int = 1
    most: int = 1


class Expression:
    """One expression as a tree."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._root = self._either()
        if self._at < len(text):
            raise NotRead(f"a ) without its ( at {self._at}")
        if _depth(self._root) > DEEPEST:
            raise NotRead(f"its repeats are more than {DEEPEST} deep")

    def begins(self, name: str) -> bool:
        """Whether the expression describes the name's beginning."""
        return bool(_Run(name).after(self._root, 1))

    # ---- reading
    def _either(self) -> _Node:
        found = [self._row()]
        while self._takes("|"):
            found.append(self._row())
        return found[0] if len(found) == 1 else _Node("either", parts=tuple(found))

    def _row(self) -> _Node:
        found = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            found.append(self._repeated(self._one()))
        return _Node("row", parts=tuple(found))

    def _one(self) -> _Node:
        for opening, kind in _GROUPS.items():
            if self._text.startswith(opening, self._at) and (opening != "(" or self._text[self._at + 1] != "?"):
                self._at += len(opening)
                inner = self._either()
                self._takes(")")
                return _Node(kind, parts=(inner,)) if kind else inner
        for edge in ("^", "$", r"\b", r"\B", r"\A", r"\Z"):
            if self._takes(edge):
                return _Node("edge", edge)
        atom = _ATOM.match(self._text, self._at)
        if atom is None:
            raise NotRead(f"{self._text[self._at : self._at + 3]!r} at {self._at} is read by Python's matcher alone")
        self._at = atom.end()
        return _Node("atom", atom.group())

    def _repeated(self, one: _Node) -> _Node:
        found = _REPEAT.match(self._text, self._at)
        if found is None:
            if self._text.startswith("{", self._at):
                raise NotRead(f"a {{ at {self._at} that is no repeat")
            return one
        if found[5] == "+":
            raise NotRead("a possessive repeat is read by Python's matcher alone")
        self._at = found.end()
        if found[1][0] != "{":
            return _Node("repeat", parts=(one,), least=int(found[1] == "+"), most=1 if found[1] == "?" else _ENDLESS)
        least = int(found[2] or 0)
        return _Node("repeat", parts=(one,), least=least, most=int(found[4] or _ENDLESS) if found[3] else least)

    def _takes(self, word: str) -> bool:
        there = self._text.startswith(word, self._at)
        self._at += len(word) if there else 0
        return there


def _depth(node: _Node) -> int:
    own = node.most > 1 or node.kind in {"ahead", "not ahead"}
    return own + max(map(_depth, node.parts), default=0)


class _Run:
    """One text. Places are bits of a number: bit i is the place before the i-th character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._every = (1 << len(text) + 1) - 1
        self._where: dict[str, int] = {}

    def after(self, node: _Node, places: int) -> int:
        """Where the text goes on after a part that begins at one of these places."""
        match node.kind:
            case "atom":
                return (places & self._of(node.atom)) << 1
            case "edge":
                return places & self._edges(node.atom)
            case "row":
                for part in node.parts:
                    places = self.after(part, places) if places else 0
                return places
            case "either":
                found = 0
                for part in node.parts:
                    found |= self.after(part, places)
                return found
            case "repeat":
                return self._repeated(node, places)
            case _:
                return self._asserted(node, places)

    def _repeated(self, node: _Node, places: int) -> int:
        (part,) = node.parts
        for _ in range(node.least):
            before, places = places, self.after(part, places)
            if places in {0, before}:
                break
        found, fresh, rounds = places, places, node.least
        while fresh and rounds < node.most:
            fresh = self.after(part, fresh) & ~found
            found |= fresh
            rounds += 1
        return found

    def _asserted(self, node: _Node, places: int) -> int:
        (part,) = node.parts
        if node.kind.endswith("behind"):
            holds = self.after(part, self._every)
        else:
            holds = sum(1 << i for i in range(len(self._text) + 1) if places >> i & 1 and self.after(part, 1 << i))
        return places & (~holds if node.kind.startswith("not") else holds)

    def _of(self, atom: str) -> int:
        """The characters that are one."""
        if atom not in self._where:
            one = _compiled(atom)
            self._where[atom] = sum(1 << i for i, char in enumerate(self._text) if one.fullmatch(char))
        return self._where[atom]

    def _edges(self, edge: str) -> int:
        if edge not in self._where:
            one = _compiled(edge)
            places = range(len(self._text) + 1)
            self._where[edge] = sum(1 << i for i in places if one.match(self._text, i))
        return self._where[edge]
