"""The target workload: the popular classes, whatever order they were counted in."""

from kerf.testing.builders import a_pod_ask, an_ask
from kerf.values.ask import Reach, Selection
from scheduler.policies.workload import WHOLE, Kind, Target, kind_of, target, with_whole_cards

SMALL, LARGE, RARE = Kind(1000, 1, 4000, 0, 20), Kind(8000, 1, -1, 100, 100), Kind(1, 1, 1, 0, 1)


def test_the_target_covers_most_pods_and_leaves_the_rare_ones_out():
    counts = {SMALL: 60.0, LARGE: 36.0, RARE: 4.0}

    assert target(counts) == Target(((SMALL, 6250), (LARGE, 3750)))
    assert target(dict(reversed(counts.items()))) == target(counts)


def test_pods_without_cards_count_towards_the_whole():
    assert target({SMALL: 50.0, None: 50.0}) == Target(((SMALL, WHOLE // 2),))


def test_a_target_has_at_most_so_many_classes():
    assert target({SMALL: 50.0, LARGE: 50.0}, most=1) == Target(((SMALL, WHOLE),))


def test_the_class_of_a_pod_is_that_of_its_hardest_container():
    ask = a_pod_ask(
        "p", an_ask(memory_mib=100), an_ask(cards=2, memory_percent=50, cores=50),
        cpu_milli=500, selection=Selection(use_types=("h100",)),
    )  # fmt: skip

    assert kind_of(ask) == Kind(500, 2, -1, 50, 50, "nvidia", Reach(Selection(use_types=("h100",))))
    assert kind_of(a_pod_ask("p", an_ask())) == Kind(0, 1, 8000, 0, 30, vendor="nvidia")


def test_what_a_class_says_of_several_cards_does_not_make_it_another_one():
    ask = a_pod_ask("p", an_ask(), selection=Selection(same_numa=True, known=("H100",), same_card=("nvidia",)))

    assert kind_of(ask) == kind_of(a_pod_ask("p", an_ask()))


def test_whole_cards_join_the_target_up_to_the_widest_node():
    assert with_whole_cards(Target(((SMALL, WHOLE),)), 4).kinds == (
        (Kind(0, 2, -1, 100, 100), 300),
        (Kind(0, 4, -1, 100, 100), 300),
        (SMALL, WHOLE),
    )
