"""Pages, comments, docstrings and messages use plain English: no word of the list below occurs in them."""

import io
import os
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MANNERED = re.compile(
    r"""
      \b(?:whoever|whom(?:ever)?|anew|afresh|stirred|told|tells)\b  # personified objects, archaic words
    | \b(?:in\ vain|nobody's|lest|whence|thereof|heark\w+|shall)\b
    | \bstands\b(?!\ for\b) | \bstood\b  # say "is", "is written", "remains"
    | 's\ word\b  # say who confirms what
    | (?:^|(?<=[.:;]\ ))(?:Should|Were|Had)\ (?:it|they|this|that|these|one|none|the|an?)\b(?![^.]*\?)  # say "if"
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
F_STRING, FIELD = re.compile(r"r?fr?['\"]", re.IGNORECASE), re.compile(r"\{[^{}]*\}")
"""Before Python 3.12 an f-string is one token, with its fields."""
SUFFIXES = frozenset(
    [
        ".py",
        ".c",
        ".h",
        ".def",
        ".sh",
        ".md",
        ".yaml",
        ".tpl",
        ".txt",
        ".toml",
        ".Dockerfile",
        ".js",
        ".html",
        ".css",
        ".proto",
    ]
)
NAMES = frozenset(["Makefile", "Dockerfile", "install-limiter"])
ELSEWHERE = (
    "docs/adr/",
    "tests/chart/golden/",
    "deviceplugin/_pb/",
    "scheduler/usage/_pb/",
    "tests/arch/test_plain_english.py",
)
"""History, renders of sources that are read here too, generated code, and this list."""
LEFT_BEHIND = re.compile(r"^(build|dist|shared|__pycache__|.*\.egg-info)$")


def sources() -> Iterator[Path]:
    """The files that people wrote, without what builds and tools leave behind."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and not LEFT_BEHIND.search(name)]
        for path in (Path(folder, name) for name in files):
            ours = not path.relative_to(ROOT).as_posix().startswith(ELSEWHERE)
            if ours and (path.suffix in SUFFIXES or path.name in NAMES):
                yield path


def prose(text: str, suffix: str) -> Iterator[tuple[int, str]]:
    """Pieces of prose with the number of their first line: no identifiers of Python and C, the whole of other files."""
    if suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.STRING and F_STRING.match(token.string):
                yield token.start[0], FIELD.sub("", token.string)
            elif tokenize.tok_name[token.type] in {"COMMENT", "STRING", "FSTRING_MIDDLE"}:
                yield token.start[0], token.string
    elif suffix in {".c", ".h", ".def"}:
        for found in re.finditer(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', text, re.DOTALL):
            yield text.count("\n", 0, found.start()) + 1, found[0]
    else:
        yield 1, text


def mannered(text: str, suffix: str) -> list[str]:
    """Line and word of every hit."""
    if not MANNERED.search(text):
        return []
    return [
        f"{line + piece.count(chr(10), 0, hit.start())}: {hit[0]}"
        for line, piece in prose(text, suffix)
        for hit in MANNERED.finditer(piece)
    ]


def test_prose_is_plain_english() -> None:
    found = [f"{path.relative_to(ROOT)}:{hit}" for path in sources() for hit in mannered(path.read_text(), path.suffix)]

    assert found == [], "\n".join(found)


def test_names_of_tests_are_plain_english() -> None:
    names = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"def (test_\w+)", path.read_text())
    ]

    assert [name for name in names if MANNERED.search(name.replace("_", " "))] == []
    assert len(names) > 1000


@pytest.mark.parametrize(
    ("text", "suffix", "hits"),
    [
        ("told = 1  # as the kernel tells it", ".py", ["1: tells"]),
        ('"""A card.\n\nIt is made anew."""', ".py", ["3: anew"]),
        ('text = f"waited in vain for {told}"', ".py", ["1: in vain"]),
        ("int told = 1; /* the card\n * tells */", ".c", ["2: tells"]),
        (
            "Should it fail, nobody's fault. What should it do? It stands for more.",
            ".md",
            ["1: Should it", "1: nobody's"],
        ),
        ("The API server's word stands.", ".md", ["1: 's word", "1: stands"]),
    ],
)
def test_a_hit_is_a_word_in_prose_and_never_an_identifier(text: str, suffix: str, hits: list[str]) -> None:
    assert mannered(text, suffix) == hits
