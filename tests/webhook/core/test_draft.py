"""The one difference at the end: every operation of a patch comes from it."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire.admission import PatchOp, apply_patch
from tests.webhook.json_patch import apply
from webhook.core.draft import changed, difference

KEYS = st.sampled_from(["a", "b", "x/y~z", ""])
JSON = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from(["1", "2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=9,
)
MAPS = st.dictionaries(KEYS, JSON, max_size=4)


@pytest.mark.parametrize(
    ("before", "after", "operations"),
    [
        pytest.param({}, {"m": {"a": "1"}}, [PatchOp("add", "/m", {"a": "1"})], id="a missing map"),
        pytest.param({"m": None}, {"m": {"a": "1"}}, [PatchOp("replace", "/m", {"a": "1"})], id="a null map"),
        pytest.param({"m": {}}, {"m": {"a": "1"}}, [PatchOp("add", "/m/a", "1")], id="a missing key"),
        pytest.param({"m": {"a": "0"}}, {"m": {"a": "1"}}, [PatchOp("replace", "/m/a", "1")], id="another value"),
        pytest.param({"m": {"a": "1"}}, {"m": {"a": "1"}}, [], id="the same value"),
        pytest.param({"m": {"a": "1"}}, {"m": {}}, [PatchOp("remove", "/m/a")], id="a key too many"),
        pytest.param({}, {"x/y~z": "1"}, [PatchOp("add", "/x~1y~0z", "1")], id="a key to be escaped"),
        pytest.param({"l": [1, 2]}, {"l": [1, 3]}, [PatchOp("replace", "/l/1", 3)], id="another item"),
        pytest.param({"l": [1]}, {"l": [1, 2]}, [PatchOp("add", "/l/-", 2)], id="an item more"),
        pytest.param({"l": [1, 2]}, {"l": [1]}, [PatchOp("replace", "/l", [1])], id="a shorter list"),
    ],
)
def test_a_difference_has_no_operation_too_many(before: Any, after: Any, operations: list[PatchOp]) -> None:
    assert list(difference(before, after)) == operations


@given(MAPS, MAPS)
def test_a_difference_turns_one_value_into_the_other(before: Any, after: Any) -> None:
    sent = copy.deepcopy(before)
    assert apply(before, difference(before, after)) == after
    assert apply_patch(before, difference(before, after)) == after
    assert before == sent


@given(MAPS, MAPS)
def test_changing_a_map_sets_values_and_removes_what_is_none(values: Any, changes: Any) -> None:
    kept = {key: value for key, value in values.items() if key not in changes}

    assert changed(values, changes) == kept | {key: value for key, value in changes.items() if value is not None}


@given(MAPS)
def test_a_change_to_what_is_there_already_returns_the_very_map(values: Any) -> None:
    assert changed(values, {key: value for key, value in values.items() if value is not None}) is values
