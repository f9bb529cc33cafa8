"""A new leader has refused pods tried again."""

import threading

from kerf.testing.builders import a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.placing.wake import PLAN, WakeOnElection
from scheduler.state.store import Store, load


def begin_a_term(*pods: dict) -> FakeKube:
    kube, store = FakeKube(a_node("n-2"), a_node("n-1")), Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node("n-2"), a_node("n-1")], pods)
    WakeOnElection(store, kube).run(threading.Event())
    return kube


def test_where_pods_wait_one_node_is_written_and_with_another_word_each_time():
    first, second = begin_a_term(a_pod()), begin_a_term(a_pod())

    assert first.writes == [("PATCH", "/api/v1/nodes/n-1")]
    words = [kube.get("/api/v1/nodes/n-1")["metadata"]["annotations"][PLAN] for kube in (first, second)]
    assert words[0] != words[1]


def test_where_nobody_waits_nothing_is_written():
    assert begin_a_term().writes == []
