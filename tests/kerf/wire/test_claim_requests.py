"""What claims ask for, as `kerf` and the plan of a fleet both read it."""

from fractions import Fraction
from typing import Any

import pytest

from kerf.values.device_ask import ClaimAsk, Constraint, DeviceClass, Selector, Wanted
from kerf.wire.claim_requests import class_of_resource, known_classes, names_ours, parse_ask
from kerf.wire.errors import WireError

CLASSES = known_classes()
OWN = Selector("class slice.gpu.kerf.dev", CLASSES["slice.gpu.kerf.dev"].selectors[0])


def a_claim(*requests: Any, **devices: Any) -> dict[str, Any]:
    return {"metadata": {"name": "c"}, "spec": {"devices": {"requests": list(requests), **devices}}}


def exactly(name: str = "gpu", kind: str = "slice.gpu.kerf.dev", **more: Any) -> dict[str, Any]:
    return {"name": name, "exactly": {"deviceClassName": kind, **more}}


def test_a_claim_is_read_with_everything_that_it_says():
    ways = [{"name": "a", "deviceClassName": "slice.gpu.kerf.dev", "count": 2}]
    mine = {"cel": {"expression": "device.driver == 'x'"}}
    request = exactly(
        capacity={"requests": {"memory": "1500M"}}, selectors=[mine], allocationMode="All", tolerations=[{"key": "t"}]
    )
    kept = [{"requests": ["gpu"], "matchAttribute": "gpu.kerf.dev/numa"}, {"distinctAttribute": "gpu.kerf.dev/uuid"}]

    assert parse_ask(a_claim(request, {"name": "list", "firstAvailable": ways}, constraints=kept), CLASSES) == ClaimAsk(
        "c",
        (
            (
                Wanted(
                    "gpu", "slice.gpu.kerf.dev", 1, True, (("memory", Fraction(1_500_000_000)),),
                    (OWN, Selector("request gpu", "device.driver == 'x'")), ({"key": "t"},),
                ),
            ),
            (Wanted("list/a", "slice.gpu.kerf.dev", 2, selectors=(OWN,)),),
        ),
        (Constraint("gpu.kerf.dev/numa", False, ("gpu",)), Constraint("gpu.kerf.dev/uuid", True)),
    )  # fmt: skip


def test_a_request_as_v1beta1_writes_it_says_the_same():
    flat = {"name": "gpu", "deviceClassName": "slice.gpu.kerf.dev", "count": 2}

    assert parse_ask(a_claim(flat), CLASSES) == parse_ask(a_claim(exactly(count=2)), CLASSES)
    assert names_ours(a_claim(flat))


