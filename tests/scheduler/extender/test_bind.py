"""Bind: one write, one undo path, and no answer of the API server is guessed."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from kerf.kube.errors import Busy, Conflict, Forbidden, Unreachable, Unsent
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_container, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.grant import CardUse
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.annotations import GRANT
from kerf.wire.extender import BindQuery
from scheduler.extender.bind import Binder
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.expire import Expiry
from scheduler.state.bookings import State
from scheduler.state.store import Store, load

POD = "/api/v1/namespaces/default/pods/pod-1"
QUERY = BindQuery("default", "pod-1", "uid-default-pod-1", "node-1")


class Office:
    """A tenure that the test gives and takes."""

    def __init__(self, term: int = 1) -> None:
        self.now = term

    def term(self) -> int:
        return self.now

    def holds(self, term: int, for_s: float = 0.0) -> bool:
        return term == self.now


class World:
    def __init__(self, *pods: dict) -> None:
        self.office = Office()
        self.kube = FakeKube(a_node(), *pods)
        self.store = Store(SchedulingPolicy(), VENDORS)
        load(self.store, [a_node()], pods)
        self.binder = Binder(self.store, self.kube, SchedulerMetrics.build(Metrics()), self.office)

    def bind(self, query: BindQuery) -> str:
        return asyncio.run(self.binder.bind(query))

    def used(self) -> list[CardUse]:
        return [s.used for s in self.store.desk.state("node-1").cards if s.used != CardUse()]


def raising(error: Exception, times: int = 1, method: str = "POST"):
    left = [times]

    def hook(asked: str, path: str) -> None:
        if asked == method and left[0]:
            left[0] -= 1
            raise error

    return hook


def test_a_bind_is_one_write_that_binds_and_records_the_grant():
    world = World(a_pod())

    assert world.bind(QUERY) == ""
    assert world.kube.writes == [("POST", f"{POD}/binding")]
    pod = world.kube.get(POD)
    slices = json.loads(pod["metadata"]["annotations"][GRANT])["containers"][0]["slices"]
    assert [(s["memory_mib"], s["cores"]) for s in slices] == [(8000, 30)]
    assert pod["spec"]["nodeName"] == "node-1"


def test_a_forged_grant_is_overwritten_by_the_real_one():
    world = World(a_pod(annotations={GRANT: '{"v":1,"containers":[]}'}))

    world.bind(QUERY)

    assert "GPU-node-1" in world.kube.get(POD)["metadata"]["annotations"][GRANT]


@pytest.mark.parametrize("error", [Forbidden(403, "Forbidden", "no"), Conflict(409, "Conflict", "being deleted")])
def test_a_refusal_is_undone_at_once(error):
    world = World(a_pod())
    world.kube.fail = raising(error)

    assert "refused" in world.bind(QUERY)
    assert world.used() == []


@pytest.mark.parametrize("error", [Unreachable("cut"), Busy(500, "InternalError", "etcd")])
def test_an_answer_that_was_lost_after_the_bind_took_effect_counts_as_bound(error):
    world = World(a_pod())
    world.kube.after = raising(error)

    assert world.bind(QUERY) == ""
    assert world.used() == [CardUse(8000, 30, 1)]


def test_a_bind_that_never_reached_the_api_server_is_undone():
    world = World(a_pod())
    world.kube.fail = raising(Unsent("refused"))

    assert "not sent" in world.bind(QUERY)
    assert world.used() == []


def test_a_bind_whose_answer_was_lost_stays_charged_while_the_api_server_may_still_be_at_it():
    world = World(a_pod())
    world.kube.fail = raising(Unreachable("cut"))

    assert "did not say" in world.bind(QUERY)
    assert world.used() == [CardUse(8000, 30, 1)]
    Expiry(world.store, world.kube, ask_after_s=-1.0).run_once()
    assert world.used() == []


def test_while_nobody_can_say_whether_the_pod_is_bound_it_stays_charged_until_somebody_can():
    world = World(a_pod())

    def down(method: str, path: str) -> None:
        raise Unreachable("down")

    world.kube.fail = down
    assert "did not say" in world.bind(QUERY)
    assert world.used() == [CardUse(8000, 30, 1)]
    expiry = Expiry(world.store, world.kube, ask_after_s=-1.0)
    expiry.run_once()
    assert world.used() == [CardUse(8000, 30, 1)]

    world.kube.fail = lambda method, path: None
    expiry.run_once()

    assert world.used() == []


def test_a_pod_that_was_replaced_by_another_of_its_name_is_not_bound():
    world = World()
    world.kube.put(a_pod(uid="another"))

    assert "replaced" in world.bind(QUERY)
    assert world.kube.writes == []


def test_a_pod_last_seen_behind_its_gates_is_read_again_for_what_the_gate_keeper_wrote():
    gated = a_pod(mem=8000, spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]})
    world = World(gated)
    world.kube.put(a_pod(mem=9000))

    assert world.bind(QUERY) == ""

    assert [use.memory_mib for use in world.used()] == [9000]


def test_a_node_that_filled_up_meanwhile_is_refused_with_numbers():
    pods = [a_pod(f"big-{i}", containers=[a_container(mem=81_559, cores=None)]) for i in range(4)]
    world = World(*pods, a_pod())
    for i in range(4):
        assert world.bind(BindQuery("default", f"big-{i}", f"uid-default-big-{i}", "node-1")) == ""

    message = world.bind(QUERY)

    assert "filled up" in message
    assert "8,000 MiB" in message
    assert world.store.ledger.counts()[State.ASSUMED] == 4


def test_a_pod_that_is_deleted_while_it_is_bound_gives_everything_back():
    world = World(a_pod())
    world.kube.fail = lambda method, path: (
        world.store.feed.apply_pod("DELETED", a_pod()) if path.endswith("binding") else None
    )

    world.bind(QUERY)

    assert world.used() == []


def test_a_replica_that_does_not_lead_binds_nothing():
    world = World(a_pod())
    world.office.now = 0

    assert "does not lead" in world.bind(QUERY)
    assert world.kube.writes == []


def test_a_bind_that_began_in_an_earlier_term_is_not_sent():
    world = World(a_pod())
    begin_bind = world.store.desk.begin_bind

    def late(uid):
        world.office.now = 2
        return begin_bind(uid)

    world.store.desk.begin_bind = late

    assert "not sent" in world.bind(QUERY)
    assert world.kube.writes == []
    assert world.used() == []


def test_a_bind_whose_assumption_was_taken_back_meanwhile_is_not_sent():
    world = World(a_pod())
    world.kube.create_while = lambda path, body, holds, timeout_s: (
        world.store.ledger.undo(QUERY.uid) or FakeKube.create_while(world.kube, path, body, holds, timeout_s)
    )

    assert "not sent" in world.bind(QUERY)
    assert world.kube.writes == []


def test_one_pod_is_bound_by_one_bind_at_a_time_and_nobody_undoes_it_meanwhile():
    world = World(a_pod())
    answers = []

    def second(method: str, path: str) -> None:
        if path.endswith("/binding"):
            with ThreadPoolExecutor() as other:  # a loop of its own: this one waits here
                answers.append(other.submit(world.bind, QUERY).result())
            Expiry(world.store, world.kube, ask_after_s=-1.0).run_once()

    world.kube.fail = second

    assert world.bind(QUERY) == ""
    assert ["is being bound" in answer for answer in answers] == [True]
    assert world.used() == [CardUse(8000, 30, 1)]


def test_a_second_bind_that_never_left_does_not_give_back_what_the_first_one_may_hold() -> None:
    """The first Binding's answer was lost; the API server may have taken it."""
    world = World(a_pod())
    world.kube.fail = raising(Unreachable("no answer"), times=1)
    world.kube.after = raising(Unreachable("no answer"), times=9, method="GET")
    assert "did not say" in world.bind(QUERY)

    world.kube.fail = raising(Unsent("no connection"), times=1)
    assert "was not sent" in world.bind(QUERY)

    assert world.used() == [CardUse(8000, 30, 1)]


def test_while_a_bind_has_a_pod_its_old_assumption_is_not_judged() -> None:
    world = World(a_pod())
    world.kube.fail = raising(Unreachable("no answer"), times=2)
    world.kube.after = raising(Unreachable("no answer"), times=9, method="GET")
    world.bind(QUERY)
    world.kube.after = lambda method, path: None
    bind = world.store.desk.begin_bind(QUERY.uid)
    assert bind is not None

    Expiry(world.store, world.kube, ask_after_s=-1.0).run_once()
    assert world.used() == [CardUse(8000, 30, 1)]

    bind.end()
    Expiry(world.store, world.kube, ask_after_s=-1.0).run_once()
    assert world.used() == []
