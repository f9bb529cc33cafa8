"""A text of a known form is read just as it would be alone: a remembered form leaks nothing and checks no less."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.wire import annotations, inventory
from kerf.wire.annotations import parse_grant, render_grant
from kerf.wire.errors import WireError
from kerf.wire.forms import LONGEST, MOST, Forms
from kerf.wire.inventory import parse_inventory, render_inventory
from tests.kerf.strategies import CARDS, GRANTS

IDS = st.one_of(
    st.text(max_size=8), st.sampled_from(["GPU-1", "GPU-2", "card", "id", "nvidia", "links", "1", "\\", '"'])
)


def read(parse: Callable[[str], object], *texts: str) -> list[object]:
    """What is read of each, one after the other, by a reader that has seen nothing before."""
    annotations._FORMS, inventory._FORMS = Forms("card"), Forms("id")
    return [_read(parse, text) for text in texts]


def _read(parse: Callable[[str], object], text: str) -> object:
    try:
        return parse(text)
    except WireError as error:
        return str(error)


def alike(parse: Callable[[str], object], *texts: str) -> None:
    assert read(parse, *texts, *texts) == [read(parse, text)[0] for text in texts] * 2


def on(grant: Grant, cards: list[str]) -> str:
    """The grant on other cards, as Kerf writes it."""
    left = iter(cards * 64)
    return render_grant(
        Grant(
            tuple(
                ContainerGrant(each.name, tuple(replace(slice_, card=next(left)) for slice_ in each.slices))
                for each in grant.containers
            )
        )
    )


@given(GRANTS, st.lists(st.lists(IDS, min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_grant_of_a_known_form_is_read_as_alone(grant: Grant, cards: list[list[str]]) -> None:
    alike(parse_grant, render_grant(grant), *(on(grant, each) for each in cards))


@given(st.lists(CARDS, max_size=3), st.lists(st.lists(IDS, min_size=1, max_size=4), min_size=1, max_size=3))
def test_an_inventory_of_a_known_form_is_read_as_alone(cards: list[object], ids: list[list[str]]) -> None:
    def named(names: list[str]) -> str:
        links = dict(enumerate((names * len(cards))[: len(cards)]))
        made = [
            replace(card, id=links[i], links=tuple(links.values()), index=i)
            for i, card in enumerate(cards)  # type: ignore[type-var]
        ]
        return render_inventory(tuple(made))

    alike(lambda text: parse_inventory(text, vendor="nvidia"), *map(named, ids))


def slices(*texts: str) -> str:
    return f'{{"v":1,"containers":[{{"name":"a","slices":[{",".join(texts)}]}}]}}'


def cards(*texts: str) -> str:
    return f'{{"v":1,"cards":[{",".join(texts)}]}}'


SLICE = '"vendor":"nvidia","memory_mib":1'
CARD = '"model":"m","vendor":"nvidia","memory_mib":1'
GRANT_PAIRS = {
    "another card beside the card": (
        slices(f'{{"card" : "A","x":{{"card":"A"}},{SLICE}}}'),
        slices(f'{{"card" : "A","x":{{"card":"B"}},{SLICE}}}'),
    ),
    "the key written otherwise": (
        slices(f'{{"c\\u0061rd":"A","x":{{"card":"A"}},{SLICE}}}'),
        slices(f'{{"c\\u0061rd":"A","x":{{"card":"B"}},{SLICE}}}'),
    ),
    "a key twice": (slices(f'{{"card":"A","card":"A",{SLICE}}}'), slices(f'{{"card":"A","card":"B",{SLICE}}}')),
    "a card twice": (
        slices(f'{{"card":"A",{SLICE}}}', f'{{"card":"B",{SLICE}}}'),
        slices(f'{{"card":"A",{SLICE}}}', f'{{"card":"A",{SLICE}}}'),
    ),
    "an unknown key with a card": (
        slices(f'{{"card":"A",{SLICE}}}')[:-1] + ',"more":{"card":"A"}}',
        slices(f'{{"card":"A",{SLICE}}}')[:-1] + ',"more":{"card":"B"}}',
    ),
    "an empty card": (slices(f'{{"card":"A",{SLICE}}}'), slices(f'{{"card":"",{SLICE}}}')),
    "a line break in the card": (slices(f'{{"card":"A",{SLICE}}}'), slices(f'{{"card":"\n",{SLICE}}}')),
    "no ASCII": (slices(f'{{"card":"A",{SLICE}}}'), slices(f'{{"card":"é",{SLICE}}}')),
    "a space that is none": (slices(f'{{"card": "A",{SLICE}}}'), slices(f'{{"card":\u2003"A",{SLICE}}}')),
    "another amount": (
        slices('{"card":"A","vendor":"nvidia","memory_mib":1}'),
        slices('{"card":"A","vendor":"nvidia","memory_mib":1.0}'),
    ),
    "no vendor": (slices('{"card":"A","memory_mib":1}'), slices('{"card":"B","memory_mib":1}')),
}
CARD_PAIRS = {
    "an id twice": (
        cards(f'{{"id":"A",{CARD}}}', f'{{"id":"B",{CARD}}}'),
        cards(f'{{"id":"A",{CARD}}}', f'{{"id":"A",{CARD}}}'),
    ),
    "a link to nothing": (
        cards(f'{{"id":"A","links":["B"],{CARD}}}'),
        cards(f'{{"id":"B","links":["B"],{CARD}}}'),
        cards(f'{{"id":"A","links":["A"],{CARD}}}'),
    ),
    "a card by the name of its model": (
        cards(f'{{"id":"m","links":[],{CARD}}}'),
        cards('{"id":"n","links":[],"model":"n","vendor":"nvidia","memory_mib":1}'),
    ),
    "a card by the name of a key": (
        cards(f'{{"id":"m","links":["m"],"numa":1,{CARD}}}'),
        cards(f'{{"id":"numa","links":["numa"],"numa":1,{CARD}}}'),
        cards(f'{{"id":"cores","links":["cores"],"numa":1,{CARD}}}'),
    ),
    "what stands for a link": (
        cards(f'{{"id":"A","links":["A"],{CARD}}}'),
        cards(f'{{"id":"A","links":[\n0\n],{CARD}}}'),
    ),
    "indices that change the order": (
        cards(f'{{"id":"B","index":1,{CARD}}}', f'{{"id":"A","index":1,{CARD}}}'),
        cards(f'{{"id":"A","index":1,{CARD}}}', f'{{"id":"B","index":1,{CARD}}}'),
    ),
}


@pytest.mark.parametrize("texts", GRANT_PAIRS.values(), ids=GRANT_PAIRS)
def test_grants_that_look_alike_are_read_as_alone(texts: tuple[str, ...]) -> None:
    for order in (texts, texts[::-1]):
        alike(lambda text: parse_grant(text, "amd"), *order)


@pytest.mark.parametrize("texts", CARD_PAIRS.values(), ids=CARD_PAIRS)
def test_inventories_that_look_alike_are_read_as_alone(texts: tuple[str, ...]) -> None:
    for order in (texts, texts[::-1]):
        alike(lambda text: parse_inventory(text, vendor="nvidia"), *order)


def test_another_vendor_is_another_grant() -> None:
    text = slices('{"card":"A","memory_mib":1}')

    found = read(lambda text: [parse_grant(text, vendor) for vendor in ("amd", "nvidia", "amd")], text)

    assert found == [
        [Grant((ContainerGrant("a", (Slice("A", vendor, 1, 0),)),)) for vendor in ("amd", "nvidia", "amd")]
    ]


def test_the_second_text_of_a_form_is_not_read_again() -> None:
    forms: Forms[str] = Forms("id")
    form, ids = forms.split(json.dumps({"id": "A"})) or ((), ())
    forms.keep(form, None, "known")

    other, others = forms.split('{"id":"B"}') or ((), ())

    assert (ids, others, forms.get(other, None), forms.get(other, "amd")) == (("A",), ("B",), "known", None)


def test_no_more_forms_are_kept_than_a_limit_and_no_long_text_is_split() -> None:
    forms: Forms[int] = Forms("id")
    for number in range(MOST + 1):
        forms.keep((f"{number}",), None, number)

    assert [forms.get((f"{number}",), None) for number in (0, MOST)] == [None, MOST]
    assert forms.split(f'{{"id":"A","x":"{"y" * LONGEST}"}}') is None
