"""Selectors as conditions on models of cards: what a plan cannot know is refused by name, however it is written."""

import pytest

from kerf.values.selector import DeviceFacts, holds
from kerf.wire.model_conditions import parse_condition

A, C = "device.attributes['gpu.kerf.dev']", "device.capacity['gpu.kerf.dev']"
H100 = DeviceFacts("gpu.kerf.dev", {"model": "NVIDIA H100 80GB HBM3", "vendor": "nvidia", "kind": "slice"}, shared=True)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (f"{A}.model.contains('H100') && !({A}.vendor in ['amd'])", True),
        (f"{A}.model.matches('H[12]00')", True),
        (f"cel.bind(mine, {A}, mine.vendor == 'nvidia' && mine.kind == 'slice')", True),
        ("cel.bind(every, device.attributes, every['gpu.kerf.dev'].vendor == 'nvidia')", True),
        (f"['H100', 'H200'].exists(word, {A}.model.contains(word))", True),
        (f"'profile' in {A} ? {A}.profile == '2g.20gb' : device.allowMultipleAllocations", True),
        (f"{A}.?profile.orValue('') == ''", True),
        (f"{A}.profile != '2g.20gb'", False),  # no MIG instance, so the attribute is missing
        (f"{A}.model", False),
        ("device.attributes['uuid'].model == 'x'", False),
        ("device.attributes['other.example'].?uuid.hasValue()", False),
    ],
)
def test_a_condition_holds_as_the_selector_does(expression: str, says: bool):
    assert holds(parse_condition(expression), H100) is says


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (f"{A}.uuid == 'GPU-1'", "uuid belongs to one card"),
        (f"false && {A}.numa == 0", "numa belongs to one card"),
        (f"has({A}.bus)", "bus belongs to one card"),
        (f"{A}['index'] == 0", "index belongs to one card"),
        (f"{A}.driver >= '570'", "driver belongs to one card"),
        (f"{A}.?index.orValue(0) == 0", "index belongs to one card"),
        (f"'uuid' in {A}", "uuid belongs to one card"),
        (f"cel.bind(mine, {A}, mine.uuid == 'x')", "uuid belongs to one card"),
        (f"cel.bind(id, {A}.uuid, id == 'x')", "uuid belongs to one card"),
        (f"[1].exists(i, {A}.index == i)", "index belongs to one card"),
        (f"{A}.exists(name, name == 'uuid')", "it reads a map as a whole"),
        (f"{A}.size() == 5", "it reads a map as a whole"),
        (f"{A}[{A}.vendor] == 'x'", "it computes the name of an attribute"),
        (f"{A}['u' + 'uid'] == 'x'", "it computes the name of an attribute"),
        ("device == device", "it reads a map as a whole"),
        ("device.taints.size() == 0", "device.taints is not read"),
        ("nothing == 1", "nothing is not read"),
        ("semver('1.0.0').major() == 1", "major is not read"),
        ("quantity() == 1", "quantity is not read"),
        (f"{A}.model.matches({A}.vendor)", "it computes a pattern"),
        (f"{A}.model.matches('(a+)+')", "the pattern '(a+)+' has '+'"),
        ("true true", "'true' is not expected"),
    ],
)
def test_what_a_plan_over_models_cannot_know_is_named(expression: str, says: str):
    with pytest.raises(ValueError, match=r".") as error:
        parse_condition(expression)

    assert says in str(error.value)
