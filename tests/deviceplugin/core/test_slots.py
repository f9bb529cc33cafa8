"""Slots are anonymous, stable, and become unhealthy only where no pod holds them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.core.slots import LONGEST_STEM, Resource, Slot, slots_of, stem, turn_name, turn_names, withdraw
from kerf.testing.builders import a_card
from kerf.values.device import Mode
from kerf.values.health import HEALTHY, SUSPECT
from kerf.values.slicing import ANY_SIZE

GPU = Resource("nvidia.com/gpu", "nvidia")


def test_each_shared_card_adds_its_slots_under_numbers_that_depend_on_nothing_else():
    cards = (a_card(0, slots=2), a_card(1, slots=1, health=SUSPECT), a_card(2, mode=Mode.MIG))

    assert (Slot("kerf-0"), Slot("kerf-1"), Slot("kerf-2", False)) == slots_of(GPU, cards, frozenset({"kerf-2"}))


def test_the_slots_of_two_vendors_on_one_node_have_different_names_and_their_own_number():
    cards = (a_card(0, slots=2), a_card(1, slots=1, vendor="acme", slicing=ANY_SIZE))

    assert (Slot("kerf-acme-0"),) == slots_of(Resource("acme.example/npu", "acme", "-acme"), cards)
    assert (Slot("kerf-0"), Slot("kerf-1")) == slots_of(GPU, cards)


def test_a_sick_card_withdraws_as_many_free_slots_as_it_has_from_the_top():
    cards = (a_card(0, slots=3), a_card(1, slots=3, health=SUSPECT))

    assert frozenset({"kerf-5", "kerf-3", "kerf-2"}) == withdraw(GPU, cards, frozenset({"kerf-4"}), frozenset())


def test_slots_that_were_withdrawn_stay_the_ones_when_more_become_free():
    cards = (a_card(0, slots=2), a_card(1, slots=2, health=SUSPECT))

    assert frozenset({"kerf-0", "kerf-1"}) == withdraw(GPU, cards, frozenset(), frozenset({"kerf-0", "kerf-1"}))


def test_names_are_fit_for_cdi_and_files_and_stay_short_for_many_cards():
    few, many = ("kerf-3", "kerf-1"), tuple(f"kerf-{i}" for i in range(100))

    assert turn_names(few) == ("kerf-1-kerf-3.0", "kerf-1-kerf-3.1", "kerf-1-kerf-3.2", "kerf-1-kerf-3.3")
    assert turn_name(few, 0) == turn_name(few, 4)
    assert len(stem(many)) <= LONGEST_STEM
    for name in (*turn_names(few), *turn_names(many)):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]*[A-Za-z0-9]", name)


@given(st.permutations([f"kerf-{i}" for i in range(40)]), st.integers(1, 40))
def test_the_same_slots_have_the_same_name_in_any_order_and_others_another(slots: list[str], count: int):
    picked = slots[:count]

    assert stem(picked) == stem(reversed(picked))
    assert stem(picked) != stem([*picked[1:], "kerf-99"])


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=5),
    st.sets(st.integers(0, 19)),
    st.sets(st.integers(0, 19)),
)
def test_withdrawn_slots_are_free_and_never_more_than_the_sick_cards_have(
    shape: list[tuple[int, bool]], held: set[int], before: set[int]
):
    cards = [a_card(i, slots=slots, health=HEALTHY if healthy else SUSPECT) for i, (slots, healthy) in enumerate(shape)]
    names = {slot.id for slot in slots_of(GPU, cards)}
    in_use = frozenset(f"kerf-{i}" for i in held)

    gone = withdraw(GPU, cards, in_use, frozenset(f"kerf-{i}" for i in before))

    sick = sum(slots for slots, healthy in shape if not healthy)
    assert gone <= names - in_use
    assert len(gone) == min(sick, len(names - in_use))
