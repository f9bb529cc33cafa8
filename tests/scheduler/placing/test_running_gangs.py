"""Gangs that run: a further pod is an ordinary one, and a member that was lost is not overtaken by its equals."""

import json

import pytest

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_container, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.grant import Grant
from kerf.values.policy import SchedulingPolicy
from kerf.values.verdict import Misfit
from kerf.vendors.registry import VENDORS
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.leader_worker_sets import LeaderWorkerSets
from scheduler.placing.planner import Planner
from scheduler.state.seating import Seat
from scheduler.state.store import Store, load
from scheduler.state.within_quota import WithinQuota

LWS = "leaderworkerset.sigs.k8s.io"
WHOLE = [a_container(mem=81_559, cores=100)]


class World:
    def __init__(self, cards: int, *pods: dict) -> None:
        node = a_node(cards=cards)
        self.store, self.metrics = Store(SchedulingPolicy(), VENDORS), SchedulerMetrics.build(Metrics())
        load(self.store, [node], list(pods))
        self.verbs = Verbs(self.store.desk, self.metrics)
        self.planner = Planner(self.store, FakeKube(node), self.metrics)

    def fits(self, pod: dict) -> bool:
        body = json.dumps({"Pod": pod, "NodeNames": ["node-1"]}).encode()
        return json.loads(self.verbs.filter(body))["NodeNames"] == ["node-1"]

    def seats(self, pod: dict) -> str | None:
        """Where the express lane binds it."""
        found = self.store.seating.take(pod["metadata"]["uid"], ["node-1"], None)
        return found.node if isinstance(found, Seat) else None


def member(number: int, card: int | None = None, size: int = 2, **changes: object) -> dict:
    held = {} if card is None else {"node": "node-1", "grant": a_grant(f"GPU-node-1-{card}", 81_559, 100)}
    notes = {"kerf.dev/gang-size": str(size)}
    return a_pod(f"m-{number}", containers=WHOLE, labels={"kerf.dev/gang": "g"}, annotations=notes, **held, **changes)


def a_plain(name: str, priority: int = 0, card: int | None = None) -> dict:
    held = {} if card is None else {"node": "node-1", "grant": a_grant(f"GPU-node-1-{card}", 81_559, 100)}
    return a_pod(name, containers=WHOLE, spec={"priority": priority}, **held)


def test_beside_a_gang_that_runs_in_full_a_further_pod_is_placed_alone() -> None:
    """As in a rolling update, where the new pod comes before an old one goes."""
    fresh = member(9)
    world = World(3, member(0, 0), member(1, 1), fresh)

    assert world.fits(fresh)


def test_a_member_that_was_lost_is_not_overtaken_by_a_newcomer_of_equal_priority() -> None:
    lost, filler, other = member(1), a_plain("filler"), a_plain("other", card=1)
    world = World(2, member(0, 0), other, filler, lost)
    assert not world.fits(filler)
    assert not world.fits(lost)

    world.store.feed.apply_pod("DELETED", other)

    assert not world.fits(filler)
    assert world.fits(lost)


def test_a_more_important_pod_goes_before_a_member_that_was_lost() -> None:
    lost, vip, other = member(1), a_plain("vip", priority=100), a_plain("other", card=1)
    world = World(2, member(0, 0), other, vip, lost)
    assert not world.fits(lost)

    world.store.feed.apply_pod("DELETED", other)

    assert world.fits(vip)


def test_a_gang_of_which_nothing_runs_any_more_starts_as_a_whole() -> None:
    first, lost, other = member(0, 0), member(1), a_plain("other", card=1)
    filler = a_plain("filler")
    world = World(2, first, other, lost, filler)
    assert not world.fits(lost)

    world.store.feed.apply_pod("DELETED", first)

    assert world.fits(filler)
    assert not world.fits(lost)


def test_lost_members_wait_for_each_other_before_any_is_placed() -> None:
    world = World(4, member(0, 0, size=3), lost := member(1, size=3))

    assert not world.fits(lost)
    world.store.feed.apply_pod("ADDED", other := member(2, size=3))
    assert world.fits(lost)
    assert world.fits(other)


