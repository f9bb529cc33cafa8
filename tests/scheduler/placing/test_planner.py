"""The planner's loop: gangs whole or not at all, plans as advice, one wake-up a plan."""

import pytest

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_container, a_grant, a_node, a_pod, cards_of
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.values.verdict import Misfit
from kerf.vendors.registry import VENDORS
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.metrics import SchedulerMetrics
from scheduler.placing import planner
from scheduler.placing.planner import Planner
from scheduler.placing.pod_groups import PodGroups
from scheduler.solver import solve
from scheduler.state.answers import Decided
from scheduler.state.bookings import State
from scheduler.state.precedence import Precedence
from scheduler.state.store import Store, load

WHOLE = [a_container(mem=81_559, cores=100)]


class World:
    def __init__(self, *objects: dict) -> None:
        self.kube = FakeKube(*[o for o in objects if o["kind"] == "Node"])
        self.store = Store(SchedulingPolicy(), VENDORS)
        load(self.store, [o for o in objects if o["kind"] == "Node"], [o for o in objects if o["kind"] == "Pod"])
        self.now = 0.0
        self.planner = Planner(self.store, self.kube, SchedulerMetrics.build(Metrics()), lambda: self.now)

    def hold_to(self, *classes: dict, name: str = "default") -> None:
        """Give the namespace a TenantQuota."""
        keeper = QuotaKeeper(self.store, clock=lambda: 0.0)
        none = {"burst": {"memory": 0, "cores": 0, "cards": 0}}
        spec = {"namespaces": [name], "classes": [{**none, **entry} for entry in classes]}
        kind = {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota"}
        keeper.replace_tenants([{**kind, "metadata": {"name": "team"}, "spec": spec}])
        keeper.replace_hard([])
        keeper.refresh()

    def reserved(self) -> list[str]:
        return sorted(booking.key for booking in self.store.ledger.bookings(State.RESERVED))

    def nodes(self) -> list[str]:
        return sorted(booking.node for booking in self.store.ledger.bookings(State.RESERVED))

    def note(self, pod: dict) -> str:
        """What kube-scheduler gets to read about a pod that waits."""
        ask, _ = self.store.desk.read(pod)
        where = self.store.desk.where(ask, self.store.desk.node_names())
        assert isinstance(where, Decided)
        return where.note


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


def test_no_member_takes_its_place_before_every_member_has_one(monkeypatch: pytest.MonkeyPatch):
    gang = [member("red", i, size=9) for i in range(9)]
    world = World(a_node(cards=9), *gang)
    tried: list[object] = []

    def others_get_the_lock(_: Precedence) -> None:
        if tried or not world.reserved():
            return
        ask, stages = world.store.desk.read(gang[0])
        tried.append(world.store.desk.assume(ask, "node-1", stages))
        taken = a_grant("GPU-node-1-8", 81_559, 100)
        world.store.feed.apply_pod("ADDED", a_pod("quick", node="node-1", grant=taken))

    monkeypatch.setattr(Precedence, "pause", others_get_the_lock)
    world.planner.run_once()

    assert [type(answer) for answer in tried] == [Misfit]
    assert [booking.key for booking in world.store.ledger.bookings()] == ["default/quick"]


def test_a_gang_loses_every_place_if_one_is_given_back_meanwhile(monkeypatch: pytest.MonkeyPatch):
    gang = [member("red", i, size=9) for i in range(9)]
    world = World(a_node(cards=9), *gang)

    def a_member_is_deleted(_: Precedence) -> None:
        if world.reserved():
            world.store.feed.apply_pod("DELETED", gang[0])

    monkeypatch.setattr(Precedence, "pause", a_member_is_deleted)
    world.planner.run_once()

    assert world.reserved() == []


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


def test_a_pod_group_gives_the_size_of_a_gang_that_does_not_say_it():
    pods = [a_pod(f"red-{i}", containers=WHOLE, labels={"scheduling.x-k8s.io/pod-group": "red"}) for i in range(2)]
    world = World(a_node(cards=4), *pods)
    groups = PodGroups(world.store)

    groups.replace([{"metadata": {"name": "red", "namespace": "default"}, "spec": {"minMember": 3}}])
    world.planner.run_once()
    assert world.reserved() == []

    groups.change("MODIFIED", {"metadata": {"name": "red", "namespace": "default"}, "spec": {"minMember": 2}})
    world.planner.run_once()
    assert world.reserved() == ["default/red-0", "default/red-1"]


A100 = "NVIDIA A100-SXM4-80GB"


def two_models() -> list[dict]:
    """The A100s are the better fit for slices of half a card: they are half full."""
    half = [
        a_pod(f"old-{i}", namespace="other", node="a100", grant=a_grant(f"GPU-a100-{i}", 40_000, 50)) for i in range(2)
    ]
    return [a_node("a100", cards_of("a100", 2, model=A100)), a_node("h100", 4), *half]


def half(number: int, size: int = 2) -> dict:
    pod = member("red", number, size)
    pod["spec"]["containers"] = [a_container(mem=40_000, cores=50)]
    return pod


@pytest.mark.parametrize("cards", [0, 1])
def test_a_gang_is_planned_where_its_tenants_quota_has_room_for_all_of_it(cards: int):
    world = World(*two_models(), half(0), half(1))
    world.hold_to({"model": "A100", "guaranteed": {"cards": cards}}, {"model": "H100", "guaranteed": {"cards": 4}})

    world.planner.run_once()

    assert world.reserved() == ["default/red-0", "default/red-1"]
    assert world.nodes().count("a100") <= cards


def test_without_quota_the_same_gang_takes_the_better_fit():
    world = World(*two_models(), half(0), half(1))

    world.planner.run_once()

    assert world.nodes() == ["a100", "a100"]


def test_a_gang_beyond_its_tenants_quota_reads_why_it_waits():
    world = World(a_node(cards=4), *[member("red", i) for i in range(3)])
    world.hold_to({"model": "H100", "guaranteed": "2 cards"})

    world.planner.run_once()

    assert world.reserved() == []
    assert world.note(member("red", 0)) == (
        "gang default/red waits: its 3 pods do not fit together now within what is left of the quota of tenant team"
    )


def test_a_gang_with_a_pod_that_quota_refuses_reads_why_it_waits():
    world = World(a_node(cards=4), member("red", 0, 2), member("red", 1, 2))
    world.hold_to({"model": "H100", "guaranteed": {"memory": "1000Mi"}})

    world.planner.run_once()

    assert world.note(member("red", 0, 2)).startswith(
        "gang default/red waits: quota: tenant team holds 0 MiB of at most"
    )


def test_a_gang_that_quota_refuses_reads_why_also_while_another_gang_waits_unchanged():
    others = [member("red", i, 2) for i in range(2)]
    world = World(a_node(cards=1), *others)
    world.planner.run_once()
    assert "do not fit together" in world.note(others[0])

    for pod in (blue := [member("blue", i, 2, namespace="team") for i in range(2)]):
        world.store.feed.apply_pod("ADDED", pod)
    world.hold_to({"model": "H100", "guaranteed": {"memory": "1000Mi"}}, name="team")
    world.planner.run_once()

    assert "quota: tenant team" in world.note(blue[0])
    assert "do not fit together" in world.note(others[0])


def test_a_plan_that_is_not_adopted_is_made_again_after_a_pause_and_its_pods_read_why(monkeypatch):
    world = World(a_node(cards=4), member("red", 0, 2), member("red", 1, 2))
    plans = []

    def plan(problem):
        plans.append(problem)
        found = solve.plan(problem)
        if len(plans) < 3:  # the node goes between plan and adoption
            world.store.feed.apply_node("DELETED", a_node(cards=4))
        return found

    monkeypatch.setattr(planner, "plan", plan)
    world.planner.run_once()
    world.store.feed.apply_node("ADDED", a_node(cards=4))

    assert world.reserved() == []
    assert world.note(member("red", 0, 2)) == (
        "gang default/red waits: its plan was not adopted: pod default/red-0: "
        "node-1: no cards known to Kerf: 1 asked, 0 free (the scheduler does not know this node)"
    )
    world.planner.run_once()
    assert len(plans) == 1, "not at once"
    for _ in range(2):
        world.now += 2.0
        world.planner.run_once()
        world.store.feed.apply_node("ADDED", a_node(cards=4))
        world.planner.run_once()
    assert len(plans) == 3
    assert world.reserved() == ["default/red-0", "default/red-1"]


def test_a_gang_whose_reservation_has_expired_is_planned_again():
    world = World(a_node(cards=4), member("red", 0, 2), member("red", 1, 2))
    world.planner.run_once()
    world.planner.run_once()

    world.store.ledger.drop_reservations()
    world.planner.run_once()

    assert world.reserved() == ["default/red-0", "default/red-1"]
    assert len(world.kube.writes) == 2


def test_refused_pods_are_planned_jointly_as_advice_and_nothing_is_reserved():
    world = World(a_node("node-1", 1), a_pod("a", mem=40_000), a_pod("b", mem=30_000))
    for name in ("a", "b"):
        world.store.desk._live.pending.refuse(f"uid-default-{name}", ["node-1"], all_nodes=1)

    world.planner.run_once()

    assert world.store.desk._live.pending.planned == {"uid-default-a": "node-1", "uid-default-b": "node-1"}
    assert world.reserved() == []


def test_a_pod_that_scheduling_gates_hold_back_is_not_planned_for():
    gated = [member("red", i, spec={"schedulingGates": [{"name": "kueue"}]}) for i in range(3)]
    world = World(a_node(cards=4), *gated)

    world.planner.run_once()

    assert world.reserved() == []


def test_without_refused_pods_and_gangs_there_is_nothing_to_plan():
    world = World(a_node(), a_pod())

    world.planner.run_once()

    assert world.store.desk._live.pending.planned == {}
    assert world.kube.writes == []
