"""Reading JSON of which nothing is certain."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kerf.wire.json import at, items_at, loads, text_at

POD = {"metadata": {"name": "web", "labels": {"app": "web"}, "owners": [{"kind": "Job"}, "odd"]}, "status": None}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=8,
)


def test_what_is_there_is_read():
    assert at(POD, "metadata", "labels") == {"app": "web"}
    assert text_at(POD, "metadata", "labels", "app") == "web"
    assert items_at(POD, "metadata", "owners") == ({"kind": "Job"},)


@pytest.mark.parametrize(
    "path", [("spec",), ("status", "phase"), ("metadata", "name", "first"), ("metadata", "owners")]
)
def test_what_is_not_there_or_odd_is_empty(path: tuple[str, ...]):
    assert (at(POD, *path), text_at(POD, *path)) == ({}, "")


@given(ANYTHING, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3))
def test_nothing_that_is_sent_raises(value: object, path: list[str]):
    assert isinstance(text_at(value, *path), str)
    assert all(at(item) is item for item in items_at(value, *path))


NUMBERS = st.sampled_from(
    ("-0", "-0.0", "1e400", "-1E999", "0.1e-400", "18446744073709551616", "-9223372036854775809", "1.0", "NaN")
)
PARTS = st.sampled_from(('"', "\\ud800", "\\n", "{", "}", "[", "]", ":", ",", " ", "GPU-0", "\ufeff", "\x00")) | NUMBERS


def as_text(reader: object, text: str) -> str:
    """What a reader says, to the digit."""
    try:
        return repr(reader(text))  # type: ignore[operator]
    except (ValueError, RecursionError):
        return "an error"


@given(ANYTHING.map(json.dumps) | st.lists(PARTS, max_size=8).map("".join) | NUMBERS.map(lambda n: f'{{"a": [1,{n}]}}'))
@example("[" * 5000 + "]" * 5000)
@example('{"a": 1, "a": 2}')
def test_the_quick_reader_reads_as_pythons_own(text: str):
    assert as_text(loads, text) == as_text(json.loads, text)
