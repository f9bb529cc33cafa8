"""The page's picture: nobody sees what they may not list."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.metering.use import Kind, MeteredCard
from kerf.testing.builders import a_card, a_mig_card, a_node_value
from kerf.values.grant import NO_USE, CardUse
from kerf.values.health import Health, State
from kerf.values.node import Node
from kerf.values.slicing import Exactly, Templates
from kerf.views.page.access import HIDDEN, Access, Veil, seen_by
from kerf.views.page.rows import PARTS, cost_rows, node_row, spent_on

NAMES = tuple(f"ns-{word}-space" for word in ("alpha", "beta", "gamma", "delta"))
access = st.builds(
    Access, st.just(False), st.frozensets(st.sampled_from(NAMES)), st.booleans(), st.booleans()
)  # fmt: skip


namespaces = st.sampled_from(NAMES)
sentences = st.lists(
    st.one_of(
        namespaces,
        namespaces.map(lambda name: f"{name}/pod-0"),
        namespaces.map(lambda name: f"({name}),"),
        st.sampled_from(("waits for", "gang", "held by", "quota:")),
    ),
    max_size=5,
).map(" ".join)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows of every section in which namespaces are named wherever they can be."""

    def nodes() -> dict[str, Any]:
        cause = draw(sentences)
        pods = draw(st.lists(st.tuples(namespaces, st.integers(0, 1)), max_size=4))
        node = a_node_value("node-1", 2)
        ill = [card if n else _ill(card, cause) for n, card in enumerate(node.cards)]
        held = [
            (f"{name}/p{n}", "confirmed", {ill[card].id: CardUse(1000, 10, 1)}) for n, (name, card) in enumerate(pods)
        ]
        return dict(
            node_row(Node("node-1", tuple(ill), problem=draw(sentences)), [(c, CardUse(9, 9, 1)) for c in ill], held)
        )

    def named() -> dict[str, Any]:
        name = draw(namespaces)
        return {
            "ns": name,
            "name": "p",
            "why": draw(sentences),
            "fix": draw(sentences),
            "gang": f"{name}/{draw(sentences)}",
        }

    def tenant() -> dict[str, Any]:
        name = draw(namespaces)
        return {
            "name": draw(st.sampled_from(("tenant", *NAMES))),
            "namespaces": sorted({name, draw(namespaces)}),
            "problems": [draw(sentences)],
            "waiting": [draw(sentences)],
            "classes": [{"model": "H100", "note": draw(sentences)}],
        }

    def cost() -> dict[str, Any]:
        names = sorted(draw(st.frozensets(namespaces, min_size=1)))
        return {"kind": "tenant", "name": draw(st.sampled_from(("t", *NAMES))), "per_hour": "1", "namespaces": names}

    return {
        "nodes": {"node-1": nodes()},
        "waiting": {"uid": named()},
        "gangs": {f"{row['ns']}/{draw(sentences)}": row for row in (named(),)},
        "tenants": {row["name"]: row for row in (tenant(), tenant())},
        "costs": {**{f"tenant/{row['name']}": row for row in (cost(), cost())}, "all": {"cards": "3"}},
        "clusters": {"east": {"name": "east", "phase": draw(sentences)}},
        "about": {"scheduler": {"cluster": "here", "waiting": 3, "shown": 3}},
    }


def _ill(card: Any, cause: str) -> Any:
    from dataclasses import replace

    return replace(card, health=Health(State.CORDONED, cause, 1, 79))


@settings(max_examples=300)
@given(worlds(), access)
def test_no_name_of_a_namespace_that_somebody_may_not_list_is_ever_shown(world: Any, mine: Access):
    veil = Veil.of(mine, NAMES)
    seen = {section: seen_by(veil, section, rows) for section, rows in world.items()}
    text = orjson.dumps(seen).decode()

    assert [name for name in NAMES if name in text and not mine.may_see(name)] == []


