"""The manager on fakes: what is placed where, what happens when clusters go and come, and when it dies at any write."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.config.load import PolicyFile
from kerf.config.prices import PriceFile
from kerf.kube.errors import Invalid
from kerf.kube.leadership import ALONE
from kerf.testing.builders import H100_MIB, a_container, a_grant, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.fleet import ClusterSpec, FleetSettings
from kerf.vendors.registry import VENDORS
from kerf.wire.fleet import parse_workload
from scheduler.fleet import wiring
from scheduler.fleet.assign import cost_now
from scheduler.fleet.shapes import Terms, Want, shapes
from scheduler.fleet.view import View
from scheduler.solver.fleet.solve import plan_fleet
from tests.effort import examples
from tests.scheduler.fleet.world import API, NAMES, PRICES, Cluster, Killed, World


def two_clusters(**changes: Any) -> World:
    return World(Cluster("east", 2), Cluster("west", 2), **changes)


def total(world: World, name: str) -> int:
    return sum(world.running(name).values())


def test_replicas_go_to_the_cheapest_cluster_first():
    world = World(Cluster("cheap", 1), Cluster("dear", 2))
    world.join("dear", supply="rented")
    world.ask("chat", 10)

    world.round(rounds=5)

    assert world.running("chat") == {"cheap": 8, "dear": 2}
    assert world.status("chat")["readyReplicas"] == 10


def test_what_has_no_place_is_explained_with_numbers_over_all_clusters():
    world = World(Cluster("east", 1, cards=2), Cluster("west", 1, cards=1))
    world.ask("chat", 9)

    world.round(rounds=4)

    message = world.status("chat")["conditions"][0]["message"]
    assert message.startswith("3 of 9 replicas have no place: east: 0 of 3 replicas fit by themselves; 0 of its cards")


def test_a_lost_clusters_replicas_run_elsewhere_and_its_old_ones_are_gone_once_it_returns():
    world = two_clusters()
    world.ask("chat", 8)
    world.round(rounds=5)
    lost = next(iter(world.running("chat")))
    other = {"east": "west", "west": "east"}[lost]

    world.clusters[lost].up = False
    world.round(rounds=10)
    still = world.running("chat")
    world.round(rounds=10)
    moved = world.running("chat")
    world.clusters[lost].up = True
    world.round(rounds=2)

    assert still == {lost: 8}  # nothing moves before the time is over
    assert moved == {lost: 8, other: 8}
    assert world.running("chat") == {other: 8}
    assert world.record(lost)["phase"] in {"Returned", "Resting"}
    assert world.record(lost)["epoch"] == 2


def test_a_cluster_that_returned_takes_no_work_before_its_back_off_ends():
    world = two_clusters()
    world.round(rounds=3)
    world.clusters["east"].up = False
    world.round(rounds=20)
    world.clusters["east"].up = True
    world.round(rounds=3)
    world.ask("chat", 20)
    world.round(rounds=3)
    resting = world.running("chat")
    world.round(rounds=15)

    assert resting == {"west": 16}
    assert world.running("chat") == {"west": 16, "east": 4}


def test_each_loss_makes_the_back_off_longer_and_the_cluster_dearer():
    world = two_clusters()
    world.round(rounds=3)
    for _ in range(3):
        world.clusters["east"].up = False
        world.round(rounds=20)
        world.clusters["east"].up = True
        world.round(rounds=3)

    record = world.record("east")
    assert len(record["losses"]) == 3
    assert record["restingUntil"] - record["lastContact"] > 60
    assert record["reliability"] == "0.40"
    assert [c["status"] for c in record["conditions"] if c["type"] == "Trusted"] == ["False"]


def test_draining_moves_replicas_one_by_one_and_never_below_what_is_wanted():
    world = two_clusters()
    world.ask("chat", 4)
    world.round(rounds=4)
    lost = next(iter(world.running("chat")))
    world.join(lost, draining=True)
    least = []
    for _ in range(30):
        world.round()
        least.append(total(world, "chat"))

    assert min(least) >= 4
    assert set(world.running("chat")) == {"east", "west"} - {lost}


def test_a_workload_that_cannot_be_read_is_explained_and_disturbs_no_other():
    world = two_clusters()
    world.ask("bad", 2, survive=5)
    world.ask("cpu-only", 2, template={"spec": {"containers": [{"name": "main"}]}})
    world.ask("good", 2)

    world.round(rounds=3)

    assert total(world, "good") == 2
    assert "spec.survive: '5': write at most spec.replicas, 2" in world.status("bad")["conditions"][0]["message"]
    assert "no container asks for a card" in world.status("cpu-only")["conditions"][0]["message"]
    assert [world.status(name)["observedGeneration"] for name in ("bad", "cpu-only")] == [0, 0]


def test_what_runs_moves_only_where_that_saves_more_than_the_threshold():
    moving = FleetSettings(lost_after_s=30, stale_after_s=10, back_off_s=20, move_saving_percent=10)
    world = two_clusters(settings=moving)
    world.join("east", supply="rented")
    world.join("west", cordoned=True)
    world.ask("chat", 4)
    world.round(rounds=4)
    before = world.running("chat")
    world.join("west")
    world.round(rounds=30)

    assert before == {"east": 4}
    assert world.running("chat") == {"west": 4}


def test_a_workload_that_is_scaled_down_gives_its_cards_back():
    world = two_clusters()
    world.ask("chat", 16)
    world.round(rounds=3)
    world.ask("chat", 2)
    world.round(rounds=6)
    world.ask("other", 30)
    world.round(rounds=6)

    assert (total(world, "chat"), total(world, "other")) == (2, 30)


def test_a_group_is_whole_in_one_cluster_or_has_no_place():
    """Each cluster has room for four pods, so for one group of three: the last two pods' room is no group's."""
    world = World(Cluster("east", 1, cards=2), Cluster("west", 1, cards=2))
    world.ask("chat", 3, groupSize=3)
    world.round(rounds=5)

    assert world.running("chat") == {"east": 3, "west": 3}
    assert {cluster.name: handed_over(cluster) for cluster in world.clusters.values()} == {
        "east": [("LeaderWorkerSet", 1, 3)], "west": [("LeaderWorkerSet", 1, 3)],
    }  # fmt: skip
    assert world.status("chat")["conditions"][0]["message"].startswith("1 of 3 replicas have no place")

    world.ask("chat", 1, groupSize=3)
    world.round(rounds=6)

    assert list(world.running("chat").values()) == [3]


def handed_over(cluster: Cluster) -> list[tuple[str, int, int]]:
    """Kind, groups and size of what a cluster was given."""
    return [
        (item["kind"], item["spec"]["replicas"], item["spec"]["leaderWorkerTemplate"]["size"])
        for item in cluster.objects()
    ]


events = st.lists(
    st.one_of(
        st.tuples(st.just("down"), st.sampled_from(("a", "b", "c"))),
        st.tuples(st.just("up"), st.sampled_from(("a", "b", "c"))),
        st.tuples(st.just("kill"), st.integers(0, 12)),
        st.tuples(st.just("wait"), st.integers(1, 10)),
        st.tuples(st.just("scale"), st.integers(0, 10)),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=examples(40))
@given(events)
def test_whatever_fails_and_whenever_the_manager_dies_every_replica_runs_once_in_the_end(
    happened: list[tuple[str, Any]],
) -> None:
    world = World(*(Cluster(name, 1) for name in "abc"))
    replicas = 6
    world.ask("chat", replicas)
    for what, value in happened:
        if what in {"down", "up"}:
            world.clusters[value].up = what == "up"
        elif what == "scale":
            replicas = value
            world.ask_again("chat", replicas)
        elif what == "wait":
            checked_rounds(world, value, 5.0)
        else:
            die_at(world, value)
    for cluster in world.clusters.values():
        cluster.up = True
    for _ in range(80):
        checked_rounds(world, 1, 10.0)
        if total(world, "chat") == replicas and all(world.record(name)["phase"] == "Live" for name in world.clusters):
            break
    checked_rounds(world, 2)

    assert total(world, "chat") == replicas
    assert all(world.epochs(name) <= {str(world.record(name)["epoch"])} for name in world.clusters)


def checked_rounds(world: World, count: int, seconds: float = 2.0) -> None:
    for _ in range(count):
        usable = {name for name in world.clusters if world.record(name).get("phase") in {"Live", "Silent", "Resting"}}
        world.round(seconds)
        for name, cluster in world.clusters.items():
            epoch = str(world.record(name).get("epoch", 1))
            if name in usable and cluster.up and world.record(name)["phase"] == "Live":
                assert world.epochs(name) <= {epoch}, "a live cluster holds something of an older epoch"


def die_at(world: World, write: int) -> None:
    """The manager dies at its n-th write to any API server, and another one starts."""
    left = [write]

    def count(method: str, path: str) -> None:
        if method not in {"GET", "WATCH"}:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

    homes = [world.home, *(cluster.kube for cluster in world.clusters.values())]
    kept = [home.after for home in homes]
    for home in homes:
        home.after = count
    try:
        world.clock.now += 2
        world.manager.run_once()
    except Killed:
        pass
    for home, after in zip(homes, kept, strict=True):
        home.after = after
    world.restart()
    for cluster in world.clusters.values():
        cluster.live()


def test_sizes_follow_the_kind_of_card():
    world = World(Cluster("a100", 1, model="NVIDIA A100-SXM4-80GB"))
    accepts = [{"model": "H100", "memoryMiB": 30_000}, {"model": "A100", "memoryMiB": 60_000, "cores": 70}]
    world.ask("chat", 1, accepts=accepts, template={"spec": {"containers": [a_container(mem=10_000, cores=20)]}})

    world.round(rounds=3)

    (pod,) = world.clusters["a100"].pods()
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {
        "nvidia.com/gpu": "1", "nvidia.com/gpumem": "60000", "nvidia.com/gpucores": "70",
    }  # fmt: skip
    assert pod["metadata"]["annotations"]["nvidia.com/use-gputype"] == "NVIDIA A100-SXM4-80GB"


def test_an_object_that_a_cluster_refuses_keeps_no_other_back():
    world = two_clusters()
    world.ask("bad", 1)
    world.ask("good", 1)

    def refuse(method: str, path: str) -> None:
        if method == "PATCH" and "/deployments/bad-" in path:
            raise Invalid(422, "Invalid", "spec.template is invalid")

    for cluster in world.clusters.values():
        cluster.kube.fail = refuse
    world.round(rounds=3)

    assert (total(world, "bad"), total(world, "good")) == (0, 1)


def test_a_model_without_a_price_is_named_and_costs_as_much_now_as_in_a_plan():
    world = World(Cluster("odd", 1, model="Odd Card 9000"), Cluster("small", 1, model="NVIDIA L4"))
    world.ask("chat", 2, clusters=["odd"])
    world.round(rounds=3)
    views = [
        View(ClusterSpec(name), nodes=nodes, states=states, pods=pods)
        for name, (nodes, states, pods) in ((name, each.seen()) for name, each in world.clusters.items())
    ]
    terms = Terms(NAMES, world.policy, PRICES)
    one = parse_workload(world.home.get(f"/apis/{API}/namespaces/default/fleetworkloads/chat"))
    made = shapes(views, [Want(one, 2)], terms, own_stays=False)

    assert cost_now(views, made) == plan_fleet(made.problem).cost
    message = world.status("chat")["conditions"][0]["message"]
    assert message == "odd: 2 on Odd Card 9000; no price for Odd Card 9000, so costPerHour is without it"


def test_what_is_on_others_cards_costs_as_much_now_as_in_a_plan():
    world = World(Cluster("east", 1, cards=1))
    grant = a_grant("GPU-east-0-0", H100_MIB // 2, 50)
    world.clusters["east"].kube.put(
        a_pod("other", node="east-0", mem=H100_MIB // 2, cores=50, grant=grant, phase="Running")
    )
    world.ask("chat", 1, template={"spec": {"containers": [a_container(mem=8_000, cores=5)]}})
    world.round(rounds=3)
    nodes, states, pods = world.clusters["east"].seen()
    view = View(ClusterSpec("east"), nodes=nodes, states=states, pods=pods)
    one = parse_workload(world.home.get(f"/apis/{API}/namespaces/default/fleetworkloads/chat"))
    made = shapes([view], [Want(one, 1)], Terms(NAMES, world.policy, PRICES), own_stays=False)

    assert len(pods) == 1
    assert cost_now([view], made) == pytest.approx(plan_fleet(made.problem).cost, abs=1)


def test_workloads_that_share_a_card_cost_their_parts_of_it():
    world = World(Cluster("east", 1, cards=1))
    for name, mib in (("large", 60_000), ("small", 12_000)):
        world.ask(name, 1, template={"spec": {"containers": [a_container(mem=mib, cores=10)]}})

    world.round(rounds=4)

    assert [world.status(name)["costPerHour"] for name in ("large", "small")] == ["1.3500", "0.2700"]


def test_a_manager_that_was_away_gives_every_cluster_time_to_answer():
    world = two_clusters()
    world.ask("chat", 4)
    world.round(rounds=4)
    (used,) = world.running("chat")
    world.clock.now += 3600
    world.restart()
    for cluster in world.clusters.values():
        cluster.up = False
    world.round(rounds=3)
    early = [world.record(name)["phase"] for name in ("east", "west")]
    world.clusters[used].up = True
    world.round(rounds=8)

    assert early == ["Silent", "Silent"]
    assert world.running("chat") == {used: 4}
    assert world.record(used)["epoch"] == 1
    other = {"east": "west", "west": "east"}[used]
    assert (world.record(other)["phase"], world.record(other)["epoch"]) == ("Lost", 2)


def test_a_manager_whose_machine_slept_gives_every_cluster_time_to_answer():
    world = two_clusters()
    world.ask("chat", 4)
    world.round(rounds=4)
    world.clock.now += 600
    for cluster in world.clusters.values():
        cluster.up = False  # its first look is before their next answers
    world.round()
    early = [world.record(name)["phase"] for name in ("east", "west")]
    for cluster in world.clusters.values():
        cluster.up = True
    world.round(rounds=8)

    assert early == ["Silent", "Silent"]
    assert [world.record(name)["epoch"] for name in ("east", "west")] == [1, 1]
    assert total(world, "chat") == 4


def test_the_manager_and_its_members_go_by_a_clock_that_is_never_set(monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []
    monkeypatch.setattr(wiring, "Manager", lambda *given: given)
    monkeypatch.setattr(wiring, "FollowedMember", lambda *given: made.append(given))
    monkeypatch.setattr(wiring, "connect_to", lambda *_, **__: FakeKube())
    _, follow, *_, clock = wiring.build_manager(FakeKube(), ALONE, PolicyFile(None), PriceFile(None), VENDORS, "ns")
    follow("east", {})
    before = clock()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)

    assert clock() - before < 60
    assert clock() >= before
    assert made[0][-1] is clock


def test_a_manager_whose_clock_is_behind_that_of_the_one_before_still_gives_a_silent_cluster_up():
    world = two_clusters()
    world.ask("chat", 4)
    world.round(rounds=4)
    (used,) = world.running("chat")
    world.clock.now -= 3600
    world.restart()
    world.round(rounds=2)
    world.clusters[used].up = False
    world.round(rounds=30)

    assert world.record(used)["phase"] == "Lost"
    assert sum(n for name, n in world.running("chat").items() if name != used) == 4
