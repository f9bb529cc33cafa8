"""Selectors of devices: what is read means what CEL means, and what is not read is refused by name."""

from fractions import Fraction

import pytest

from kerf.values.selector import DeviceFacts
from kerf.wire.cel import parse_cel

A = "device.attributes['gpu.kerf.dev']"
C = "device.capacity['gpu.kerf.dev']"
H100 = DeviceFacts(
    "gpu.kerf.dev",
    {"model": "NVIDIA H100 80GB HBM3", "vendor": "nvidia", "kind": "slice", "mig": False, "nvlink": True},
    {"memory": Fraction(80 * 2**30), "cores": Fraction(100)},
)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("device.driver == 'gpu.kerf.dev'", True),
        (f"{A}.model == 'NVIDIA H100 80GB HBM3'", True),
        (f'device.attributes["gpu.kerf.dev"].model.contains("H100") && !{A}.mig', True),
        (f"{A}.model.startsWith('H100') || {A}.model.endsWith('HBM3')", True),
        (f"{A}.model.lowerAscii().contains('h100')", True),
        (f"{A}.vendor in ['amd', 'nvidia']", True),
        (f"!({A}.vendor in ['amd'])", True),
        (f"{A}.nvlink", True),
        (f"{A}.model", False),  # a condition is true or false
        (f"{A}.model != 'A100' && {A}.kind == 'card'", False),
        (f"{A}.profile == '2g.20gb'", False),  # no MIG instance: the attribute is missing
        (f"{A}.profile != '2g.20gb'", False),
        (f"false && {A}.profile == 'x' || true", True),
        (f"{A}.profile == 'x' || true", True),
        (f"{A}.profile == 'x' && false || true", True),
        (f"{A}.?profile.orValue('') == ''", True),
        (f"has({A}.profile)", False),
        (f"has({A}.model)", True),
        ("device.attributes['other.example'].model == 'x'", False),
        (f"{C}.memory.compareTo(quantity('40Gi')) >= 0", True),
        (f"{C}.memory.isLessThan(quantity('80Gi'))", False),
        (f"{C}.memory.isGreaterThan(quantity('79Gi')) && {C}.memory == quantity('80Gi')", True),
        (f"{A}.mig == 'false'", False),  # another type
    ],
)
def test_a_condition_means_what_cel_means(expression: str, holds: bool) -> None:
    assert parse_cel(expression).holds(H100) is holds


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "the end"),
        (f"{A}.uuid == 'GPU-1'", "uuid belongs to one card"),
        (f"{A}.numa == 0", "numa belongs to one card"),
        (f"{A}.model.matches('H1.*')", "matches is not read"),
        (f"{A}.model == 'x' ? true : false", "'? true : false' is not read"),
        ("cel.bind(x, true, x)", "cel is not read"),
        ("device.allowMultipleAllocations", "device.allowMultipleAllocations is not read"),
        (f"{A}.model == 'x", "is not read"),
        ("true false", "'false' was not expected"),
        ("(" * 50 + "true" + ")" * 50, "nested too deeply"),
        ("true" + " || true" * 2000, "more than 4096 characters"),
    ],
)
def test_what_is_not_read_is_named(expression: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse_cel(expression)

    assert says in str(error.value)
