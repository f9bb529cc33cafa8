"""The planner's loop: gangs whole or not at all, plans as advice, one wake-up a plan."""

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_container, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.planner import Planner
from scheduler.placing.pod_groups import PodGroups
from scheduler.state.bookings import State
from scheduler.state.store import Store, load

WHOLE = [a_container(mem=81_559, cores=100)]


class World:
    def __init__(self, *objects: dict) -> None:
        self.kube = FakeKube(*[o for o in objects if o["kind"] == "Node"])
        self.store = Store(SchedulingPolicy(), VENDORS)
        load(self.store, [o for o in objects if o["kind"] == "Node"], [o for o in objects if o["kind"] == "Pod"])
        self.planner = Planner(self.store, self.kube, SchedulerMetrics.build(Metrics()))

    def reserved(self) -> list[str]:
        return sorted(t.key for t in self.store.bookings.values() if t.state is State.RESERVED)


def member(gang: str, number: int, size: int = 3, **more: object) -> dict:
    return a_pod(
        f"{gang}-{number}",
        containers=WHOLE,
        labels={"kerf.dev/gang": gang},
        annotations={"kerf.dev/gang-size": str(size)},
        **more,
    )


def test_a_complete_gang_that_fits_is_reserved_whole_and_kube_scheduler_is_woken_once():
    world = World(a_node(cards=4), *[member("red", i) for i in range(3)])

    world.planner.run_once()
    world.planner.run_once()

    assert world.reserved() == ["default/red-0", "default/red-1", "default/red-2"]
    assert world.kube.writes == [("PATCH", "/api/v1/nodes/node-1")]


def test_an_incomplete_gang_holds_nothing():
    world = World(a_node(cards=4), member("red", 0), member("red", 1))

    world.planner.run_once()

    assert world.reserved() == []
    assert world.kube.writes == []


def test_of_two_gangs_that_do_not_fit_together_one_is_whole_and_the_other_holds_nothing():
    world = World(a_node(cards=4), *[member(gang, i) for gang in ("blue", "red") for i in range(3)])

    world.planner.run_once()

    held = world.reserved()
    assert len(held) == 3
    assert len({key.split("-")[0] for key in held}) == 1


def test_members_that_run_already_count():
    running = [member("red", i, node="node-1", grant=a_grant(f"GPU-node-1-{i}", 81_559, 100)) for i in range(2)]
    world = World(a_node(cards=4), *running, member("red", 2))

    world.planner.run_once()

    assert world.reserved() == ["default/red-2"]


def test_a_pod_group_tells_the_size_of_a_gang_that_does_not_say_it():
    pods = [a_pod(f"red-{i}", containers=WHOLE, labels={"scheduling.x-k8s.io/pod-group": "red"}) for i in range(2)]
    world = World(a_node(cards=4), *pods)
    groups = PodGroups(world.store)

    groups.replace([{"metadata": {"name": "red", "namespace": "default"}, "spec": {"minMember": 3}}])
    world.planner.run_once()
    assert world.reserved() == []

    groups.change("MODIFIED", {"metadata": {"name": "red", "namespace": "default"}, "spec": {"minMember": 2}})
    world.planner.run_once()
    assert world.reserved() == ["default/red-0", "default/red-1"]


def test_refused_pods_are_planned_jointly_as_advice_and_nothing_is_reserved():
    world = World(a_node("node-1", 1), a_pod("a", mem=40_000), a_pod("b", mem=30_000))
    for name in ("a", "b"):
        world.store.pending.refuse(f"uid-default-{name}", ["node-1"], all_nodes=1)

    world.planner.run_once()

    assert world.store.pending.planned == {"uid-default-a": "node-1", "uid-default-b": "node-1"}
    assert world.reserved() == []


def test_a_pod_that_scheduling_gates_hold_back_is_not_planned_for():
    gated = [member("red", i, spec={"schedulingGates": [{"name": "kueue"}]}) for i in range(3)]
    world = World(a_node(cards=4), *gated)

    world.planner.run_once()

    assert world.reserved() == []


def test_without_refused_pods_and_gangs_there_is_nothing_to_plan():
    world = World(a_node(), a_pod())

    world.planner.run_once()

    assert world.store.pending.planned == {}
    assert world.kube.writes == []
