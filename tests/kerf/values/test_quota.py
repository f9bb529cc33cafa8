"""Quota as values: classes, bounds, and one rule of addition for asks and grants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_pod_ask, an_ask
from kerf.values.ask import Stage
from kerf.values.device import Backend, Mode
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.quota import (
    Amount,
    Bound,
    CardClass,
    ClassQuota,
    Share,
    Usage,
    class_of,
    usage_of_ask,
    usage_of_grant,
)

APP, SIDECAR, INIT = Stage.APP, Stage.SIDECAR, Stage.INIT


def test_a_class_is_the_model_and_the_mode_of_a_card() -> None:
    assert class_of(a_card()) == CardClass("nvidia", "NVIDIA H100 80GB HBM3", Mode.SHARED)


def test_a_card_that_kerf_shares_through_mps_stays_in_its_class() -> None:
    assert class_of(a_card(mode=Mode.MPS, backend=Backend.MPS)) == class_of(a_card())
    assert class_of(a_card(mode=Mode.MPS)) != class_of(a_card())


@pytest.mark.parametrize(
    ("card_class", "slug"),
    [
        (CardClass("nvidia", "NVIDIA H100 80GB HBM3"), "nvidia-h100-80gb-hbm3-shared"),
        (CardClass("nvidia", "Tesla V100-SXM2-32GB"), "nvidia-tesla-v100-sxm2-32gb-shared"),
        (CardClass("amd", "MI300X", Mode.MPS), "amd-mi300x-mps"),
    ],
)
def test_a_slug_names_vendor_model_and_mode(card_class: CardClass, slug: str) -> None:
    assert card_class.slug == slug


@given(st.text(max_size=200), st.sampled_from(Mode))
def test_a_slug_fits_into_a_label_whatever_the_model_is_called(model: str, mode: Mode) -> None:
    slug = CardClass("nvidia", model, mode).slug

    assert 0 < len(slug) <= 63
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert slug[0] != "-" != slug[-1]


def test_long_models_that_differ_at_the_end_keep_different_slugs() -> None:
    one, other = (CardClass("nvidia", "x" * 100 + end).slug for end in "ab")

    assert one != other


def test_whole_cards_are_of_the_size_of_a_card() -> None:
    assert Share(whole=3).on(Amount(1000, 100, 10)) == Bound(3000, 300, 30)
    assert Share(memory_mib=5).on(Amount(1000, 100, 10)) == Bound(5, None, None)


def test_a_quota_means_a_class_by_its_model_and_by_its_mode() -> None:
    h100, l4, l40s = (CardClass("nvidia", name) for name in ("NVIDIA H100 80GB HBM3", "NVIDIA L4", "NVIDIA L40S"))
    classes = (h100, l4, l40s)

    assert ClassQuota("h100").among(classes) == (h100,)
    assert ClassQuota("NVIDIA-H100-80GB-HBM3").among(classes) == (h100,)
    assert ClassQuota("NVIDIA L4").among(classes) == (l4,)
    assert ClassQuota("NVIDIA L").among(classes) == (l4, l40s)
    assert ClassQuota("A100").among(classes) == ()
    assert ClassQuota("H100", mode=Mode.MPS).among(classes) == ()
    assert ClassQuota("H100", vendor="amd").among(classes) == ()


def test_the_first_broken_bound_is_named_with_what_is_left() -> None:
    bound = Bound(memory_mib=100, cores=None, cards=3)

    assert bound.first_broken(Amount(60, 900, 1), Amount(40, 900, 2)) is None
    assert bound.first_broken(Amount(60, 0, 1), Amount(41, 0, 9)) == ("memory_mib", 40)
    assert bound.first_broken(Amount(60, 0, 2), Amount(40, 0, 2)) == ("cards", 1)
    assert bound.first_broken(Amount(500, 0, 2), Amount(0, 0, 1)) is None  # over already, but it asks for no memory


@pytest.mark.parametrize(
    ("containers", "truth"),
    [
        # gpu 2, gpumem 4096, cores 30
        ([("a", APP, 2, 4096, 30)], Amount(8192, 60, 2)),
        # two containers: 1 x 1000 and 1 x 3000
        ([("a", APP, 1, 1000, 0), ("b", APP, 1, 3000, 0)], Amount(4000, 0, 2)),
        # init 1 x 8000, main 2 x 1000: max(8000, 2000) MiB, max(1, 2) cards
        ([("i", INIT, 1, 8000, 0), ("a", APP, 2, 1000, 0)], Amount(8000, 0, 2)),
        # a sidecar runs beside the init container after it: max(500 + 8000, 500 + 2000)
        ([("s", SIDECAR, 1, 500, 0), ("i", INIT, 1, 8000, 0), ("a", APP, 2, 1000, 0)], Amount(8500, 0, 3)),
        # an init container before the sidecar runs alone: max(8000, 500 + 2000)
        ([("i", INIT, 1, 8000, 0), ("s", SIDECAR, 1, 500, 0), ("a", APP, 2, 1000, 0)], Amount(8000, 0, 3)),
    ],
)
def test_an_ask_and_its_grant_are_charged_the_same_truth(containers: list[tuple], truth: Amount) -> None:
    asks = [an_ask(name=n, cards=c, memory_mib=m, cores=k, stage=s) for n, s, c, m, k in containers]
    held = [
        ContainerGrant(n, tuple(Slice(f"GPU-{i}", "nvidia", m, k) for i in range(c))) for n, _, c, m, k in containers
    ]
    stages = tuple((n, s) for n, s, *_ in containers)

    asked = usage_of_ask(a_pod_ask("p", *asks), a_card())
    granted = usage_of_grant(Grant(tuple(held)), stages, {f"GPU-{i}": "h100" for i in range(9)})

    assert asked == Usage((("nvidia", truth),))
    assert granted == Usage((("h100", truth),))


def test_percent_and_whole_cards_are_charged_by_the_card() -> None:
    half, whole = an_ask(name="a", memory_percent=50, cores=0), an_ask(name="b", memory_percent=100, cores=100)

    assert usage_of_ask(a_pod_ask("p", half, whole), a_card()).total == Amount(40_779 + 81_559, 100, 2)


def test_slices_of_two_classes_are_counted_apart_and_of_unknown_cards_too() -> None:
    grant = Grant(
        (ContainerGrant("a", (Slice("x", "nvidia", 1, 2), Slice("y", "nvidia", 3, 4), Slice("z", "nvidia", 5, 6))),)
    )

    found = usage_of_grant(grant, (), {"x": "h100", "y": "l4"})

    assert found == Usage((("?", Amount(5, 6, 1)), ("h100", Amount(1, 2, 1)), ("l4", Amount(3, 4, 1))))
