"""Specs of claims: what is counted, and what is refused with its field."""

from typing import Any

import pytest

from kerf.values.device_ask import DeviceAsk, DeviceOption
from kerf.values.selector import DeviceFacts, holds
from kerf.wire.claim_requests import known_classes
from kerf.wire.claim_specs import on_model, parse_claim_spec
from kerf.wire.errors import WireError
from kerf.wire.model_conditions import parse_condition

CLASSES = known_classes()


def request(name: str = "gpu", cls: str = "slice.gpu.kerf.dev", **more: Any) -> dict[str, Any]:
    return {"name": name, "exactly": {"deviceClassName": cls, **more}}


def spec(*requests: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"devices": {"requests": list(requests), **more}}


def amounts(**requests: str) -> dict[str, Any]:
    return {"requests": requests}


def option(cls: str = "slice.gpu.kerf.dev", *given: Any) -> DeviceOption:
    return DeviceOption(tuple(map(parse_condition, CLASSES[cls].selectors)), *given)


def test_amounts_are_rounded_up_as_the_driver_rounds_them() -> None:
    found = parse_claim_spec(spec(request(count=2, capacity=amounts(memory="8000001Ki", cores="29500m"))), "s", CLASSES)

    assert found == (DeviceAsk((option("slice.gpu.kerf.dev", 2, 7813, 30),)),)


def test_a_list_of_alternatives_keeps_its_order() -> None:
    ways = [{"name": "a", "deviceClassName": "card.gpu.kerf.dev"}, {"name": "b", "deviceClassName": "mig.gpu.kerf.dev"}]

    found = parse_claim_spec(spec({"name": "gpu", "firstAvailable": ways}), "s", CLASSES)

    assert found == (DeviceAsk((option("card.gpu.kerf.dev"), option("mig.gpu.kerf.dev"))),)


def test_requests_of_different_cards_are_one_of_as_many() -> None:
    distinct = [{"requests": ["a", "b"], "distinctAttribute": "gpu.kerf.dev/uuid"}]

    found = parse_claim_spec(spec(request("a"), request("b", count=2), constraints=distinct), "s", CLASSES)

    assert found == (DeviceAsk((option("slice.gpu.kerf.dev", 3),)),)


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ({}, "s.devices.requests"),
        (spec(request(allocationMode="All")), "s.devices.requests[0].exactly.allocationMode"),
        (spec(request(capacity=amounts(memory="0"))), "s.devices.requests[0].exactly.capacity.requests.memory"),
        (spec(request(capacity=amounts(tiles="1"))), "s.devices.requests[0].exactly.capacity.requests.tiles"),
        (spec(request(capacity=amounts(slots="2"))), "s.devices.requests[0].exactly.capacity.requests.slots"),
        (
            spec(request(selectors=[{"cel": {"expression": "device.attributes['gpu.kerf.dev'].uuid == 'x'"}}])),
            "s.devices.requests[0].exactly.selectors[0].cel.expression",
        ),
        (spec(request(), constraints=[{"matchAttribute": "gpu.kerf.dev/uuid"}]), "s.devices.constraints[0]"),
        (
            spec(request("a"), request("b", count=1, capacity=amounts(memory="1Gi")),
                 constraints=[{"distinctAttribute": "gpu.kerf.dev/uuid"}]),
            "s.devices.constraints[0]",
        ),
    ],
)  # fmt: skip
def test_what_a_plan_cannot_count_is_refused_with_its_field(written: dict[str, Any], field: str) -> None:
    with pytest.raises(WireError) as error:
        parse_claim_spec(written, "s", CLASSES)

    assert error.value.field == field


def test_a_spec_for_one_model_takes_no_other_one() -> None:
    ways = [{"name": "a", "deviceClassName": "card.gpu.kerf.dev"}]
    narrowed = on_model(spec(request("a"), {"name": "b", "firstAvailable": ways}), "Bob's \\ card")

    found = parse_claim_spec(narrowed, "s", CLASSES)

    def takes(model: str) -> list[bool]:
        facts = [DeviceFacts("gpu.kerf.dev", {"model": model, "kind": kind}) for kind in ("slice", "card")]
        return [
            all(holds(term, fact) for term in ask.options[0].selectors) for ask, fact in zip(found, facts, strict=True)
        ]

    assert (takes("Bob's \\ card"), takes("Bob's card")) == ([True, True], [False, False])
