"""Which vendors a plugin serves."""

import pytest

from deviceplugin.core.resources import parse_resources
from deviceplugin.core.slots import Resource
from kerf.wire.errors import WireError
from tests.deviceplugin.acme import BOTH


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("nvidia.com/gpu",), (Resource("nvidia.com/gpu", "nvidia"),)),
        (("nvidia=example.com/gpu",), (Resource("example.com/gpu", "nvidia"),)),
        (
            ("acme.example/npu", "nvidia.com/gpu"),
            (Resource("acme.example/npu", "acme", "-acme"), Resource("nvidia.com/gpu", "nvidia")),
        ),
    ],
)
def test_resources_are_a_vendors_own_or_named_with_their_vendor(given: tuple[str, ...], expected: tuple[Resource, ...]):
    assert parse_resources(given, BOTH) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("x.com/y",),
            "--resource: 'x.com/y': use acme.example/npu, nvidia.com/gpu, or VENDOR=NAME with one of acme, nvidia",
        ),
        (
            ("nvidia.com/gpu", "nvidia=x.com/y"),
            "--resource: 'nvidia.com/gpu, nvidia=x.com/y': name one resource per vendor",
        ),
    ],
)
def test_a_resource_of_no_vendor_is_refused(given: tuple[str, ...], message: str):
    with pytest.raises(WireError) as caught:
        parse_resources(given, BOTH)

    assert str(caught.value) == message
