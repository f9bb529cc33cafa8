"""The JSON schema of a CardVendor says what the parser says, in the file for editors and in the chart's values."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kerf.wire.errors import WireError
from kerf.wire.vendors import parse_vendor

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "examples/vendors/cardvendor.schema.json").read_text())
CHECK = Draft202012Validator(SCHEMA)
FILES = [ROOT / "examples/vendors/acme.yaml", *sorted((ROOT / "kerf/vendors").glob("*/*.yaml"))]
DOCUMENTS = [each for file in FILES for each in yaml.safe_load_all(file.read_text()) if each]
BETWEEN_FIELDS = frozenset({"spec.allocated", "spec.annotations", "spec.slicing.templates", "spec.words"})
"""Rules over several fields, which a schema cannot say: the annotation of slices, templates that rise, equal names."""


def reads(document: Any) -> str:
    """The field that the parser refuses; empty where it reads the document."""
    try:
        parse_vendor(document)
    except WireError as error:
        return error.field
    return ""


def valid(document: Any) -> bool:
    return bool(CHECK.is_valid(document))


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_description_that_is_shipped_is_valid() -> None:
    readable = [each for each in DOCUMENTS if not reads(each)]

    assert len(readable) >= 12
    assert [each["metadata"]["name"] for each in readable if not valid(each)] == []


def test_the_charts_values_have_the_same_schema_of_a_description() -> None:
    values = json.loads((ROOT / "charts/kerf/values.schema.json").read_text())

    assert values["properties"]["vendorDescriptions"]["additionalProperties"] == SCHEMA["properties"]["spec"]


def paths(value: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [above]
    return [above, *(path for key in value for path in paths(value[key], (*above, key)))]


TEXTS = (
    "",
    "x",
    "a/b",
    "two words",
    "vendor.example/card",
    "kerf.dev/grant",
    "kubernetes.io/x",
    "{node}-{index}",
    "slices",
    "whole",
    "templates",
    "partitions",
    "capacity",
)
OTHERS = (-1, 0, 1, 64, 65, 2**31, True, 1.5, ["x"], {"text": "x"}, {"kind": "whole"}, {"colour": 1})
VALUES = st.sampled_from([*TEXTS, *OTHERS])
BASES = [each for each in DOCUMENTS if not reads(each)]


@st.composite
def changed(draw: st.DrawFn) -> Any:
    """A description with one value, or one key, that may be wrong."""
    document = copy.deepcopy(draw(st.sampled_from(BASES)))
    path = draw(st.sampled_from([path for path in paths(document) if path]))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if draw(st.booleans()):
        holder[path[-1]] = draw(VALUES)
    elif draw(st.booleans()):
        del holder[path[-1]]
    elif isinstance(holder, dict):
        holder[draw(st.sampled_from(["colour", "count", "memoryMiB", "cores", "text"]))] = draw(VALUES)
    return document


@given(changed())
def test_whatever_the_parser_reads_is_valid_and_whatever_is_valid_is_read(document: Any) -> None:
    field = reads(document)

    if field and field not in BETWEEN_FIELDS:
        assert not valid(document), field
    if not field:
        assert [error.message for error in CHECK.iter_errors(document)] == []


@pytest.mark.parametrize("key", ["apiVersion", "kind", "metadata", "spec"])
def test_nothing_at_the_top_may_be_missing(key: str) -> None:
    assert not valid({name: value for name, value in BASES[0].items() if name != key})
