"""The checker sees every way in which a plan can be wrong. Each case spoils a sound plan in one place."""

from dataclasses import replace

import pytest

from kerf.testing.builders import a_grant, a_pod_ask, an_ask
from kerf.values.ask import Selection, Wishes
from kerf.values.grant import CardUse, ContainerGrant, Grant, Slice
from kerf.values.quota import Bound
from scheduler.solver.check import broken_rules
from scheduler.solver.problem import Assignment, Problem, QuotaRoom
from tests.scheduler.solver.problems import FULL, H100, a_gang, a_node_state, pods


def on(node, ask, *cards, memory_mib=8_000, cores=30, container="main"):
    slices = tuple(Slice(f"GPU-{node}-{card}", "nvidia", memory_mib, cores) for card in cards)
    return Assignment(ask.uid, ask.key, node, Grant((ContainerGrant(container, slices),)))


def rules(asks, *assignments, **node):
    return broken_rules(Problem((a_node_state(**node),), asks), assignments)


def test_a_sound_plan_breaks_nothing():
    first, second = pods(2)
    assert rules((first, second), on("n1", first, 0), on("n1", second, 0)) == ()


@pytest.mark.parametrize(
    ("node", "rule"),
    [
        ({"cards": 1, "used": [CardUse(70_000, 0, 1)]}, "over-committed"),
        ({"cards": 1, "used": [CardUse(0, 50, 1)]}, "over-committed"),
        ({"cards": 1, "used": [CardUse(0, 0, 9)]}, "over-committed"),
        ({"cards": 1, "used": [FULL]}, "over-committed"),
        ({"cpu": 3_999}, "more CPU"),
        ({"memory": 3_999}, "more memory"),
    ],
)
def test_what_is_not_free_is_not_granted(node, rule):
    first, second = pods(2, cpu_milli=2_000, memory_mib=2_000)
    found = rules((first, second), on("n1", first, 0), on("n1", second, 0), **node)
    assert [rule in text for text in found] == [True]


@pytest.mark.parametrize(
    ("ask", "spoil", "rule"),
    [
        (an_ask(), {"cards": (0, 1)}, "wants 1 distinct cards"),
        (an_ask(cards=2), {"cards": (0, 0)}, "wants 2 distinct cards"),
        (an_ask(), {"cards": ()}, "wants 1 distinct cards"),
        (an_ask(), {"cards": (7,)}, "missing, unusable or not selected"),
        (an_ask(), {"cards": (0,), "memory_mib": 7_999}, "is not what was asked"),
        (an_ask(), {"cards": (0,), "cores": 31}, "is not what was asked"),
        (an_ask(memory_percent=50), {"cards": (0,), "memory_mib": 39_999}, "is not what was asked"),
        (an_ask(), {"cards": (0,), "container": "other"}, "are not those of the ask"),
    ],
)
def test_a_grant_is_exactly_the_ask(ask, spoil, rule):
    pod = a_pod_ask("pod", ask)
    spoil = {**spoil}
    found = rules((pod,), on("n1", pod, *spoil.pop("cards"), **spoil))
    assert any(rule in text for text in found)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(use_ids=("GPU-n1-1",)),
        Selection(avoid_ids=("GPU-n1-0",)),
        Selection(use_types=("a100",)),
        Selection(avoid_types=("h100",)),
        Selection(modes=("mig",)),
        Selection(classes=("nvidia-a100-shared",)),
    ],
)
def test_a_card_that_is_not_selected_is_not_granted(selection):
    pod = a_pod_ask("pod", selection=selection)
    assert rules((pod,), on("n1", pod, 0)) == (
        "default/pod: main: a card of ['GPU-n1-0'] is missing, unusable or not selected",
    )


def test_cards_of_two_numa_nodes_are_not_one():
    pod = a_pod_ask("pod", an_ask(cards=2), selection=Selection(same_numa=True))
    assert rules((pod,), on("n1", pod, 1, 2), cards=4) == ("default/pod: main: cards of several NUMA nodes or models",)


def test_an_exclusive_card_is_shared_with_nobody():
    whole, small = a_pod_ask("whole", an_ask(cores=100)), a_pod_ask("small", an_ask(cores=0))
    spoiled = (on("n1", whole, 0, cores=100), on("n1", small, 0, cores=0))

    assert rules((whole, small), *spoiled) == ("n1: card GPU-n1-0 is held exclusively and shared",)
    assert rules((whole,), spoiled[0], used=[CardUse(8_000, 0, 1)]) == (
        "n1: card GPU-n1-0 is held exclusively and shared",
    )
    assert rules((whole, small), *spoiled, cores=200) == ()