def test_a_leader_whose_workers_come_later_does_not_wait_for_them() -> None:
    """A LeaderWorkerSet from before the webhook wrote so into its templates."""
    group = {f"{LWS}/name": "llm", f"{LWS}/group-index": "0"}
    leader = a_pod("llm-0", containers=WHOLE, labels=group, annotations={f"{LWS}/size": "2"})
    world = World(2, leader)
    sets = LeaderWorkerSets(world.store)
    waits = {"metadata": {"name": "llm", "namespace": "default"}, "spec": {"startupPolicy": "LeaderReady"}}
    at_once = {**waits, "spec": {"startupPolicy": "LeaderCreated"}}
    answers = [world.fits(leader)]
    for act in (
        lambda: sets.replace([waits]),
        lambda: sets.change("MODIFIED", at_once),
        lambda: sets.change("ADDED", waits),
        lambda: sets.change("DELETED", waits),
        lambda: sets.replace([waits, {**waits, "metadata": {"name": "llm", "namespace": "other"}}]),
        lambda: sets.replace([at_once]),
    ):
        act()
        answers.append(world.fits(leader))

    assert answers == [False, True, False, True, False, True, False]


def test_where_a_member_goes_before_any_has_started_the_others_wait_for_the_one_that_follows_it() -> None:
    gone, *others = members = [member(number, size=3) for number in range(3)]
    world = World(3, *members)
    for pod in members:
        world.fits(pod)
    world.planner.run_once()
    assert world.fits(others[0])

    world.store.feed.apply_pod("DELETED", gone)

    assert [world.fits(pod) for pod in others] == [False, False]
    assert world.seats(others[0]) is None
    ask, stages = world.store.desk.read(others[0])
    refused = world.store.desk.assume(ask, "node-1", stages)
    assert isinstance(refused, Misfit)
    assert refused.detail == "gang default/g waits: 2 of its 3 pods have a place"

    world.store.feed.apply_pod("ADDED", follows := member(9, size=3))
    world.fits(follows)
    world.planner.run_once()
    assert [world.fits(pod) for pod in (follows, *others)] == [True, True, True]
    assert world.seats(others[0]) == "node-1"


def test_what_is_left_of_a_gang_that_has_started_goes_on_where_another_one_goes() -> None:
    started, gone, last = members = [member(number, size=3) for number in range(3)]
    world = World(3, *members)
    for pod in members:
        world.fits(pod)
    world.planner.run_once()
    assert world.seats(started) == "node-1"

    world.store.feed.apply_pod("DELETED", gone)

    assert world.fits(last)


def test_a_bind_that_fails_leaves_a_gangs_member_its_place() -> None:
    world = World(2, first := member(0), second := member(1))
    world.fits(first), world.fits(second)
    world.planner.run_once()
    desk, ledger = world.store.desk, world.store.ledger
    ask, stages = desk.read(first)
    assert isinstance(desk.assume(ask, "node-1", stages), Grant)

    ledger.undo(ask.uid)

    assert ledger.reservation(ask.uid) is not None
    assert not world.fits(a_plain("filler"))
    assert world.fits(first)


def test_for_lost_members_that_ask_for_the_same_a_place_is_sought_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter of any pod waits for this search."""
    lost, filler, other = [member(i, size=4) for i in (1, 2, 3)], a_plain("filler"), a_plain("other", card=1)
    world = World(2, member(0, 0, size=4), other, filler, *lost)
    assert not any(world.fits(one) for one in lost)
    world.store.feed.apply_pod("DELETED", other)
    world.store.feed.apply_pod("ADDED", a_plain("another", card=1))
    sought: list[str] = []
    has_room = WithinQuota.has_room
    monkeypatch.setattr(WithinQuota, "has_room", lambda *args: sought.append(args[1].key) or has_room(*args))

    assert not world.fits(filler)

    assert sought == ["default/m-1"]