def test_a_claim_without_requests_asks_for_nothing():
    assert parse_ask({"metadata": {"name": "c"}}, CLASSES) == ClaimAsk("c", ())


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ("x", "requests[0]"),
        ({"exactly": {}}, "requests[0].name"),
        ({"name": "gpu"}, "requests[0].exactly"),
        ({"name": "gpu", "exactly": "x"}, "requests[0].exactly"),
        ({"name": "gpu", "firstAvailable": []}, "requests[0].firstAvailable"),
        ({"name": "gpu", "firstAvailable": ["x"]}, "requests[0].firstAvailable[0]"),
        ({"name": "gpu", "firstAvailable": [{"deviceClassName": "slice.gpu.kerf.dev"}]},
         "requests[0].firstAvailable[0].name"),
        ({"name": "gpu", "firstAvailable": [{"name": "a", "adminAccess": True}]},
         "requests[0].firstAvailable[0].adminAccess"),
        (exactly(kind="rdma.example"), "requests[0].exactly.deviceClassName"),
        (exactly(adminAccess=True), "requests[0].exactly.adminAccess"),
        (exactly(adminAccess="yes"), "requests[0].exactly.adminAccess"),
        (exactly(allocationMode="Some"), "requests[0].exactly.allocationMode"),
        (exactly(count=0), "requests[0].exactly.count"),
        (exactly(count=True), "requests[0].exactly.count"),
        (exactly(cuont=2), "requests[0].exactly.cuont"),
        (exactly(capacity={"requests": {"memory": "8 GB"}}), "requests[0].exactly.capacity.requests.memory"),
        (exactly(capacity={"requests": {"memory": "-8Gi"}}), "requests[0].exactly.capacity.requests.memory"),
        (exactly(capacity={"requests": "8Gi"}), "requests[0].exactly.capacity.requests"),
        (exactly(selectors=[{}]), "requests[0].exactly.selectors[0]"),
        (exactly(selectors="x"), "requests[0].exactly.selectors"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_its_field(request_: Any, field: str):
    with pytest.raises(WireError) as error:
        parse_ask(a_claim(request_), CLASSES)

    assert error.value.field == f"claim c: spec.devices.{field}"


@pytest.mark.parametrize(
    ("claim", "field"),
    [
        (a_claim(exactly(), exactly()), "requests[1].name"),
        (a_claim(*[exactly(f"r{i}") for i in range(33)]), "requests"),
        (a_claim(exactly(), constraints=[{}]), "constraints[0]"),
        (a_claim(exactly(), constraints=[{"matchAttribute": "a/b", "distinctAttribute": "a/b"}]), "constraints[0]"),
        (a_claim(exactly(), constraints=[{"matchAttribute": "a/b", "requests": "gpu"}]), "constraints[0].requests"),
    ],
)
def test_wrong_requests_together_are_refused_with_their_field(claim: dict[str, Any], field: str):
    with pytest.raises(WireError) as error:
        parse_ask(claim, CLASSES)

    assert error.value.field == f"claim c: spec.devices.{field}"


def test_a_class_without_an_expression_is_refused_where_a_claim_needs_it():
    broken = {"metadata": {"name": "odd"}, "spec": {"selectors": [{"cel": {}}]}}
    classes = known_classes([broken])

    assert parse_ask(a_claim(exactly()), classes).requests[0][0].kind == "slice.gpu.kerf.dev"
    with pytest.raises(WireError, match=r"DeviceClass odd: spec\.selectors"):
        parse_ask(a_claim(exactly(kind="odd")), classes)


def test_extended_resources_are_for_the_classes_that_name_them_and_for_all_classes_by_their_names():
    classes = known_classes([{"metadata": {"name": "odd"}, "spec": {"extendedResourceName": "example.com/odd"}}])
    words = ("gpu.kerf.dev/card", "example.com/odd", "deviceclass.resource.kubernetes.io/odd",
             "deviceclass.resource.kubernetes.io/none", "nvidia.com/gpu", "")  # fmt: skip

    assert classes["odd"] == DeviceClass("odd", (), "example.com/odd", "~")
    assert [class_of_resource(word, classes) for word in words] == ["card.gpu.kerf.dev", "odd", "odd", "", "", ""]


def test_of_several_classes_with_one_extended_resource_the_newest_serves_it():
    def made(name: str, when: str | None) -> dict[str, Any]:
        meta = {"name": name, "creationTimestamp": when} if when else {"name": name}
        return {"metadata": meta, "spec": {"extendedResourceName": "gpu.kerf.dev/card"}}

    own = made("card.gpu.kerf.dev", "2026-05-01T00:00:00Z")
    older, newer = made("a", "2026-04-30T23:59:59Z"), made("b", "2026-05-01T00:00:01Z")
    same, filed = made("z", "2026-05-01T00:00:01Z"), made("filed", None)

    def serving(*items: dict[str, Any]) -> str:
        return class_of_resource("gpu.kerf.dev/card", known_classes(items))

    assert serving(own, older) == "card.gpu.kerf.dev"
    assert serving(older) == "a"
    assert serving(own, newer, older) == "b"
    assert serving(own, same, newer) == "b"
    assert serving(own, newer, filed) == "filed"
