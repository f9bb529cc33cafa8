"""Selectors of devices, as people write them in claims."""

import pytest

from kerf.values.units import parse_quantity
from kerfctl.claiming.cel import Missing, Quantity, Unreadable, holds

DEVICE = {
    "device": {
        "driver": "gpu.kerf.dev",
        "attributes": {"gpu.kerf.dev": {"model": "NVIDIA H100", "index": 3, "mig": False}},
        "capacity": {"gpu.kerf.dev": {"memory": Quantity(parse_quantity("80Gi"))}},
    }
}
A, C = "device.attributes['gpu.kerf.dev']", "device.capacity['gpu.kerf.dev']"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"{A}.model.contains('H100')", True),
        (f'{A}.model == "NVIDIA A100"', False),
        (f"!{A}.mig && {A}.index >= 3", True),
        (f"{A}.index in [1, 2] || device.driver.endsWith('.dev')", True),
        (f"{A}.?bus.orValue('none') == 'none'", True),
        (f"has({A}.bus)", False),
        (f"has({A}.bus) ? {A}.bus == '0' : {A}.index - 1 == 2", True),
        (f"{C}.memory.compareTo(quantity('79Gi')) > 0", True),
        (f"{C}.memory.isLessThan(quantity('1Ti')) && {C}.memory == quantity('81920Mi')", True),
        (f"{A}.bus == 'x' || true", True),
        (f"false && {A}.bus == 'x'", False),
        (f"{A}[?'bus'].hasValue()", False),
        (f"({A}.model.lowerAscii()).matches('^nvidia h[0-9]+$')", True),
    ],
)
def test_a_selector_says_what_cel_says(text, answer):
    assert holds(text, DEVICE) is answer


def test_what_a_device_does_not_have_is_no_false():
    with pytest.raises(Missing, match="bus"):
        holds(f"{A}.bus == 'x'", DEVICE)
    with pytest.raises(Missing, match="bus"):
        holds(f"true && {A}.bus == 'x'", DEVICE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("device.", "a name is missing"),
        ("(true", r"'\)' is missing"),
        ("true true", "'true' is not expected"),
        ("", "ends too early"),
        ("device.driver", "does not say true or false"),
        ("card.model == 'x'", "names card"),
        (f"{A}.model.reverse() == 'x'", "does not read the function reverse"),
        (f"{A}.model > 3", "compares"),
        ("device.driver.x.y", "has no parts"),
        ("cel.bind(x, 1, x) == 1", "does not read the function bind"),
        ("€", "cannot be read"),
        ("(" * 200, "nested too deeply"),
        ("!" * 5000 + "true", "more than 400 parts"),
        ("true || " * 2000 + "true", "characters"),
    ],
)
def test_what_kerf_does_not_read_is_said(text, problem):
    with pytest.raises(Unreadable, match=problem):
        holds(text, DEVICE)
