"""A card's name means the card that the driver calls so, and no smaller one whose name is a part of it."""

import pytest

from kerf.sizing.cards import CARDS, card_named, cards_named, reserved_on
from kerf.values.card_names import meant
from kerf.wire.errors import WireError


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_name_of_a_card_means_that_card(card) -> None:
    assert {card_named(name) for name in (card.name, f"NVIDIA {card.name}", card.name.lower(), *card.models)} == {card}


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("A100", ["A100-40GB", "A100-80GB"]),
        ("V100", ["V100-16GB", "V100-32GB"]),
        ("A100-SXM4", ["A100-40GB", "A100-80GB"]),
        ("NVIDIA-A100-SXM4-80GB", ["A100-80GB"]),
        ("RTX 4090", ["RTX4090"]),
        ("NVIDIA H100", ["H100"]),
        ("GH200 480GB", []),
        ("GB200", []),
        ("A40", []),
        ("RTX A4000", []),
        ("", []),
    ],
)
def test_a_name_means_every_card_that_it_can_mean(written: str, names: list[str]) -> None:
    assert [card.name for card in cards_named(written)] == names


@pytest.mark.parametrize(
    ("written", "fix"),
    [("A100", "write A100-40GB or A100-80GB"), ("A40", "use one of T4,"), ("NVIDIA GH200 480GB", "or --card-mib")],
)
def test_one_card_is_asked_for_by_one_name(written: str, fix: str) -> None:
    with pytest.raises(WireError, match=f"card: '{written}': .*{fix}"):
        card_named(written)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_rendered_pod_selects_the_cards_that_the_driver_names(card) -> None:
    drivers = [model for each in CARDS for model in (each.models or (f"NVIDIA {each.name}",))]
    selected = {model for name in card.selection.split(",") for model in meant(name, drivers)}
    assert selected == set(card.models or (f"NVIDIA {card.name}",))


def test_what_the_driver_keeps_is_known_where_it_was_measured() -> None:
    cards = ("NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA H100 NVL", "NVIDIA A100-SXM4-80GB", "other")
    assert [reserved_on(name) for name in cards] == [480, 615, 0, 0, 0]
