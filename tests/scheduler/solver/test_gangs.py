"""Gangs over clusters: whole in one cluster or not at all, as many cards filled as can be."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.model.policy import SchedulingPolicy
from kerf.testing.builders import an_ask
from scheduler.solver import gangs
from scheduler.solver.fleet import Fleet
from scheduler.solver.gangs import plan_gangs
from scheduler.solver.patterns import Kind, kinds_of
from scheduler.solver.problem import Problem, pod_classes
from tests.effort import examples
from tests.scheduler.solver.problems import FULL, a_gang, a_node_state, pods

POLICY = SchedulingPolicy()


def whole(cards):
    return an_ask(cards=cards, memory_percent=100, cores=100)


def a_cluster(*free, prefix="n"):
    """Nodes of eight cards of which so many are free; ids differ from cluster to cluster."""
    nodes = [a_node_state(f"{prefix}{i}", 8, [FULL] * (8 - count)) for i, count in enumerate(free)]
    return tuple(replace(node, name=f"node-{i}") for i, node in enumerate(nodes))


def test_of_two_gangs_that_want_sixty_percent_one_runs_whole_and_the_other_waits_whole():
    found = plan_gangs((a_cluster(5, 5),), (*a_gang("a", 6, whole(1)), *a_gang("b", 6, whole(1))), POLICY)

    assert found.chosen == (("default/a", 0),)
    assert found.waiting == ("default/b",)
    assert sorted(a.pod_key for a in found.assignments[0]) == [f"default/a-{i}" for i in range(6)]
    assert (found.score, found.status) == ((6,), "optimal")


def test_a_gang_never_spans_clusters():
    found = plan_gangs((a_cluster(4, prefix="a"), a_cluster(4, prefix="b")), a_gang("g", 5, whole(1)), POLICY)
    assert (found.chosen, found.waiting, found.assignments) == ((), ("default/g",), ((), ()))


def test_gangs_are_spread_over_clusters_so_that_all_run():
    # greedy puts the small one in the fuller cluster, where the large one alone would have filled all of it
    clusters = (a_cluster(4, 2, prefix="a"), a_cluster(8, prefix="b"))
    asks = (*a_gang("small", 2, whole(2)), *a_gang("odd", 3, whole(2)), *a_gang("large", 1, whole(4)))

    found = plan_gangs(clusters, asks, POLICY)
    assert dict(found.chosen) == {"default/small": 1, "default/odd": 0, "default/large": 1}
    assert found.score == (14,)


def test_pods_of_a_gang_need_not_be_alike():
    asks = (*a_gang("g", 1, whole(4), size=3), *a_gang("g", 2, whole(2), size=3))
    asks = tuple(replace(ask, name=f"g-{i}", uid=f"uid-g-{i}") for i, ask in enumerate(asks))

    found = plan_gangs((a_cluster(4, 3, prefix="a"), a_cluster(5, 3, prefix="b")), asks, POLICY)
    assert found.chosen == ()
    found = plan_gangs((a_cluster(4, 3, prefix="a"), a_cluster(6, 2, prefix="b")), asks, POLICY)
    assert found.chosen == (("default/g", 1),)


def test_more_members_than_needed_start_where_there_is_room():
    found = plan_gangs((a_cluster(3),), a_gang("g", 5, whole(1), size=2), POLICY)
    assert found.score == (3,)


def test_a_gang_that_is_not_complete_waits():
    found = plan_gangs((a_cluster(8),), a_gang("g", 3, whole(1), size=4), POLICY)
    assert found.waiting == ("default/g",)


def test_a_higher_priority_runs_first():
    asks = (*a_gang("low", 8, whole(1)), *a_gang("high", 5, whole(1), priority=10))
    assert plan_gangs((a_cluster(8),), asks, POLICY).chosen == (("default/high", 0),)


def test_slices_are_counted_card_by_card():
    asks = (*a_gang("a", 3, an_ask(memory_mib=40_000, cores=30)), *a_gang("b", 2, an_ask(memory_mib=40_000, cores=30)))
    found = plan_gangs((a_cluster(1, prefix="a"), a_cluster(2, prefix="b")), asks, POLICY)
    assert dict(found.chosen) == {"default/b": 0, "default/a": 1}


def test_nodes_of_one_kind_are_counted_once_with_their_maximal_patterns():
    fleet = Fleet(a_cluster(4, 4, 2))
    classes = pod_classes(Problem((), (*pods(1, whole(3), prefix="x"), *pods(1, whole(1), prefix="y"))))
    assert kinds_of(fleet, classes, (0, 0, 0)) == (Kind((0, 1), ((0, 4), (1, 1))), Kind((2,), ((0, 2),)))
    assert kinds_of(fleet, pod_classes(Problem((), pods(1))), (0, 0, 0)) is None


@st.composite
def fleets(draw):
    clusters = tuple(
        a_cluster(*draw(st.lists(st.integers(0, 8), min_size=1, max_size=3)), prefix=f"c{q}-")
        for q in range(draw(st.integers(1, 3)))
    )
    sliced = draw(st.booleans())
    asks = []
    for g in range(draw(st.integers(1, 6))):
        count, cards = draw(st.integers(1, 4)), draw(st.integers(1, 5))
        ask = an_ask(cards=cards, memory_mib=45_000, cores=45) if sliced and draw(st.booleans()) else whole(cards)
        size = draw(st.sampled_from((count, count, max(1, count - 1))))
        asks += a_gang(f"g{g}", count, ask, size=size, priority=draw(st.sampled_from((0, 0, 5))))
    return clusters, tuple(asks)


@settings(max_examples=examples(50))
@given(fleets())
def test_every_gang_is_whole_in_one_cluster(fleet):
    clusters, asks = fleet
    found = plan_gangs(clusters, asks, POLICY)

    gang_of = {ask.uid: ask.gang for ask in asks}
    least = {ask.gang: ask.gang_size for ask in asks}
    started = Counter((gang_of[a.pod_uid], q) for q, held in enumerate(found.assignments) for a in held)
    assert {(gang, q) for gang, q in started} == set(found.chosen)
    assert all(count >= least[gang] for (gang, _), count in started.items())
    assert {gang for gang, _ in found.chosen} | set(found.waiting) == set(gang_of.values())
    assert found.rejected == ""
    assert found.objective <= found.bound


@settings(max_examples=examples(50))
@given(fleets())
def test_counting_patterns_and_counting_cards_agree(fleet):
    patterns = plan_gangs(*fleet, POLICY)
    known = gangs.kinds_of
    gangs.kinds_of = lambda *_: None
    try:
        cards = plan_gangs(*fleet, POLICY)
    finally:
        gangs.kinds_of = known

    assert (cards.status, cards.score) == (patterns.status, patterns.score)
    assert patterns.status == "optimal"
