"""Which slices of a card answer an ask."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import H100_MIB, a_card, an_ask
from kerf.values.device import Backend, Mode
from kerf.values.slicing import (
    ANY_SIZE,
    Partitions,
    Size,
    Slicing,
    Templates,
    WholeCard,
    alone_on,
    size_on,
    sizes,
    sliceable,
)

TEMPLATES = Templates((Size(8_192, 25, "quarter"), Size(16_384, 50, "half")))
WHOLE_CARD = Size(32_768, 100)


def templated(**changes: object) -> object:
    return a_card(memory_mib=32_768, slicing=TEMPLATES, **changes)


def test_free_form_slices_are_what_was_asked_up_to_the_hardware():
    card = a_card()

    assert sizes(an_ask(memory_mib=8000, cores=30), card) == (Size(8000, 30),)
    assert sizes(an_ask(memory_percent=50, cores=0), card) == (Size(H100_MIB // 2, 0),)
    assert sizes(an_ask(memory_mib=H100_MIB + 1), card.overcommitted(2, 1)) == ()


@pytest.mark.parametrize(
    ("asked", "cores", "given_sizes"),
    [
        (1, 0, (*TEMPLATES.templates, WHOLE_CARD)),
        (8_192, 25, (*TEMPLATES.templates, WHOLE_CARD)),
        (8_193, 0, (TEMPLATES.templates[1], WHOLE_CARD)),
        (1, 26, (TEMPLATES.templates[1], WHOLE_CARD)),
        (16_385, 0, (WHOLE_CARD,)),
        (1, 51, (WHOLE_CARD,)),
        (32_769, 0, ()),
    ],
)
def test_an_ask_gets_the_smallest_template_that_holds_its_memory_and_cores(asked, cores, given_sizes):
    assert sizes(an_ask(memory_mib=asked, cores=cores), templated()) == given_sizes


def test_templates_without_the_whole_card_end_at_the_largest_template():
    card = a_card(memory_mib=32_768, slicing=replace(TEMPLATES, whole=False))

    assert size_on(an_ask(memory_mib=16_385), card) is None
    assert card.slicing.largest(card) == TEMPLATES.templates[1]


def test_a_partition_is_one_of_equal_parts():
    card = a_card(memory_mib=80_000, slicing=Partitions(8))

    assert sizes(an_ask(memory_mib=4_000, cores=0), card) == (Size(10_000, 12),)
    assert sizes(an_ask(memory_mib=10_001, cores=0), card) == ()


def test_a_card_that_is_never_divided_gives_all_of_itself():
    card = a_card(memory_mib=80_000, slicing=WholeCard())

    assert sizes(an_ask(memory_mib=1, cores=1), card) == (Size(80_000, 100),)
    assert sizes(an_ask(memory_mib=80_001), card) == ()


def test_a_card_that_is_not_sliced_gives_nothing_and_says_why():
    mig, mps = a_card(mode=Mode.MIG), a_card(mode=Mode.MPS)

    assert [sliceable(card) for card in (a_card(), mig, mps, templated())] == [True, False, False, True]
    assert sizes(an_ask(), mig) == sizes(an_ask(), mps) == ()
    assert "MIG" in mig.slicing.refusal
    assert "MPS" in mps.slicing.refusal


def test_a_card_with_an_mps_daemon_of_its_own_is_shared_by_containers_of_one_card():
    each, together = (a_card(mode=Mode.MPS, backend=Backend.MPS, joint=joint) for joint in (False, True))
    two, alone = an_ask(cards=2, memory_mib=8000, cores=30), an_ask(cards=2, memory_percent=100, cores=100)

    assert [sizes(an_ask(memory_mib=8000, cores=30), card) for card in (each, together)] == [(Size(8000, 30),)] * 2
    assert [sizes(two, card) for card in (each, together)] == [(), (Size(8000, 30),)]
    assert sizes(alone, each) == (Size(H100_MIB, 100),)


def test_only_sizes_that_software_keeps_are_over_committed():
    assert a_card().overcommitted(2, 2).memory_mib == 2 * H100_MIB
    assert templated().overcommitted(2, 2) == templated()


def test_a_slice_with_all_cores_is_alone_unless_cores_are_over_committed():
    assert alone_on(100, a_card())
    assert not alone_on(99, a_card())
    assert not alone_on(100, a_card().overcommitted(1, 2))
    assert alone_on(0, a_card(), mutex=True)


def test_templates_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match="must rise"):
        Templates((Size(8, 50), Size(16, 25)))


@given(
    slicing=st.sampled_from((ANY_SIZE, TEMPLATES, replace(TEMPLATES, whole=False), Partitions(3), WholeCard())),
    memory=st.integers(0, 40_000),
    cores=st.integers(0, 100),
)
def test_every_size_holds_the_ask_and_sizes_rise(slicing: Slicing, memory: int, cores: int):
    card = a_card(memory_mib=32_768, slicing=slicing)
    found = sizes(an_ask(memory_mib=memory, cores=cores), card)

    assert all(size.memory_mib >= memory for size in found)
    assert all(size.memory_mib <= card.slicing.largest(card).memory_mib for size in found)
    assert all(a.memory_mib <= b.memory_mib and a.cores <= b.cores for a, b in pairwise(found))
    assert hash(card) == hash(replace(card))
