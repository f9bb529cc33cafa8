"""Reading JSON of which nothing is certain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire.json import at, items_at, text_at

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
