"""The engine says what `place` says, on every node, and keeps saying it while the fleet changes."""

import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_node_value, a_pod_ask, an_ask
from kerf.values.ask import PodAsk, Selection, Stage, Wishes
from kerf.values.grant import CardUse, Grant, card_uses
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.slicing import Size, Templates
from kerf.values.verdict import Misfit, Reason
from scheduler.core.place import place
from scheduler.core.preference import wished
from scheduler.policies.workload import WHOLE, Kind, Target
from scheduler.state.engine import NOWHERE, Engine
from scheduler.state.fleet import Fleet
from scheduler.state.workload_views import TURNOVER
from tests.effort import examples
from tests.scheduler.fleets import cards, pod_asks, uses

TARGET = Target(((Kind(1, 1, 4, 0, 20), WHOLE // 2), (Kind(2, 2, -1, 100, 100), WHOLE // 2)))


@st.composite
def nodes(draw: st.DrawFn, name: str) -> Node:
    return Node(
        name,
        draw(cards(name)),
        cpu_milli=draw(st.integers(0, 8)),
        memory_mib=64,
        schedulable=draw(st.sampled_from((True, True, False))),
        cordoned=draw(st.sampled_from(((), (f"{name}-0",)))),
    )


@st.composite
def events(draw: st.DrawFn) -> tuple[object, ...]:
    name = draw(st.sampled_from("nabc"))
    what = draw(st.sampled_from(("put", "put", "remove", "charge", "charge", "ask")))
    if what == "put":
        return what, draw(nodes(name)), draw(st.sampled_from(((1.0, 1.0), (1.5, 2.0))))
    if what == "charge":
        return what, name, {f"{name}-{draw(st.integers(0, 3))}": draw(uses())}, draw(st.integers(0, 2))
    return (what, name) if what == "remove" else (what, draw(pod_asks()))


def apply(fleet: Fleet, event: tuple[object, ...]) -> None:
    what, *arguments = event
    if what == "put":
        fleet.put_node(*arguments)
    elif what == "remove":
        fleet.remove_node(*arguments)
    elif what == "charge":
        fleet.charge(*arguments, 0)


@settings(max_examples=examples(150))
@given(st.lists(events(), max_size=12), pod_asks(), st.booleans())
def test_the_engine_agrees_with_place_on_every_node(log: list[tuple[object, ...]], ask: PodAsk, check: bool) -> None:
    fleet, policy = Fleet(), SchedulingPolicy()
    engine = Engine(fleet, policy, check_node=check)
    engine.set_target(TARGET)
    for event in log:
        apply(fleet, event)
        if event[0] == "ask":
            engine.scores(event[1], fleet.every_row())

    names = [*fleet.names(), "unknown"]
    answer = engine.query(ask, fleet.rows(names))

    chain, weights = wished(ask, policy)
    for name, feasible, reason in zip(names, answer.feasible.tolist(), answer.reasons.tolist(), strict=True):
        exact = place(ask, fleet.state(name), chain, weights, check_node=check)
        assert (feasible, Reason(reason)) == (
            (True, Reason.FITS) if isinstance(exact, Grant) else (False, exact.reason)
        ), name


@settings(max_examples=examples(100))
@given(st.lists(events(), max_size=12), pod_asks(), st.sampled_from(("binpack", "spread", "fragmentation")))
def test_lanes_kept_up_to_date_equal_fresh_ones(log: list[tuple[object, ...]], ask: PodAsk, policy: str) -> None:
    kept_fleet, fresh_fleet = Fleet(), Fleet()
    kept = Engine(kept_fleet, SchedulingPolicy(nodes=policy))
    fresh = Engine(fresh_fleet, SchedulingPolicy(nodes=policy))
    kept.set_target(TARGET)
    fresh.set_target(TARGET)
    for event in log:
        kept.scores(ask, kept_fleet.every_row())
        apply(kept_fleet, event)
        apply(fresh_fleet, event)

    names = kept_fleet.names()
    assert [kept.place(ask, name) for name in names] == [fresh.place(ask, name) for name in names]
    ours, theirs = (e.scores(ask, e.fleet.rows(names)).tolist() for e in (kept, fresh))

    assert ours == theirs
    assert len(set(ours)) == len(names)


@settings(max_examples=examples(150))
@given(st.lists(events(), max_size=12), pod_asks(), st.sampled_from(("binpack", "spread", "fragmentation")))
def test_the_cards_of_the_arrays_are_those_of_place(log: list[tuple[object, ...]], ask: PodAsk, nodes: str) -> None:
    fleet, policy = Fleet(), SchedulingPolicy(nodes=nodes)
    engine = Engine(fleet, policy)
    engine.set_target(TARGET)
    for event in log:
        apply(fleet, event)

    for name in fleet.names():
        chain, weights = wished(ask, policy)
        prices = engine._prices(ask, fleet.row(name))
        exact = place(ask, fleet.state(name), chain, weights, check_node=False, price=prices)
        assert engine.place(ask, name) == exact


def test_an_init_container_alone_takes_the_card_to_which_it_adds_least() -> None:
    fleet, templates = Fleet(), Templates((Size(40_000, 50), Size(80_000, 100)))
    fleet.put_node(Node("n", (a_card(0), a_card(1, slicing=templates)), memory_mib=64), (1.0, 1.0))
    ask = a_pod_ask("p", an_ask(memory_mib=1000, cores=5, stage=Stage.INIT))

    grant = Engine(fleet, SchedulingPolicy(), check_node=False).place(ask, "n")

    assert isinstance(grant, Grant)
    assert [piece.card for piece in grant.containers[0].slices] == [a_card(0).id]


@settings(max_examples=examples(100))
@given(nodes("n"), st.lists(pod_asks(), max_size=8))
def test_no_card_is_ever_granted_more_than_it_has(node: Node, asks: list[PodAsk]) -> None:
    fleet = Fleet()
    engine = Engine(fleet, SchedulingPolicy())
    fleet.put_node(node)
    for ask in asks:
        grant = engine.place(ask, "n")
        if isinstance(grant, Grant):
            fleet.charge("n", card_uses(grant, {c.name: c.stage for c in ask.containers}), 0, 0)

    assert all(min(s.free.memory_mib, s.free.cores, s.free.slots) >= 0 for s in fleet.state("n").cards)


def a_fleet(*names: str, cards: int = 2) -> Fleet:
    fleet = Fleet()
    for name in names:
        fleet.put_node(a_node_value(name, cards))
    return fleet


def ranked(engine: Engine, ask: PodAsk) -> list[str]:
    names = engine.fleet.names()
    scores = engine.scores(ask, engine.fleet.rows(names))
    return [names[i] for i in np.argsort(-scores).tolist() if scores[i] > NOWHERE]


def test_binpack_and_spread_rank_nodes_by_what_they_hold():
    fleet = a_fleet("a", "b", "c")
    fleet.charge("b", {"GPU-b-0": CardUse(8000, 30, 1)}, 0, 0)
    fleet.charge("c", {"GPU-c-0": CardUse(20_000, 50, 1)}, 0, 0)
    engine = Engine(fleet, SchedulingPolicy(nodes="binpack"))

    assert ranked(engine, a_pod_ask("p")) == ["c", "b", "a"]
    assert ranked(engine, a_pod_ask("p", wishes=Wishes(node_policy="spread"))) == ["a", "b", "c"]


def test_fragmentation_keeps_a_whole_card_whole():
    # whole cards are what usually comes, so a small slice goes beside another one, not onto an empty card
    fleet = a_fleet("a", "b")
    fleet.charge("b", {"GPU-b-1": CardUse(8000, 30, 1)}, 0, 0)
    engine = Engine(fleet, SchedulingPolicy())
    engine.set_target(Target(((Kind(0, 1, -1, 100, 100), WHOLE),)))

    assert ranked(engine, a_pod_ask("p")) == ["b", "a"]
    grant = engine.place(a_pod_ask("p"), "b")
    assert isinstance(grant, Grant)
    assert [s.card for s in grant.of("main")] == ["GPU-b-1"]


def test_fragmentation_does_not_strand_cards_without_cpu():
    # on "a" the 9 cores of the small pod leave 7, too few for a whole-card pod of 8: the other card would stand idle
    fleet = Fleet()
    fleet.put_node(a_node_value("a", 2, cpu_milli=16_000))
    fleet.put_node(a_node_value("b", 2, cpu_milli=96_000))
    engine = Engine(fleet, SchedulingPolicy())
    engine.set_target(Target(((Kind(8000, 1, -1, 100, 100), WHOLE),)))

    assert ranked(engine, a_pod_ask("p", cpu_milli=9000)) == ["b", "a"]


def test_nodes_of_one_score_are_taken_in_the_order_of_their_names():
    engine = Engine(a_fleet("c", "a", "b"), SchedulingPolicy())

    assert ranked(engine, a_pod_ask("p")) == ["a", "b", "c"]


def test_the_workload_is_learned_from_charges():
    # with 64 whole-card pods seen, a slice joins the card that is open already
    fleet = a_fleet("a", "b")
    engine = Engine(fleet, SchedulingPolicy())
    for i in range(64):
        fleet.charge(f"elsewhere-{i}", {"GPU-x": CardUse(81_559, 100, 1)}, 0, 0)
    fleet.charge("b", {"GPU-b-1": CardUse(8000, 30, 1)}, 0, 0)

    assert ranked(engine, a_pod_ask("p")) == ["b", "a"]


def test_whole_nodes_are_kept_where_pods_come_and_go():
    # The target knows one-card pods alone, so opening the empty node "a" would cost no more than using the last card
    # of "b", and "a" comes first by name. Once pods leave as often as they come, four free cards are worth keeping.
    fleet = a_fleet("a", "b", cards=4)
    for i in range(3):
        fleet.charge("b", {f"GPU-b-{i}": CardUse(81_559, 100, 1)}, 0, 0)
    engine = Engine(fleet, SchedulingPolicy())
    engine.set_target(Target(((Kind(0, 1, -1, 100, 100), WHOLE),)))
    whole = a_pod_ask("p", an_ask(memory_mib=None, memory_percent=100, cores=100))
    before = ranked(engine, whole)

    for _ in range(TURNOVER):
        fleet.charge("elsewhere", {"GPU-x": CardUse(1, 1, 1)}, 0, 0)
        fleet.release("elsewhere", {"GPU-x": CardUse(1, 1, 1)}, 0, 0)

    assert (before, ranked(engine, whole)) == (["a", "b"], ["b", "a"])


def test_a_policy_takes_effect_at_once():
    fleet = a_fleet("a", "b")
    fleet.charge("b", {"GPU-b-0": CardUse(8000, 30, 1)}, 0, 0)
    engine = Engine(fleet, SchedulingPolicy(nodes="spread"))
    before = ranked(engine, a_pod_ask("p"))

    engine.set_policy(SchedulingPolicy(nodes="binpack"))

    assert (before, ranked(engine, a_pod_ask("p"))) == (["a", "b"], ["b", "a"])


@pytest.mark.parametrize("factors", [(1.0, 1.0), (1.0, 2.0)])
def test_overcommitted_cores_let_whole_core_pods_share(factors: tuple[float, float]) -> None:
    fleet = Fleet()
    fleet.put_node(a_node_value("a", 1), factors)
    fleet.charge("a", {"GPU-a-0": CardUse(100, 100, 1)}, 0, 0)
    engine = Engine(fleet, SchedulingPolicy())

    fits = engine.query(a_pod_ask("p", an_ask(cores=100)), fleet.rows(["a"])).feasible.tolist()

    assert fits == [factors[1] > 1]


def test_selection_by_id_finds_the_one_node() -> None:
    fleet = a_fleet("a", "b")
    engine = Engine(fleet, SchedulingPolicy())
    ask = a_pod_ask("p", selection=Selection(use_ids=("GPU-b-1",)))

    assert engine.query(ask, fleet.rows(["a", "b"])).reasons.tolist() == [Reason.TYPE, Reason.FITS]


def test_containers_of_other_names_share_a_lane() -> None:
    fleet = a_fleet("a")
    engine = Engine(fleet, SchedulingPolicy())
    for name in ("one", "two"):
        engine.query(a_pod_ask("p", an_ask(name=name)), fleet.rows(["a"]))

    assert len(engine._lanes) == 1


def test_a_joint_misfit_is_seen_by_query() -> None:
    fleet = a_fleet("a", cards=1)
    engine = Engine(fleet, SchedulingPolicy())
    half = [an_ask(name=f"c{i}", memory_mib=30_000, cores=0) for i in range(3)]
    init = an_ask(name="init", memory_mib=60_000, cores=0, stage=Stage.INIT)

    joint = engine.query(a_pod_ask("p", *half), fleet.rows(["a"])).reasons.tolist()
    beside = engine.query(a_pod_ask("p", init, *half[:2]), fleet.rows(["a"])).reasons.tolist()

    assert (joint, beside) == ([Reason.JOINT], [Reason.FITS])


def test_a_node_cordoned_for_a_pod_without_node_checks_still_fits() -> None:
    fleet = Fleet()
    fleet.put_node(replace(a_node_value("a"), schedulable=False))
    rows = fleet.rows(["a"])

    assert Engine(fleet, SchedulingPolicy()).query(a_pod_ask("p"), rows).feasible.tolist() == [True]
    checked = Engine(fleet, SchedulingPolicy(), check_node=True)
    assert checked.query(a_pod_ask("p"), rows).reasons.tolist() == [Reason.NODE]
    assert checked.place(a_pod_ask("p"), "a") == Misfit(Reason.NODE, detail="cordoned")


def decide(names: list[str]) -> str:
    """Place forty pods on a fleet whose nodes arrive in the given order, and say where they went."""
    fleet = Fleet()
    engine = Engine(fleet, SchedulingPolicy())
    for name in names:
        fleet.put_node(a_node_value(name, 3))
    went = []
    for i in range(40):
        ask = a_pod_ask(f"p{i}", an_ask(memory_mib=4000 + 9000 * (i % 4), cores=15 * (i % 5)))
        best = ranked(engine, ask)[0]
        grant = engine.place(ask, best)
        assert isinstance(grant, Grant)
        fleet.charge(best, card_uses(grant, ()), 1000, 0)
        went.append(grant.of("main")[0].card)
    return " ".join(went)


def test_the_order_in_which_nodes_arrive_does_not_matter() -> None:
    names = [f"node-{i}" for i in range(9)]
    shuffled = list(names)
    random.Random(7).shuffle(shuffled)

    assert decide(names) == decide(shuffled)


def test_the_hash_seed_does_not_matter() -> None:
    program = "from tests.scheduler.state.test_engine import decide; print(decide([f'node-{i}' for i in range(9)]))"
    env = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": "."}
    there = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout

    assert there.strip() == decide([f"node-{i}" for i in range(9)])  # this process's seed is another one every time
