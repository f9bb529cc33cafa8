"""`kind: TenantQuota`: every key, human units, every mistake by its field."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given

from kerf.testing.builders import cards_of
from kerf.values.device import Mode
from kerf.values.quota import UNBOUNDED, ByClaims, ClassQuota, Share, TenantQuota, WhenOver
from kerf.wire.classes import class_labels, selected_classes
from kerf.wire.errors import WireError
from kerf.wire.quota import conflicts, parse_tenant
from tests.kerf.strategies import JSON

ONE = [{"model": "H100", "guaranteed": "1 card"}]


def tenant(name: str = "team-a", **spec: Any) -> dict[str, Any]:
    full = {"namespaces": ["team-a"], "classes": ONE, **spec}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": full}


def test_the_smallest_file_borrows_and_lends_without_limit() -> None:
    assert parse_tenant(tenant()) == TenantQuota(
        "team-a",
        ("team-a",),
        (ClassQuota("H100", guaranteed=Share(whole=1), burst=UNBOUNDED, lendable=UNBOUNDED),),
    )


def test_every_key_is_read_in_human_units() -> None:
    document = tenant(
        namespaces=["a", "b"],
        weight=3,
        priority="high",
        whenOver="evict",
        claims="allow",
        classes=[
            {
                "guaranteed": "8 cards of H100",
                "burst": {"memory": "160Gi", "cores": 200},
                "lendable": {"memory": 4096, "cards": "2"},
            },
            {"model": "MI300X", "vendor": "amd", "mode": "mps", "guaranteed": {"memory": "1.5Gi"}},
        ],
    )

    assert parse_tenant(document) == TenantQuota(
        "team-a",
        ("a", "b"),
        (
            ClassQuota(
                "H100",
                guaranteed=Share(whole=8),
                burst=Share(memory_mib=163_840, cores=200),
                lendable=Share(memory_mib=4096, cards=2),
            ),
            ClassQuota("MI300X", Mode.MPS, "amd", Share(memory_mib=1536)),
        ),
        weight=3,
        priority="high",
        when_over=WhenOver.EVICT,
        claims=ByClaims.ALLOW,
    )


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, "TenantQuota"),
        ({"kind": "TenantQuota"}, "apiVersion, kind"),
        (tenant("Team A"), "metadata.name"),
        (tenant(namespaces=[]), "spec.namespaces"),
        (tenant(namespaces=["a", "a"]), "spec.namespaces"),
        (tenant(namespaces=["A"]), "spec.namespaces[0]"),
        (tenant(quota={}), "spec.quota"),
        (tenant(weight=0), "spec.weight"),
        (tenant(priority="urgent"), "spec.priority"),
        (tenant(whenOver="kill"), "spec.whenOver"),
        (tenant(claims=True), "spec.claims"),
        (tenant(classes=[]), "spec.classes"),
        (tenant(classes=[*ONE, {"model": "h100", "guaranteed": "2 cards"}]), "spec.classes"),
        (tenant(classes=[{"model": "H100"}]), "spec.classes[0].guaranteed"),
        (tenant(classes=[{"guaranteed": "8 cards"}]), "spec.classes[0].model"),
        (tenant(classes=[{"model": "A100", "guaranteed": "8 cards of H100"}]), "spec.classes[0].guaranteed"),
        (tenant(classes=[{"model": "H100", "guaranteed": "eight cards"}]), "spec.classes[0].guaranteed"),
        (tenant(classes=[{"model": "H100", "guaranteed": "\uff11 card"}]), "spec.classes[0].guaranteed"),
        (tenant(classes=[{"model": "H100", "guaranteed": {}}]), "spec.classes[0].guaranteed"),
        (tenant(classes=[{"model": "H100", "guaranteed": 8}]), "spec.classes[0].guaranteed"),
        (tenant(classes=[{"model": "H100", "guaranteed": {"mem": 1}}]), "spec.classes[0].guaranteed.mem"),
        (tenant(classes=[{"model": "H100", "guaranteed": {"memory": "lots"}}]), "spec.classes[0].guaranteed.memory"),
        (tenant(classes=[{"model": "H100", "guaranteed": {"memory": "-1Gi"}}]), "spec.classes[0].guaranteed.memory"),
        (tenant(classes=[{"model": "H100", "guaranteed": {"cores": 1.5}}]), "spec.classes[0].guaranteed.cores"),
        (tenant(classes=[{"model": "H100", "mode": "x", "guaranteed": "1 card"}]), "spec.classes[0].mode"),
    ],
)
def test_a_mistake_is_refused_by_its_field(document: object, field: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_tenant(document)

    assert caught.value.field == field


@given(JSON, JSON)
def test_whatever_is_written_is_read_or_refused_by_a_field(spec: Any, classes: Any) -> None:
    for document in (tenant() | {"spec": spec}, tenant(classes=classes), tenant(classes=[{"guaranteed": classes}])):
        with suppress(WireError):
            assert isinstance(parse_tenant(document), TenantQuota)


def test_a_namespace_belongs_to_the_first_tenant_by_name() -> None:
    b, a = parse_tenant(tenant("b", namespaces=["x", "y"])), parse_tenant(tenant("a", namespaces=["y"]))

    assert conflicts([b, a]) == {"b": "namespace y belongs to tenant a already: drop it from one of the two"}


def test_a_node_is_labelled_with_the_classes_of_its_cards_and_a_pod_selects_by_them() -> None:
    labels = class_labels((*cards_of("n", 2), *cards_of("m", 1, model="NVIDIA L4")))

    assert labels == {
        "class.kerf.dev/nvidia-h100-80gb-hbm3-shared": "true",
        "class.kerf.dev/nvidia-l4-shared": "true",
    }
    assert selected_classes({**labels, "zone": "a", "class.kerf.dev/x": "false"}) == (
        "nvidia-h100-80gb-hbm3-shared",
        "nvidia-l4-shared",
    )