@given(worlds())
def test_somebody_without_rights_sees_nothing_at_all(world: Any):
    veil = Veil.of(Access(), NAMES)

    assert {section: seen_by(veil, section, rows) for section, rows in world.items()} == {name: {} for name in world}


@given(worlds())
def test_somebody_who_may_list_everything_sees_every_row_as_it_is(world: Any):
    veil = Veil.of(Access(everywhere=True, nodes=True, clusters=True), NAMES)

    assert {section: seen_by(veil, section, rows) for section, rows in world.items()} == world


def test_without_the_right_to_list_nodes_a_person_sees_the_cards_of_their_own_pods():
    node = a_node_value("node-1", 3)
    ids = [card.id for card in node.cards]
    held = [
        ("mine/a", "confirmed", {ids[2]: CardUse(10, 1, 1)}),
        ("theirs/b", "confirmed", {ids[0]: CardUse(20, 2, 1), ids[2]: CardUse(30, 3, 1)}),
    ]
    row = node_row(node, [(card, CardUse(40, 4, 2)) for card in node.cards], held)

    seen = seen_by(Veil.of(Access(namespaces=frozenset({"mine"})), ("mine", "theirs")), "nodes", {"node-1": row})[
        "node-1"
    ]

    assert [card[0] for card in seen["cards"]] == [ids[2]]
    assert seen["pods"] == [["mine/a", "confirmed", 0, 10, 1]]


def test_a_sentence_hides_a_namespace_with_the_pod_behind_it_and_keeps_words_that_only_begin_alike():
    veil = Veil.of(Access(namespaces=frozenset({"a"})), ("a", "team", "team-b"))

    assert veil.text("team/pod-1 and team-b wait; teams, a-team and team-c.x stay") == (
        f"{HIDDEN} and {HIDDEN} wait; teams, a-team and team-c.x stay"
    )


def _card(name: str) -> MeteredCard:
    return MeteredCard(name, Kind("h100", "H100", "owned", ""), 1000, 2_000_000, "node-1")


def costs(cards: dict[str, MeteredCard], held: list[Any], tenants: dict[str, str]) -> dict[str, Any]:
    per_hour = sum(card.per_hour for card in cards.values()) * PARTS // 10**6
    return dict(cost_rows(per_hour, (), spent_on(cards, held), tenants, "USD"))


def test_costs_add_up_to_what_the_cards_cost_and_a_quarter_of_a_card_costs_a_quarter():
    cards = {name: _card(name) for name in ("one", "two")}
    held = [("a", {"one": CardUse(250, 0, 1)}), ("b", {"one": CardUse(100, 50, 1)}), ("c", {"two": CardUse(500, 0, 1)})]

    found = costs(cards, held, {"a": "team", "b": "team"})

    assert found["all"] == {"cards": "4", "allocated": "2.5", "idle": "1.5", "currency": "USD", "free": []}
    assert found["tenant/team"]["per_hour"] == "1.5"
    assert found["namespace/c"]["per_hour"] == "1"


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(1, 1500), st.integers(0, 150)), max_size=8
    )
)
def test_allocated_and_idle_are_what_the_cards_cost_however_they_are_shared(uses: list[tuple[str, str, int, int]]):
    cards = {name: _card(name) for name in "xy"}
    found = costs(cards, [(ns, {card: CardUse(mib, cores, 1)}) for ns, card, mib, cores in uses], {})
    every, allocated, idle = (Decimal(found["all"][key]) for key in ("cards", "allocated", "idle"))

    assert allocated + idle == every
    assert not idle.is_signed()  # nor a zero below zero, which the page would show as -0.00


def test_the_mode_of_a_card_is_the_word_of_the_inventory() -> None:
    driver, templates = replace(a_card(1), slicing=Exactly()), replace(a_card(2), slicing=Templates(()))
    cards = (a_card(0), driver, templates, a_mig_card(3))

    row = node_row(Node("node-1", cards), [(card, NO_USE) for card in cards], [])

    assert [entry[4] for entry in row["cards"]] == ["preload", "driver", "templates", "mig"]
