"""Selectors of devices mean what CEL means, and what is not read is refused by name."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from kerf.values.cel import Failed, Lacking, Unread
from kerf.values.selector import DeviceFacts, holds, selects
from kerf.wire.cel import parse_cel

A, C = "device.attributes['gpu.kerf.dev']", "device.capacity['gpu.kerf.dev']"
H100 = DeviceFacts(
    "gpu.kerf.dev",
    {"model": "NVIDIA H100 80GB HBM3", "kind": "slice", "index": 3, "mig": False, "nvlink": True},
    {"memory": Fraction(80 * 2**30), "cores": Fraction(100)},
)
LONG = "true"
for name in "abcdef":
    LONG = f"[1,2,3,4,5,6,7,8,9].all({name}, {LONG})"
ANSWERS = json.loads((Path(__file__).parent / "oracle" / "cel.json").read_text(encoding="utf-8"))


def answer(expression: str) -> bool | str | None:
    """The answer; None where it ends in an error, and what is not read."""
    try:
        return selects(parse_cel(expression), H100)
    except Failed:
        return None
    except Unread as error:
        return str(error)


def test_every_expression_has_the_answer_of_cels_own_runtime():
    found = {text: answer(text.replace("§", A)) for text, _ in ANSWERS}
    unread = {text for text, said in found.items() if isinstance(said, str)}

    assert unread == {"'ab'.matches('(')", "'aa'.matches('(a)\\\\1')", "'abab'.matches('^(ab)+$')"}
    assert {text: said for text, said in found.items() if text not in unread} == {
        text: said for text, said in ANSWERS if text not in unread
    }


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (f"{C}.memory.compareTo(quantity('79Gi')) > 0 && {C}.memory.compareTo(quantity('80Gi')) == 0", True),
        (f"{C}.memory.isLessThan(quantity('1Ti')) && {C}.memory == quantity('81920Mi')", True),
        (f"{C}.memory.isGreaterThan(quantity('79Gi')) && {C}.memory != quantity('1')", True),
        (f"{C}.memory.add(quantity('1Gi')).sub(1073741824).asInteger() == 85899345920", True),
        (f"{C}.cores.asApproximateFloat() > 99.5 && {C}.cores.isInteger() && {C}.cores.sign() == 1", True),
        ("isQuantity('8Gi') && !isQuantity('8 GB')", True),
        ("'model' in device.attributes['other.example']", False),
        ("device.attributes['other.example'].?model.orValue('') == ''", True),
        ("device.allowMultipleAllocations || device.driver != 'gpu.kerf.dev'", False),
        (f"has({A}.version) && {A}.version.isGreaterThan(semver('1.0.0'))", False),
        (f"semver('1.0.0').major() == 1 || {A}.nvlink", True),
    ],
)
def test_what_kubernetes_adds_to_cel_is_answered_too(expression: str, says: bool):
    assert answer(expression) is says


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (f"{A}.bus == 'x'", "bus"),
        (f"true && {A}.bus == 'x'", "bus"),
        ("device.attributes['other.example'].model == 'x'", "model"),
        (f"{C}.tiles.sign() == 1", "tiles"),
    ],
)
def test_what_a_device_does_not_have_is_no_false(expression: str, says: str):
    with pytest.raises(Lacking, match=f"^{says}$"):
        selects(parse_cel(expression), H100)
    assert not holds(parse_cel(expression), H100)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("device.driver", "says 'gpu.kerf.dev' instead of true or false"),
        ("card.model == 'x'", "it names card, which is nothing"),
        (f"{A}.model > 3", "compares 'NVIDIA H100 80GB HBM3' with 3"),
        (f"{C}.memory > 3", "compare quantities by compareTo"),
        (f"{C}.memory == 3", "compares a quantity of 85899345920 with 3"),
        (f"{C}.memory.compareTo(quantity('8 GB')) > 0", "not a quantity"),
        ("device.driver.x.y", "has no parts"),
        (f"{A}.index.contains('x')", "contains: 3 is no value for it"),
    ],
)
def test_what_kubernetes_would_end_with_an_error_says_what_is_wrong(expression: str, says: str):
    with pytest.raises(Failed) as error:
        selects(parse_cel(expression), H100)

    assert says in str(error.value)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "it ends too early"),
        ("device.", "a name is missing"),
        ("(true", "')' is missing"),
        ("true true", "'true' is not expected"),
        ("€", "'€' is not read"),
        (f"{A}.model == 'x", "is not read"),
        ("1u == 1u", "'1u == 1u' is not read"),
        ("a.B{c: 1}.c == 1", "'{' is not expected"),
        ("Message{c: 1}.c == 1", "messages such as Message are not read"),
        ("for == 1", "'for' is not expected"),
        ("has(device)", "has() is written with one name"),
        ("[1].all(1, true)", "a macro begins with the name of a variable"),
        ("9223372036854775808 > 0", "beyond 64 bits"),
        ("'\\ud800' == ''", "the character \\ud800 does not exist"),
        ("'\\q' == ''", "\\q in a text is not read"),
        ("(" * 200, "nested too deeply"),
        ("1" + " + 1" * 300 + " == 1", "nested too deeply"),
        ("true || " * 2000 + "true", "16,004 characters; at most 10,240 are allowed"),
    ],
)
def test_what_is_no_cel_or_is_not_read_is_named(expression: str, says: str):
    with pytest.raises(ValueError, match=r".") as error:
        parse_cel(expression)

    assert says in str(error.value)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (f"{A}.model.reverse() == 'x'", "kerf does not read the function reverse"),
        ("ip('10.0.0.1').isLoopback()", "kerf does not read the function isLoopback"),
        (f"{A}.model.matches('(a+)+$')", "the pattern '(a+)+$' has '+$'"),
        (f"{A}.model.matches('.*.*.*.*.*.*x')", "too many repeats"),
        (LONG, "it takes more than 100,000 steps"),
    ],
)
def test_what_kerf_cannot_say_is_neither_true_nor_false(expression: str, says: str):
    with pytest.raises(Unread) as error:
        selects(parse_cel(expression), H100)

    assert says in str(error.value)
    assert not holds(parse_cel(expression), H100)


def test_a_number_and_a_truth_are_different_literals():
    assert parse_cel("1 == device.x") != parse_cel("true == device.x")
