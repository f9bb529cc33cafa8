"""The fewest operations that bring a map to its wanted values."""

from typing import Any

import pytest

from kerf.wire.admission import PatchOp
from webhook.core.edits import edit_map


@pytest.mark.parametrize(
    ("current", "wanted", "operations"),
    [
        pytest.param(None, {"b": "2", "a": "1"}, [PatchOp("add", "/m", {"a": "1", "b": "2"})], id="a missing map"),
        pytest.param(None, {"a": None}, [], id="nothing to remove from no map"),
        pytest.param({}, {"a": "1"}, [PatchOp("add", "/m/a", "1")], id="a missing key"),
        pytest.param({"a": "0"}, {"a": "1"}, [PatchOp("replace", "/m/a", "1")], id="another value"),
        pytest.param({"a": "1"}, {"a": "1"}, [], id="the same value"),
        pytest.param({"a": "1"}, {"a": None}, [PatchOp("remove", "/m/a")], id="a key too many"),
        pytest.param({}, {"a": None}, [], id="a key that is gone already"),
        pytest.param({}, {"x/y~z": "1"}, [PatchOp("add", "/m/x~1y~0z", "1")], id="a key to be escaped"),
    ],
)
def test_a_map_is_edited_with_no_operation_too_many(current: Any, wanted: Any, operations: list[PatchOp]) -> None:
    assert list(edit_map(("m",), current, wanted)) == operations