def test_best_effort_needs_a_card_with_cores_to_spare():
    small = a_pod_ask("small", an_ask(cores=0))
    assert rules((small,), on("n1", small, 0, cores=0), used=[CardUse(8_000, 100, 1)]) == (
        "n1: card GPU-n1-0 has no cores left even for best effort",
    )


def test_pods_and_nodes_are_those_of_the_problem():
    pod, other = pods(2)
    assert rules((pod,), on("n1", other, 0)) == ("default/pod-1: unknown pod or node",)
    assert rules((pod,), on("n2", pod, 0)) == ("default/pod-0: unknown pod or node",)
    assert rules((pod,), on("n1", pod, 0), on("n1", pod, 1)) == ("default/pod-0: placed twice",)


def test_a_node_that_kube_scheduler_does_not_offer_is_refused():
    (pod,) = pods(1)
    problem = Problem((a_node_state(),), (pod,), offered=((pod.uid, frozenset({"n2"})),))
    assert broken_rules(problem, (on("n1", pod, 0),)) == ("default/pod-0: n1 is not on offer",)


def test_a_cordoned_node_or_card_takes_nothing():
    (pod,) = pods(1)
    node = a_node_state()
    closed = replace(node, cards=tuple(replace(state, usable=False) for state in node.cards))

    assert len(broken_rules(Problem((replace(node, schedulable=False),), (pod,)), (on("n1", pod, 0),))) == 1
    assert len(broken_rules(Problem((closed,), (pod,)), (on("n1", pod, 0),))) == 1


def test_a_gang_starts_whole_or_not_at_all():
    first, second, third = gang = a_gang("g", 3)
    problem = Problem((a_node_state(),), gang)
    two = (on("n1", first, 0), on("n1", second, 0))

    assert broken_rules(problem, two) == ("gang default/g: 2 of 3 placed",)
    assert broken_rules(problem, (*two, on("n1", third, 0))) == ()
    assert broken_rules(replace(problem, running=(("default/g", 1),)), two) == ()


def test_a_gang_of_unknown_size_starts_with_every_waiting_member():
    first, _ = gang = a_gang("g", 2, size=0)
    problem = Problem((a_node_state(),), gang, running=(("default/g", 1),))
    assert broken_rules(problem, (on("n1", first, 0),)) == ("gang default/g: 1 of 2 placed",)


@pytest.mark.parametrize(
    ("room", "broken"),
    [
        (QuotaRoom("tenant team", ("default",), ((H100, Bound(cards=2)),)), ()),
        (
            QuotaRoom("tenant team", ("default",), ((H100, Bound(cards=1)),)),
            (f"tenant team has 1 cards of {H100} left, 2 are taken",),
        ),
        (
            QuotaRoom("tenant team", ("default",), ()),
            tuple(
                f"tenant team has 0 {name} of {H100} left, {taken} are taken"
                for name, taken in (("memory_mib", 16_000), ("cores", 60), ("cards", 2))
            ),
        ),
        (QuotaRoom("tenant team", ("other",), ()), ()),
        (
            QuotaRoom("namespace default", ("default",), (("nvidia", Bound(cores=50)),), by_vendor=True),
            ("namespace default has 50 cores of nvidia left, 60 are taken",),
        ),
        (QuotaRoom("namespace default", ("default",), (("amd", Bound(0, 0, 0)),), by_vendor=True), ()),
    ],
)
def test_pods_together_stay_within_what_is_left_of_their_quota(room, broken):
    first, second = pods(2)
    problem = Problem((a_node_state(),), (first, second), quotas=(room,))

    assert broken_rules(problem, (on("n1", first, 0), on("n1", second, 1))) == broken


def test_a_larger_slice_than_the_hardware_is_refused():
    pod = a_pod_ask("pod", an_ask(memory_mib=90_000))
    node = {"memory_mib": 160_000, "physical_mib": 80_000}
    found = rules((pod,), on("n1", pod, 0, memory_mib=90_000), **node)
    assert [text.endswith("is larger than the hardware") for text in found] == [True]


def test_an_empty_grant_is_no_place():
    (pod,) = pods(1)
    assert len(rules((pod,), Assignment(pod.uid, pod.key, "n1", replace(a_grant(), containers=())))) > 0


def test_linked_and_unshared_cards_are_just_that():
    pod = a_pod_ask("pod", an_ask(cards=2), wishes=Wishes(card_policies=("mutex", "topology")))
    assert rules((pod,), on("n1", pod, 0, 1), used=[CardUse(8_000, 0, 1)]) == (
        "default/pod: main: a card is not its own",
        "default/pod: main: its cards are not linked",
    )
    assert rules((pod,), on("n1", pod, 0, 1), links=("GPU-n1-0",)) == ()
