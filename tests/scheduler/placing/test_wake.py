"""A new leader has refused pods tried again."""

import threading

import pytest

from kerf.kube.errors import Unreachable
from kerf.testing.builders import a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.placing import wake
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


def test_what_the_api_server_does_not_take_is_written_again(monkeypatch: pytest.MonkeyPatch):
    """kube-scheduler retries pods on its own only after minutes."""
    monkeypatch.setattr(wake, "FIRST_PAUSE_S", 0.01)
    kube, store = FakeKube(a_node("n-1")), Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node("n-1")], [a_pod()])
    answers = iter((Unreachable("no route"), Unreachable("no route"), None))

    def fails(method: str, path: str) -> None:
        if error := next(answers) if method == "PATCH" else None:
            raise error

    kube.fail = fails
    WakeOnElection(store, kube).run(threading.Event())

    assert PLAN in kube.get("/api/v1/nodes/n-1")["metadata"]["annotations"]


def test_where_nobody_waits_nothing_is_written():
    assert begin_a_term().writes == []
