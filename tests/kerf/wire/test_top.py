"""`/top`: what a node's monitor serves and `kerf top` reads."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire.errors import WireError
from kerf.wire.top import NodeTop, TopCard, TopContainer, TopProcess, parse_top, render_top
from tests.kerf.strategies import WORDS

NUMBERS = st.integers(0, 2**53)
PROCESSES = st.builds(TopProcess, pid=NUMBERS, host_pid=NUMBERS, command=WORDS, used_mib=NUMBERS)
CONTAINERS = st.builds(
    TopContainer,
    namespace=WORDS,
    pod=WORDS,
    container=WORDS,
    card=WORDS,
    limit_mib=st.none() | NUMBERS,
    used_mib=NUMBERS,
    peak_mib=NUMBERS,
    driver_mib=NUMBERS,
    denied=NUMBERS,
    cores=NUMBERS,
    busy_percent=NUMBERS,
    throttled_ms=NUMBERS,
    launches=NUMBERS,
    processes=st.lists(PROCESSES, max_size=2).map(tuple),
    events=st.dictionaries(WORDS, NUMBERS, max_size=2),
    bypassed=st.booleans(),
)
CARDS = st.builds(
    TopCard,
    card=WORDS,
    model=WORDS,
    memory_mib=NUMBERS,
    used_mib=NUMBERS,
    foreign_mib=NUMBERS,
    healthy=st.booleans(),
    health=st.just("") | WORDS,
)
TOPS = st.builds(
    NodeTop,
    cards=st.lists(CARDS, max_size=2).map(tuple),
    containers=st.lists(CONTAINERS, max_size=2).map(tuple),
    overuse=st.lists(WORDS, max_size=2).map(tuple),
)


@given(TOPS)
def test_a_page_comes_back_as_it_was(top: NodeTop) -> None:
    assert parse_top(render_top(top)) == top


def test_keys_that_an_older_node_does_not_write_are_empty_and_unknown_keys_are_ignored() -> None:
    text = json.dumps({"v": 1, "cards": [{"card": "GPU-0", "memory_mib": 5, "speed": 9}], "containers": [{}]})

    assert parse_top(text) == NodeTop(
        (TopCard("GPU-0", "", 5, 0, 0, True),),
        (TopContainer("", "", "", "", None, 0, 0, 0, 0, 0, 0, 0, 0, (), {}, False),),
    )


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ({"v": 2}, "/top.v: '2': written by a newer Kerf; this one reads up to version 1: upgrade it"),
        ({"v": 1, "cards": 3}, "/top.cards: '3': write a list"),
        ({"v": 1, "cards": [3]}, "/top.cards[0]: '3': write an object"),
        ({"v": 1, "cards": [{"card": 3}]}, "/top.cards[0].card: '3': write a text"),
        ({"v": 1, "cards": [{"healthy": 3}]}, "/top.cards[0].healthy: '3': write true or false"),
        (
            {"v": 1, "containers": [{"processes": [{"pid": -1}]}]},
            f"/top.containers[0].processes[0].pid: '-1': write a whole number from 0 to {2**64 - 1}",
        ),
        (
            {"v": 1, "containers": [{"events": {"no_slot": "x"}}]},
            f"/top.containers[0].events.no_slot: 'x': write a whole number from 0 to {2**64 - 1}",
        ),
        ({"v": 1, "overuse": [1]}, "/top.overuse: '[1]': write a list of texts"),
    ],
)
def test_a_malformed_page_names_the_field_and_the_fix(page: object, message: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_top(json.dumps(page))

    assert str(caught.value) == message
