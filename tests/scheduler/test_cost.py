"""What is asked often does not walk over every pod: a dictionary that refuses to be walked shows it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_claim, a_claiming_pod, a_container, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import QuotaSettings, SchedulingPolicy
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.resources import parse_pod
from scheduler.kueue.overdraft import Overdraft
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.planner import Planner
from scheduler.state.claims import ClaimingPods
from scheduler.state.desk import Desk
from scheduler.state.store import Store, load
from tests.scheduler.state.test_quotas import a_store, a_tenant

GANG = {"labels": {"kerf.dev/gang": "train"}, "annotations": {"kerf.dev/gang-size": "3"}}
WHOLE = [a_container(mem=81_559, cores=100)]


class NotWalked(dict[Any, Any]):
    """It answers by key alone."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("all of it was read")

    def values(self) -> NoReturn:
        raise AssertionError("all of it was read")

    items = keys = values


def test_the_note_of_a_gang_counts_its_own_members_alone() -> None:
    members = [a_pod(f"m{i}", containers=WHOLE, **GANG) for i in range(2)]
    runs = a_pod("m2", containers=WHOLE, node="node-1", grant=a_grant("GPU-node-1-0", 81_559, 100), **GANG)
    store = Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node()], [*members, runs, *(a_pod(f"other-{i}", containers=WHOLE) for i in range(3))])
    live = store.desk._live
    live.pending.pods, live.ledger._bookings = NotWalked(live.pending.pods), NotWalked(live.ledger._bookings)

    found = [store.desk._gang(parse_pod(pod, NAMES, SchedulingPolicy().defaults), ["node-1"]) for pod in members]
    assert found == [None, None]  # one runs, all are there
    store.feed.apply_pod("DELETED", members[1])
    waits = store.desk._gang(parse_pod(members[0], NAMES, SchedulingPolicy().defaults), ["node-1"])
    assert waits is not None
    assert waits.note == "gang default/train waits for its pods: 2 of 3 are there"


def test_a_node_and_a_claim_are_joined_with_their_own_pods_alone() -> None:
    store, _ = a_store(a_tenant("team", {"memory": "1Gi"}), nodes=[])
    seen = ClaimingPods(store, "nvidia")
    for name in ("a", "b"):
        seen.apply_claim("ADDED", a_claim(name, ("gpu-0", 100, 0), pod=f"pod-{name}", node=f"node-{name}"))
        pod = a_claiming_pod(f"pod-{name}", main=[name])
        seen.apply_pod("ADDED", {**pod, "spec": {**pod["spec"], "nodeName": f"node-{name}"}})
    seen._pods, store.feed._live.claimed._entries = NotWalked(seen._pods), NotWalked(store.feed._live.claimed._entries)

    seen.apply_node("ADDED", a_node("node-a"))
    seen.apply_claim("MODIFIED", a_claim("b", ("gpu-0", 100, 0), pod="pod-b", node="node-b"))

    assert {booking.key for booking in store.ledger.bookings()} == {"default/pod-a", "default/pod-b"}


def test_no_pod_is_read_for_evictions_while_the_cards_give_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = a_tenant()
    tenant["spec"]["whenOver"] = "evict"
    at_once = SchedulingPolicy(quota=QuotaSettings(shrink_after_s=0.0))
    store, keeper = a_store(tenant, nodes=[a_node(cards=2)], policy=at_once)
    for i in range(2):
        runs = a_pod(f"p{i}", namespace="team", node="node-1", grant=a_grant(f"GPU-node-1-{i}", 81_559, 100))
        store.feed.apply_pod("ADDED", runs)
    read: list[str] = []
    running = Desk.running
    monkeypatch.setattr(Desk, "running", lambda self: read.append("read") or running(self))
    overdraft = Overdraft(store, FakeKube())

    overdraft.run_once(None)
    assert read == []
    store.feed.apply_node("MODIFIED", a_node(cards=2, **{"kerf.dev/cordon": "GPU-node-1-1"}))
    keeper.refresh()
    overdraft.run_once(None)
    assert read == ["read"]


def test_a_digest_does_not_read_the_nodes_that_pods_were_offered() -> None:
    class Offered(frozenset[str]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("all of it was read")

    store = Store(SchedulingPolicy(), VENDORS)
    planner = Planner(store, FakeKube(), SchedulerMetrics.build(Metrics()))
    problem = replace(store.planning.problem(()), offered=(("uid", Offered({"a", "b"})),))

    same = replace(problem, offered=(("uid", Offered({"b", "a"})),))
    other = replace(problem, offered=(("uid", Offered({"a"})),))
    assert planner._digest(problem) == planner._digest(same)
    assert planner._digest(problem) != planner._digest(other)
