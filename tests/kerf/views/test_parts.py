"""What lies on cards of fixed sizes, and what would still fit."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_mig_card
from kerf.values.device import Card, Mode
from kerf.values.grant import NO_USE, CardUse, Slice
from kerf.values.mig import Hurt, Instance, place_at
from kerf.values.slicing import ANY_SIZE, Exactly, Partitions, Size, Templates, WholeCard
from kerf.views.lines import Tenant, card_lines
from kerf.views.parts import FreePart, free_parts, held_parts, way_of

TEMPLATES = (Size(16_384, 25, "quarter"), Size(32_768, 50, "half"))


def a_divided_card(slicing: object, **changes: object) -> Card:
    return replace(a_card(0, memory_mib=65_536, slots=4), slicing=slicing, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("card", "word"),
    [
        (a_divided_card(ANY_SIZE), "preload"),
        (a_divided_card(ANY_SIZE, mode=Mode.MPS), "mps"),
        (a_mig_card(), "mig"),
        (a_divided_card(Exactly()), "driver"),
        (a_divided_card(Templates(TEMPLATES)), "templates"),
        (a_divided_card(Partitions(4)), "parts"),
        (a_divided_card(WholeCard()), "whole"),
    ],
)
def test_a_card_is_called_by_what_divides_it(card: Card, word: str):
    assert way_of(card) == word


def test_a_card_of_templates_shows_them_by_name_and_what_fits_beside_them():
    card = a_divided_card(Templates(TEMPLATES))
    pieces = [("a", Slice(card.id, "toy", 16_384, 25)), ("b", Slice(card.id, "toy", 32_768, 50))]

    assert held_parts(card, pieces) == ("quarter (a)", "half (b)")
    assert free_parts(card, CardUse(49_152, 75, 2)) == (FreePart("quarter", 16_384, 25, 1),)
    assert [str(each) for each in free_parts(card, NO_USE)] == ["4 x quarter", "2 x half", "1 x the whole card"]


def test_a_card_whose_slices_are_alike_takes_only_those_of_the_first():
    card = a_divided_card(Templates(TEMPLATES, alike=True))
    (_, half, _) = card.slicing.offered(card)  # type: ignore[attr-defined]

    free = free_parts(card, CardUse(32_768, 50, 1, half.places[0].adds))

    assert free == (FreePart("half", 32_768, 50, 1),)


def test_a_card_in_mig_mode_shows_everybodys_instances_and_the_free_places():
    card = a_mig_card(0, Instance(6, 1, 19, 9, "MIG-x"))
    piece = Slice(card.id, "nvidia", 40_448, 45, place_at(0, 4).adds)

    assert held_parts(card, [("a", piece), ("a", piece)]) == (
        "1g.10gb at memory slice 6 (not Kerf's)",
        "3g.40gb at memory slice 0 (a)",
    )
    assert [str(each) for each in free_parts(card, CardUse(40_448, 45, 1, piece.place))] == [
        "2 x 1g.10gb at 4, 5",
        "1 x 1g.20gb at 4",
        "1 x 2g.20gb at 4",
    ]


@given(st.sets(st.integers(0, 6)))
def test_free_instances_are_as_many_as_can_lie_side_by_side(held: set[int]):
    card = a_mig_card()
    used = sum(place_at(start, 1).adds for start in held)
    found = {each.size: each.count for each in free_parts(card, CardUse(0, 0, len(held), used))}
    assert card.mig is not None

    for profile in card.mig.plain:
        free = [start for start in profile.starts if not held & set(range(start, start + profile.size))]
        most = max(
            n
            for n in range(len(free) + 1)
            for some in combinations(free, n)
            if all(b - a >= profile.size for a, b in combinations(sorted(some), 2))
        )
        assert found.get(profile.name, 0) == min(most, 7 - len(held))


def test_cards_of_any_size_have_no_parts():
    for card in (a_divided_card(ANY_SIZE), a_divided_card(Exactly()), a_divided_card(WholeCard())):
        assert (held_parts(card, [("a", Slice(card.id, "x", 1, 1))]), free_parts(card, NO_USE)) == ((), ())


def test_a_line_of_a_card_says_what_it_holds_and_what_is_wrong_with_it():
    card = a_mig_card()
    assert card.mig is not None
    hurt = Hurt(0, "uid", 48, "MIG instance 1 at memory slice 0: XID 48", 1)
    card = replace(card, mig=replace(card.mig, hurt=(hurt,)))
    piece = Slice(card.id, "nvidia", 81_152, 100, place_at(0, 8).adds)

    (line,) = card_lines("n", (card,), (), [Tenant("default/a", {card.id: CardUse(1, 1, 1, piece.place)}, (piece,))])

    assert (line.parts, line.free, line.fault, line.mode) == (
        ("7g.80gb at memory slice 0 (a)",),
        (),
        "MIG instance 1 at memory slice 0: XID 48; its pod has to move",
        "mig",
    )
