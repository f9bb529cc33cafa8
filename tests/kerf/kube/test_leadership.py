"""Leadership against an API server in memory: terms, lost answers, hand-over, and writes that are withheld."""

import pytest

from kerf.kube.errors import Unreachable, Withheld
from kerf.kube.leadership import ALONE, GuardedKube, Leadership, unique_identity
from kerf.kube.lease import Election, Times
from kerf.testing.fake_kube import FakeKube

LEASE = ("kerf-system", "kerf-scheduler")
PATH = "/apis/coordination.k8s.io/v1/namespaces/kerf-system/leases/kerf-scheduler"


class World:
    """Replicas that share an API server and a clock which the test moves."""

    def __init__(self, *names: str) -> None:
        self.kube = FakeKube()
        self.now = 1000.0
        self.replicas = {name: self.replica(name) for name in names}

    def replica(self, name: str) -> Leadership:
        times = Times()
        return Leadership(self.kube, LEASE, Election(name, f"{name}:9090", times), times, lambda: self.now)

    def live(self, *names: str, seconds: float = 4.0) -> None:
        """Let time pass for these replicas; the others stand still."""
        for _ in range(round(seconds / 0.25)):
            for name in names or self.replicas:
                self.replicas[name].run_once()
            self.now += 0.25

    def leaders(self) -> list[str]:
        return [name for name, each in self.replicas.items() if each.elected()]


def test_of_three_replicas_one_leads_and_all_know_it():
    world = World("a", "b", "c")
    world.live()

    (leader,) = world.leaders()
    assert {each.leader().address for each in world.replicas.values()} == {f"{leader}:9090"}


def test_a_leader_that_does_nothing_is_followed_within_four_seconds_and_does_not_come_back():
    world = World("a", "b")
    world.live("a")
    world.live("a", "b", seconds=1.0)
    world.live("b", seconds=4.0)
    assert world.leaders() == ["b"]

    world.live(seconds=4.0)

    assert world.leaders() == ["b"]


def test_a_released_lease_is_taken_at_the_next_look():
    world = World("a", "b")
    world.live("a")
    world.replicas["a"].release()

    assert world.leaders() == []
    world.live("b", seconds=0.25)
    assert world.leaders() == ["b"]


def test_a_term_is_open_only_once_its_owner_has_caught_up_and_ends_with_the_lease():
    world = World("a", "b")
    world.live("a")
    a = world.replicas["a"]
    term = a.elected()
    assert (term, a.term(), a.holds(term)) == (1, 0, True)
    a.open(term)
    assert a.term() == 1

    world.now += 2.7

    assert (a.elected(), a.term(), a.holds(term)) == (0, 0, False)


def test_a_lease_that_lapsed_and_came_back_is_another_term():
    world = World("a")
    world.live()
    a = world.replicas["a"]
    a.open(a.elected())
    world.now += 10

    world.live(seconds=0.5)

    assert (a.elected(), a.term(), a.holds(1)) == (2, 0, False)


def test_a_renewal_whose_answer_is_lost_does_not_count_and_the_next_one_does():
    world = World("a")
    world.live()
    a = world.replicas["a"]
    lost = []

    def lose(method: str, path: str) -> None:
        if method == "PUT" and not lost:
            lost.append(path)
            raise Unreachable("cut")

    world.kube.after = lose
    world.live(seconds=3.0)

    assert lost == [PATH]
    assert (a.elected(), a.holds(1, 1.0)) == (1, True)


def test_while_the_api_server_is_away_the_leader_stops_before_its_time():
    world = World("a")
    world.live()

    def down(method: str, path: str) -> None:
        raise Unreachable("down")

    world.kube.fail = down
    world.live(seconds=2.75)

    assert world.leaders() == []


def test_what_only_a_leader_may_write_is_withheld_from_others():
    world = World("a")
    guarded = GuardedKube(world.kube, world.replicas["a"])

    with pytest.raises(Withheld, match="does not lead"):
        guarded.patch("/api/v1/nodes/n", {})

    assert world.kube.writes == []
    assert guarded.list("/api/v1/nodes") == ([], "0")


def test_a_single_replica_always_leads():
    assert (ALONE.term(), ALONE.elected(), ALONE.holds(1, 1e9)) == (1, 1, True)


def test_a_restarted_process_is_somebody_else():
    assert unique_identity("host") != unique_identity("host")
