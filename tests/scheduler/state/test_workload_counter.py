"""The workload is counted from what pods hold; older pods fade; small changes change nothing."""

from kerf.values.ask import Reach, Selection
from kerf.values.grant import CardUse
from scheduler.policies.workload import WHOLE, Kind, Target
from scheduler.state.workload_counter import CLASSES, HALVING, WorkloadCounter

SLICE, WHOLE_CARD = {"a": CardUse(8000, 30, 1)}, {"a": CardUse(81_559, 100, 1), "b": CardUse(81_559, 100, 1)}


def counted(*pods: tuple[dict[str, CardUse], int]) -> WorkloadCounter:
    counter = WorkloadCounter()
    for uses, cpu in pods:
        counter.observe(uses, cpu, "nvidia", Reach())
    return counter


def test_nothing_is_said_of_a_few_pods():
    assert counted(*[(SLICE, 1000)] * 63).target() == Target()


def test_pods_are_classes_by_rounded_size():
    # 8,000 MiB are 62.5 steps of 128, 81,559 are 637.2; 1,100 thousandths of a core are rounded up to 1,250
    counter = counted(*[(SLICE, 1100)] * 32, *[(WHOLE_CARD, 4000)] * 32)

    assert counter.target() == Target(
        (
            (Kind(1250, 1, 7936, 0, 30, "nvidia"), WHOLE // 2),
            (Kind(4000, 2, 81_536, 0, 100, "nvidia"), WHOLE // 2),
        )
    )


def test_pods_that_may_take_other_cards_are_another_class():
    counter = WorkloadCounter()
    chosen = Reach(Selection(use_types=("h100",)), nodes='{"nodeSelector": {"pool": "a"}}')
    for reach in (Reach(), chosen) * 32:
        counter.observe(SLICE, 1000, "nvidia", reach)

    kinds = Kind(1000, 1, 7936, 0, 30, "nvidia"), Kind(1000, 1, 7936, 0, 30, "nvidia", chosen)
    assert counter.target() == Target(tuple((kind, WHOLE // 2) for kind in kinds))


def test_the_target_stays_the_same_object_while_the_workload_does():
    counter = counted(*[(SLICE, 1000)] * 64)
    first = counter.target()
    for _ in range(64):
        counter.observe(SLICE, 1000, "nvidia", Reach())

    assert counter.target() is first


def test_a_new_workload_takes_over():
    counter = counted(*[(SLICE, 1000)] * 64)
    counter.target()
    for _ in range(8 * HALVING):
        counter.observe(WHOLE_CARD, 4000, "nvidia", Reach())

    assert [kind.cards for kind, _ in counter.target().kinds] == [2]


def test_a_target_stays_small_however_many_sizes_come():
    counter = counted(*[({"a": CardUse(128 * i, i % 100, 1)}, 1000) for i in range(1, 500)])

    assert len(counter.target().kinds) == CLASSES
