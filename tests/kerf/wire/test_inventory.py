"""`kerf.dev/inventory`: a contract that tools read."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_mig_card
from kerf.values.device import Backend, Card, Mode
from kerf.values.health import HEALTHY, SUSPECT, Health, State
from kerf.values.mig import Hurt, Instance
from kerf.wire.errors import WireError
from kerf.wire.inventory import KEY, parse_inventory, render_inventory
from tests.kerf.strategies import INVENTORIES


@given(INVENTORIES)
def test_an_inventory_comes_back_as_it_was(cards: tuple[Card, ...]) -> None:
    assert parse_inventory(render_inventory(cards)) == cards


@given(INVENTORIES.flatmap(lambda cards: st.tuples(st.just(cards), st.permutations(cards))))
def test_equal_inventories_are_equal_texts(cards: tuple[tuple[Card, ...], list[Card]]) -> None:
    assert render_inventory(cards[0]) == render_inventory(tuple(cards[1]))


def test_the_text_is_the_documented_one() -> None:
    card = Card("GPU-a", 0, "nvidia", "NVIDIA H100 80GB HBM3", 81_559)

    assert render_inventory((card,)) == (
        '{"v":1,"cards":[{"id":"GPU-a","index":0,"vendor":"nvidia","model":"NVIDIA H100 80GB HBM3",'
        '"memory_mib":81559,"cores":100,"slots":10,"numa":0,"mode":"shared","healthy":true}]}'
    )


def test_a_card_in_another_mode_says_what_keeps_its_slices_and_why_it_is_so() -> None:
    card = a_card(mode=Mode.MPS, backend=Backend.MPS, joint=False, mode_note="the pool asks for preload")

    (written,) = json.loads(render_inventory((card,)))["cards"]
    assert {key: written[key] for key in ("mode", "backend", "joint", "mode_note")} == {
        "mode": "mps",
        "backend": "mps",
        "joint": False,
        "mode_note": "the pool asks for preload",
    }


def test_a_backend_of_a_newer_writer_is_not_known_and_harms_nothing() -> None:
    text = '{"v":1,"cards":[{"id":"a","model":"m","memory_mib":5,"mode":"mps","backend":"magic"}]}'

    (card,) = parse_inventory(text, vendor="nvidia")
    assert (card.mode, card.backend) == (Mode.MPS, Backend.UNSAID)


def test_what_is_left_out_has_a_default_and_unknown_keys_are_ignored() -> None:
    text = '{"v":1,"future":[],"cards":[{"id":"a","model":"m","memory_mib":5,"numa":-1,"speed":9}]}'

    assert parse_inventory(text, vendor="nvidia") == (Card("a", 0, "nvidia", "m", 5, 100, 10, 0, Mode.SHARED),)


def test_a_card_that_is_not_healthy_says_why_and_since_when_and_older_readers_still_see_that_it_is_not() -> None:
    card = a_card(health=Health(State.CORDONED, "XID 79", 1_764_250_000))

    (written,) = json.loads(render_inventory((card,)))["cards"]
    assert (written["healthy"], written["health"]) == (
        False,
        {"state": "cordoned", "cause": "XID 79", "since": 1_764_250_000},
    )


@pytest.mark.parametrize(
    ("keys", "health"),
    [
        pytest.param({"healthy": True}, HEALTHY, id="an older writer's healthy card"),
        pytest.param({"healthy": False}, SUSPECT, id="an older writer's sick card: no cause, so only suspect"),
        pytest.param({"healthy": True, "health": {"state": "recovering"}}, Health(State.RECOVERING), id="one objects"),
        pytest.param({"healthy": False, "health": {"state": "healthy"}}, SUSPECT, id="the other objects"),
        pytest.param({"healthy": True, "health": {"state": "resting"}}, SUSPECT, id="a newer writer's state"),
    ],
)
def test_a_card_is_healthy_only_if_every_key_that_is_written_says_so(keys: dict[str, object], health: Health) -> None:
    assert parse_inventory(card_with(**keys)) == (a_card(health=health),)


def card_with(**changes: object) -> str:
    card = {**json.loads(render_inventory((a_card(),)))["cards"][0], **changes}
    return json.dumps({"v": 1, "cards": [card]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", None),
        ("[]", f"{KEY}: '[]': write a JSON object"),
        ('{"v":true,"cards":[]}', f"{KEY}.v: 'True': write the format's version, a whole number up to 1"),
        ('{"cards":[]}', f"{KEY}.v: 'None': write the format's version, a whole number up to 1"),
        ('{"v":2}', f"{KEY}.v: '2': written by a newer Kerf; this one reads up to version 1: upgrade it"),
        ('{"v":1}', f"{KEY}.cards: 'None': write a list of cards"),
        ('{"v":1,"cards":[5]}', f"{KEY}.cards[0]: '5': write an object"),
        (card_with(id=""), f"{KEY}.cards[0].id: '': write a text of 1 to 253 characters"),
        (
            card_with(memory_mib=2**31),
            f"{KEY}.cards[0].memory_mib: '2147483648': write a whole number up to 2147483647",
        ),
        (card_with(memory_mib=True), f"{KEY}.cards[0].memory_mib: 'True': write a whole number up to 2147483647"),
        (card_with(mode="half"), f"{KEY}.cards[0].mode: 'half': use one of shared, mig, mps"),
        (card_with(healthy="yes"), f"{KEY}.cards[0].healthy: 'yes': write true or false"),
        (card_with(health="ill"), f"{KEY}.cards[0].health: 'ill': write an object"),
        (
            card_with(health={"state": 3}),
            f"{KEY}.cards[0].health.state: '3': use one of healthy, suspect, cordoned, recovering",
        ),
        (
            card_with(health={"state": "suspect", "cause": "x" * 254}),
            f"{KEY}.cards[0].health.cause: '{'x' * 77}…': write a text of at most 253 characters",
        ),
        (
            card_with(health={"state": "suspect", "since": "today"}),
            f"{KEY}.cards[0].health.since: 'today': write a whole number up to {2**53}",
        ),
        (card_with(links=[1]), f"{KEY}.cards[0].links: '[1]': write a list of card ids"),
    ],
)
def test_a_malformed_inventory_names_the_field_and_the_fix(text: str, message: str | None) -> None:
    with pytest.raises(WireError) as caught:
        parse_inventory(text, vendor="nvidia")

    assert message in {None, str(caught.value)}


def test_a_long_cause_is_cut_so_that_readers_take_the_node() -> None:
    text = render_inventory((a_card(health=Health(State.CORDONED, "x" * 300, 1)),))

    assert parse_inventory(text)[0].health == Health(State.CORDONED, "x" * 253, 1)


def test_a_card_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(WireError, match="give every card its own id"):
        parse_inventory(render_inventory((a_card(), a_card())))


def test_a_card_in_mig_mode_keeps_its_profiles_the_instances_of_others_and_its_faults():
    card = a_mig_card(0, Instance(6, 1, 19, 3, "MIG-x"))
    assert card.mig is not None
    hurt = replace(card, mig=replace(card.mig, hurt=(Hurt(4, "uid", 48, "XID 48", 7),)))

    (read,) = parse_inventory(render_inventory((hurt,)))

    assert replace(read, slicing=hurt.slicing) == hurt
    assert read.mig.slicing == hurt.slicing  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"profiles": [{"id": 1, "name": "1g", "memory_mib": 9, "cores": 5, "size": 2, "starts": [7]}]},
            "mig.profiles[0].starts",
        ),
        ({"profiles": [{"id": 1, "name": "x" * 40, "memory_mib": 9, "cores": 5, "size": 1, "starts": []}]}, "name"),
        ({"taken": [{"start": 8, "size": 1, "profile": 1}]}, "mig.taken[0].start"),
        ({"taken": [{}] * 65}, "65 entries"),
        ({"hurt": [{"start": 1, "uid": "u", "cause": 5}]}, "mig.hurt[0].cause"),
        (7, "write an object"),
    ],
)
def test_a_broken_geometry_is_named(change: object, said: str):
    document = json.loads(render_inventory((a_mig_card(),)))
    document["cards"][0]["mig"] = change

    with pytest.raises(WireError, match=re.escape(said)):
        parse_inventory(json.dumps(document))
