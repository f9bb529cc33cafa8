"""Expressions and globs of strangers' files: the answers of Python's own matcher, in a time that none makes long."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kerf.sizing.expressions import DEEPEST, Expression, NotRead, matcher
from kerf.sizing.names import Names, globs
from kerf.wire.errors import WireError

MATRICES = ("layers.11.self_attn.q_proj", "layers.3.mlp.shared_experts.down_proj", "layers.61.mlp.experts.up")
PROMPT_S = 1.0
"""CPU seconds for the three of them; the time of one bad expression in Python's matcher grows beyond days."""

ATOMS = st.sampled_from(["a", "b", ".", r"\.", "[ab]", "[^a]", r"\w", r"\d", "^", "$", r"\b", "x"])
REPEATS = st.sampled_from(["", "", "*", "+", "?", "*?", "{2}", "{1,2}", "{0,}"])


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = st.builds("{}{}){}".format, st.sampled_from(["(", "(?:", "(?P<n>"]), inner, REPEATS)
    ahead = st.builds("{}{})".format, st.sampled_from(["(?=", "(?!"]), inner)
    return st.one_of(group, ahead, st.builds("{}|{}".format, inner, inner), st.builds("{}{}".format, inner, inner))


def is_edge(atom: str) -> bool:
    return atom in {"^", "$", r"\b"}


PLAIN = st.builds(lambda atom, repeat: atom if is_edge(atom) else atom + repeat, ATOMS, REPEATS)
EXPRESSIONS = st.recursive(PLAIN, grown, max_leaves=8)
TEXTS = st.text(alphabet="ab.x0", max_size=7)


@given(EXPRESSIONS, TEXTS)
@example("(a|ab)(c|bcd)*$", "abcd")
@example("(?!.*gate).*proj", "x.proj")
@example("(?:a|b.)+b{2}", "ab.bb")
def test_sets_of_places_answer_as_pythons_matcher(text: str, name: str) -> None:
    try:
        compiled = re.compile(text)
        read = Expression(text.replace("(?P<n>", "(?:"))
    except (re.error, NotRead):
        return

    assert read.begins(name) == (compiled.match(name) is not None)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (r".*layers\.([3-9]|[1-5][0-9])\.mlp\.experts\..*\.(gate|up|down)_proj.*", (False, False, False)),
        (r"(?<!x)layers\.\d+\.(?:mlp|self_attn)\.(?!shared).*", (True, False, True)),
        (r"(?i)LAYERS\.1+\.", (True, False, False)),
        (r"(?P<layer>layers\.\d+\.)mlp(\.\w+)+$", (False, True, True)),
        (r".*(?<=_attn)\.q_proj", (True, False, False)),
    ],
)
def test_expressions_as_quantisers_write_them(text: str, names: tuple[bool, ...]) -> None:
    assert tuple(map(matcher(text), MATRICES)) == names


BAD = {
    "repeats in repeats": "(a+)+$",
    "ways that overlap": "(x|xx)*y",
    "repeats side by side": ".*" * 40 + "z",
    "choices side by side": ".?" * 100 + "z",
    "the same twice": "(.|.)" * 50 + "z",
    "counted repeats": "(.{1,60}){1,60}z",
    "a look at every place": "(?:.*(?!z))*z",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_no_expression_takes_long(text: str) -> None:
    begun = time.process_time()

    assert [Names([f"re:{text}"]).find(name) for name in MATRICES] == [None] * 3
    assert time.process_time() - begun < PROMPT_S


@given(st.text(alphabet=r".*+?()|[]{}^$\dwae_,12:!<=", max_size=60))
@example("[[")
@example("[[a]")
@example("[a||b]")
def test_whatever_looks_like_an_expression_is_refused_or_answered_soon(text: str) -> None:
    begun = time.process_time()
    try:
        names = Names([f"re:{text}"])
    except WireError:
        return

    for name in MATRICES:
        names.find(name)
    assert time.process_time() - begun < PROMPT_S


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[", "unterminated"),
        ("a" * 301, "more than 300 characters"),
        ("(" * (DEEPEST + 1) + "a" + "*)" * DEEPEST + "*)*", "more than 2 deep"),
        (r"(.*)(.*)(.*)\1z", "Python's matcher alone"),
        ("(?x)(.+) +z", "Python's matcher alone"),
    ],
)
def test_what_is_not_read_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(WireError, match=rf"quantization_config\.ignore: .*write a plainer expression \(.*{why}"):
        Names([f"re:{text}"])


@given(st.lists(st.text(alphabet="ab.", max_size=2), min_size=2, max_size=5), st.text(alphabet="ab.", max_size=9))
def test_a_glob_names_a_matrix_or_a_parent_of_it(pieces: list[str], name: str) -> None:
    expected = re.compile(".*".join(map(re.escape, pieces)) + r"(?:\..*)?$")

    assert globs(pieces, name) == (expected.match(name) is not None)


@pytest.mark.parametrize(
    ("pattern", "hits"),
    [
        ("*.s*e*l*f*_*a*t*t*n*.q_proj", (True, False, False)),
        ("*.s*e*l*f*_*a*t*t*n*.z", (False, False, False)),
        ("*" * 40 + "z", (False, False, False)),
        ("model*", (True, True, True)),
        ("model.language_model*", (True, True, True)),
        ("model.language_model.layers.3*", (False, True, False)),
        ("language_model.model.layers.*.mlp.*", (False, True, True)),
        ("*.shared_expert.*", (False, True, False)),
        (r"re:language_model\.model\.layers\.11\.", (True, False, False)),
        (r"re:.*mlp\.shared_expert\.(gate|up|down)_proj$", (False, True, False)),
    ],
)
def test_a_pattern_names_the_matrices_that_it_means_and_no_others(pattern: str, hits: tuple[bool, ...]) -> None:
    names = Names([pattern])

    assert tuple(names.find(name) == pattern for name in MATRICES) == hits
