"""A list that is read object by object is the list that is read whole."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire.lists import parse_list

WORDS = st.sampled_from(["a", '"items":[', '},{"metadata":', "]}", "\\", '"', "metadata", "items", "é"])
VALUES = st.recursive(
    WORDS | st.integers(0, 9) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS, inner, max_size=3)
        | inner.map(lambda value: [{"metadata": value}, {"metadata": value}])
    ),
    max_leaves=8,
)
ITEMS = st.lists(st.builds(lambda meta, spec: {"metadata": meta, "spec": spec}, VALUES, VALUES) | VALUES, max_size=4)


@given(VALUES, ITEMS, st.booleans(), st.sampled_from(["", "\n"]), st.dictionaries(WORDS, VALUES, max_size=2))
def test_items_are_those_of_the_whole_text(
    meta: object, items: list[object], compact: bool, end: str, more: dict[str, object]
) -> None:
    document = {"kind": "PodList", "metadata": meta, "items": items} | {k: v for k, v in more.items() if k != "items"}
    text = json.dumps(document, separators=(",", ":") if compact else None, ensure_ascii=False) + end

    around, found = parse_list(text.encode())

    assert list(found) == items
    assert around.get("metadata") == document["metadata"]


def test_a_list_whose_metadata_follows_the_items_is_read_too() -> None:
    items, meta = [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}], {"resourceVersion": "7", "continue": "c"}
    text = orjson.dumps({"kind": "List", "items": items, "metadata": meta, "warnings": []})

    around, found = parse_list(text)

    assert (around["metadata"], list(found)) == (meta, items)


def test_an_empty_list_has_no_items() -> None:
    for text in (b"", b"{}", b'{"items":null}', b'{"metadata":{},"items":[]}'):
        assert [*parse_list(text)[1]] == []


def test_each_item_is_read_when_its_turn_comes() -> None:
    around, items = parse_list(b'{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"}},{"metadata":]}')
    walk = iter(items)

    assert around["metadata"] == {"resourceVersion": "7"}
    assert next(walk) == {"metadata": {"name": "a"}}
    with pytest.raises(orjson.JSONDecodeError):
        next(walk)
