"""What a worker cluster offers: its cards, and what its own tenants may hold."""

import threading

import pytest

from kerf.kube.errors import Forbidden
from kerf.testing.builders import a_container, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.multikueue import Dispatchable, PodGroup
from scheduler.clusters.nominate import Offer
from scheduler.clusters.workers import Books, Worker, need_of
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.state.store import Store
from tests.limiter.harness import eventually

WHOLE = [a_container(mem=81_559, cores=100)]
KUEUE = "kueue.x-k8s.io/v1beta2"
QUEUES = (
    {
        "apiVersion": KUEUE,
        "kind": "LocalQueue",
        "metadata": {"name": "q", "namespace": "team"},
        "spec": {"clusterQueue": "q"},
    },
    {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": "q"}, "spec": {}},
)
TENANT = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "TenantQuota",
    "metadata": {"name": "team"},
    "spec": {"namespaces": ["team"], "classes": [{"model": "H100", "guaranteed": "2 cards", "burst": "0 cards"}]},
}
HARD = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "gpu", "namespace": "team"},
    "spec": {"hard": {"limits.nvidia.com/gpu": "2"}},
}
RUNS = a_pod("old", namespace="team", containers=WHOLE, node="node-1", grant=a_grant("GPU-node-1-0", 81_559, 100))


def a_workload(pods: int) -> Dispatchable:
    pod = a_pod("w", namespace="team", containers=WHOLE)
    return Dispatchable("team", "w", f"u-{pods}", "1", "q", "", "check", (PodGroup("main", pod, pods),))


def offers(kube: FakeKube, *counts: int) -> list[Offer]:
    store, changed = Store(SchedulingPolicy(), VENDORS), threading.Event()
    worker = Worker("near", kube, Books(store, QuotaKeeper(store)), changed)
    worker.start()
    eventually(lambda: worker.ready)
    found = [worker.offer(need_of(a_workload(count), worker.desk), ()) for count in counts]
    worker.stop()
    return found


@pytest.mark.parametrize(
    ("quota", "owner"), [(TENANT, "tenant team"), (HARD, "namespace team")], ids=["TenantQuota", "ResourceQuota"]
)
def test_a_worker_offers_no_more_than_its_own_quota_leaves(quota: dict, owner: str) -> None:
    fits, exceeds = offers(FakeKube(a_node(cards=4), RUNS, quota, *QUEUES), 1, 2)

    assert fits == Offer("near", free_mib=3 * 81_559)
    assert exceeds == Offer("near", f"1 of 2 pods fit now; more does not fit within the quota of {owner} there")


def test_a_worker_whose_quotas_may_not_be_read_offers_what_its_cards_hold() -> None:
    kube = FakeKube(a_node(cards=4), RUNS, TENANT, *QUEUES)

    def refuse(method: str, path: str) -> None:
        if "quotas" in path:
            raise Forbidden(403, "Forbidden", f"{method} {path}")

    kube.fail = refuse

    assert offers(kube, 3) == [Offer("near", free_mib=3 * 81_559)]
