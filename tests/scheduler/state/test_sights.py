"""What the workload sees of the fleet: no card has a value for pods that may not take it."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.testing.builders import a_node_value
from kerf.values.ask import ContainerAsk, Reach, Selection
from kerf.values.device import Card, Mode
from kerf.values.grant import CardUse
from kerf.values.node import Node, Taint
from kerf.values.quota import class_of
from kerf.wire.node_demand import demand_of
from scheduler.core.eligible import is_eligible
from scheduler.core.fit import accepts
from scheduler.policies.fragmentation import _NEVER, compile_lens
from scheduler.policies.workload import WHOLE, Kind, Target
from scheduler.state import sights as sights_module
from scheduler.state.fleet import Fleet
from scheduler.state.sights import Sights
from scheduler.state.workload_views import WorkloadViews
from tests.effort import examples

MODELS = ("NVIDIA A10", "NVIDIA A100-SXM4-80GB", "NVIDIA A100-PCIE-40GB", "Tesla T4")
TAINT = Taint("pool", "a", "NoSchedule")
SPECS: tuple[dict[str, Any], ...] = (
    {},
    {"nodeSelector": {"pool": "a"}},
    {"tolerations": [{"key": "pool", "operator": "Exists"}]},
    {"nodeSelector": {"pool": "b"}, "tolerations": [{"operator": "Exists"}]},
)


@st.composite
def card_nodes(draw: st.DrawFn, name: str) -> Node:
    models = draw(st.lists(st.sampled_from(MODELS), min_size=1, max_size=3))
    cards = tuple(
        Card(f"{name}-{i}", i, draw(st.sampled_from(("nvidia", "nvidia", "amd"))), model, 1000, mode=draw(modes))
        for i, model in enumerate(models)
    )
    labels = draw(st.sampled_from(((), (("pool", "a"),), (("pool", "b"),))))
    return Node(name, cards, labels=labels, taints=draw(st.sampled_from(((), (), (TAINT,)))))


modes = st.sampled_from((Mode.SHARED, Mode.SHARED, Mode.MIG))
ids = st.lists(st.sampled_from([f"{name}-{i}" for name in "abc" for i in range(3)]), max_size=2)
types = st.lists(st.sampled_from(("a100", "a10", "t4", "nvidia a100-sxm4-80gb", "tesla", "nothing")), max_size=2)
classes = st.sampled_from(((), (), (class_of(Card("", 0, "nvidia", MODELS[0], 1000)).slug,)))
selections = st.builds(
    lambda use, avoid, use_types, avoid_types, modes, classes: Selection(
        tuple(sorted(use)), tuple(sorted(avoid)), tuple(sorted(use_types)), tuple(sorted(avoid_types)), modes, classes
    ),
    ids, ids, types, types, st.sampled_from(((), (), ("mig",))), classes,
)  # fmt: skip
specs = st.sampled_from(SPECS)


@settings(max_examples=examples(150))
@given(
    st.tuples(*(card_nodes(name) for name in "abc")),
    st.lists(st.tuples(selections, specs), min_size=1, max_size=4, unique_by=repr),
    card_nodes("b"),
)
def test_a_class_is_given_a_slice_where_its_pods_may_run_and_take_the_card_and_nowhere_else(
    nodes: tuple[Node, ...], pods: list[tuple[Selection, dict[str, Any]]], later: Node
) -> None:
    fleet = Fleet()
    sights = Sights(fleet)
    kinds = [Kind(0, 1, 500, 0, 50, "nvidia", Reach(one, nodes=demand_of(spec))) for one, spec in pods]
    spec_of = dict(zip(kinds, (spec for _, spec in pods), strict=True))
    target = Target(tuple(sorted((kind, WHOLE) for kind in kinds)))
    sights.aim(target)
    for node in nodes:
        fleet.put_node(node)
    sights.refresh()
    fleet.put_node(later)  # another b
    sights.refresh()

    lens = compile_lens(target, sights.all(), tuple(sights.supply().tolist()), fleet.models)

    for node in (nodes[0], later, nodes[2]):
        row = fleet.row(node.name)
        numbers = sights.of(fleet.columns.take(np.array([row])), np.array([row]))[0]
        for column, card in enumerate(node.cards):
            for i, (kind, _) in enumerate(target.kinds):
                ask = ContainerAsk("", 1, memory_mib=500, cores=50, vendor="nvidia")
                may = accepts(kind.reach.selection.among(fleet.models), ask, card)
                expected = may and is_eligible(spec_of[kind], node)
                given_slice = lens.memory[numbers[column], lens.need[i]] < _NEVER
                assert given_slice == expected, (node, card, kind)


def the_view(target: Target, *nodes: Node) -> tuple[Fleet, WorkloadViews]:
    fleet = Fleet()
    views = WorkloadViews(fleet)
    views.set_target(target)
    for node in nodes:
        fleet.put_node(node)
    return fleet, views


@settings(max_examples=examples(100))
@given(selections, specs, st.integers(0, 1000))
def test_a_card_that_no_class_may_take_is_worth_nothing(one: Selection, spec: dict[str, Any], used: int) -> None:
    # an MI300X is no card of these pods, whatever else they select and demand
    other = Node("a", (Card("a-0", 0, "amd", "AMD Instinct MI300X", 1000),), cpu_milli=64_000)
    kind = Kind(0, 1, 500, 0, 50, "nvidia", Reach(one, nodes=demand_of(spec)))
    fleet, views = the_view(Target(((kind, WHOLE),)), other)
    fleet.charge("a", {"a-0": CardUse(used, used // 10, 1)}, 0, 0)

    view = views.current()

    row = np.array([fleet.row("a")])
    number = view.see(fleet.columns.take(row), row).kind[0, 0]
    assert view.survey.useful[row].tolist() == [0.0]
    assert not view.lens.worth[number].any()


def test_cards_that_a_selector_bars_are_worth_nothing_until_the_node_is_labelled() -> None:
    whole = Kind(0, 1, -1, 100, 100, "nvidia", Reach(nodes=demand_of({"nodeSelector": {"pool": "a"}})))
    node = a_node_value("a", 2)
    fleet, views = the_view(Target(((whole, WHOLE),)), node, replace(a_node_value("b", 2), labels=(("pool", "a"),)))

    rows = fleet.rows(["a", "b"])
    before = views.current().survey.useful[rows].tolist()
    fleet.put_node(replace(node, labels=(("pool", "a"),)))

    after = views.current().survey.useful[rows].tolist()
    assert before[0] == 0 < before[1]
    assert after[0] == after[1] > 0


def test_pods_that_name_a_card_keep_that_card_alone() -> None:
    only = Kind(0, 1, -1, 100, 100, "nvidia", Reach(Selection(use_ids=("GPU-a-1",))))
    fleet, views = the_view(Target(((only, WHOLE),)), a_node_value("a", 2), a_node_value("b", 2))

    assert views.current().survey.count[fleet.rows(["a", "b"])].tolist() == [[1], [0]]


def test_a_fleet_that_falls_into_too_many_sights_is_seen_by_kinds(monkeypatch: Any) -> None:
    monkeypatch.setattr(sights_module, "MOST", 2)
    kinds = [Kind(0, 1, 500, 0, i, "nvidia", Reach(Selection(use_ids=(f"GPU-a-{i}",)))) for i in range(8)]
    fleet = Fleet()
    sights = Sights(fleet)
    sights.aim(Target(tuple((kind, WHOLE // 8) for kind in kinds)))
    fleet.put_node(a_node_value("a", 8))

    sights.refresh()

    assert [sight.barred for sight in sights.all()] == [0]
