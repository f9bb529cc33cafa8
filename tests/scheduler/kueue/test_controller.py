"""The quota controller on a fake API server: labels, Kueue's objects, statuses, evictions, and bad days."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from kerf.kube.errors import Busy
from kerf.obs.metrics import Metrics
from kerf.testing.builders import H100_MIB, a_grant, a_node, a_pod, cards_of
from kerf.testing.fake_kube import FakeKube
from kerf.values.health import SUSPECT
from kerf.values.policy import QuotaEngine, QuotaSettings, SchedulingPolicy
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.accounts import parse_account
from scheduler.kueue.controller import QuotaController
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.metrics import QuotaMetrics
from scheduler.state.store import Store
from tests.scheduler.quota.tenants import SLUG

ROOT = "/apis/kueue.x-k8s.io/v1beta2"
MIB, CORES, CARDS = NAMES[0].quota


class World:
    """A store, a keeper and a controller that see one fake API server."""

    def __init__(self, engine: QuotaEngine, *objects: dict[str, Any], **quota: Any) -> None:
        settings = QuotaSettings(engine, shrink_after_s=0.0, **quota)
        self.kube = FakeKube(*objects)
        self.store = Store(SchedulingPolicy(quota=settings), VENDORS)
        self.keeper = QuotaKeeper(self.store, clock=lambda: self.now)
        self.metrics = QuotaMetrics.build(Metrics())
        self.controller = QuotaController(self.store, self.kube, self.keeper, self.metrics, clock=lambda: self.now)
        self.now = 0.0
        self.see()
        if engine is QuotaEngine.KUEUE:
            for mirror in (self.controller._managed, self.controller._workloads):
                mirror.start()

    def see(self) -> None:
        """What the watches would bring."""
        self.store.feed.replace_nodes(self.kube.objects("/api/v1/nodes"))
        self.store.feed.replace_pods([p for p in self.kube.objects("/api/v1/namespaces") if p["kind"] == "Pod"])
        self.keeper.replace_tenants(self.kube.objects("/apis/kerf.dev/v1alpha1/tenantquotas"))
        self.keeper.replace_hard([])
        self.keeper.refresh()

    def until(self, condition: Callable[[], bool]) -> None:
        """Rounds until something is so: mirrors follow from threads of their own."""
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            self.now += 1.0
            self.see()
            with suppress(Busy):  # the loop retries after a pause
                self.controller.run_once()

    def nominal(self, path: str) -> list[str]:
        found = self.kube.objects(f"{ROOT}/{path}")
        groups = found[0]["spec"].get("resourceGroups", []) if found else []
        return [r["nominalQuota"] for g in groups for f in g["flavors"] for r in f["resources"]]

    def book(self, name: str = "team") -> Any:
        return parse_account(self.kube.get(f"/apis/kerf.dev/v1alpha1/tenantquotas/{name}"))


def a_tenant(name: str = "team", guaranteed: Any = "1 card", **spec: Any) -> dict[str, Any]:
    full = {"namespaces": [name], "classes": [{"model": "H100", "guaranteed": guaranteed}], **spec}
    meta = {"name": name, "generation": 3}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": meta, "spec": full}


def a_workload(name: str, mib: int, **changes: Any) -> dict[str, Any]:
    assignment = {"flavors": {MIB: SLUG}, "resourceUsage": {MIB: str(mib), CARDS: "1"}}
    since = changes.pop("since", "2026-01-01T00:00:00Z")
    reserved = {"type": "QuotaReserved", "status": "True", "lastTransitionTime": since}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": "team", "uid": name},
        "spec": {"active": True},
        "status": {"admission": {"podSetAssignments": [assignment]}, "conditions": [reserved]},
        **changes,
    }


def test_nodes_say_their_classes_and_drop_those_they_lost() -> None:
    node = a_node()
    node["metadata"]["labels"]["class.kerf.dev/old"] = "true"
    world = World(QuotaEngine.KERF, node, a_tenant())

    world.until(
        lambda: world.kube.get("/api/v1/nodes/node-1")["metadata"]["labels"] == {f"class.kerf.dev/{SLUG}": "true"}
    )


def test_without_kueue_only_labels_and_statuses_are_written() -> None:
    world = World(QuotaEngine.KERF, a_node(), a_tenant(), a_pod("p", namespace="team", mem=9000))

    world.until(lambda: bool(world.book().classes))

    entry = world.book().classes[0]
    assert world.book().enforced
    assert (entry.guaranteed.memory_mib, entry.used.memory_mib, entry.pending.memory_mib) == (H100_MIB, 0, 9000)
    assert world.kube.objects(ROOT) == []
    status = world.kube.get("/apis/kerf.dev/v1alpha1/tenantquotas/team")["status"]
    assert [(c["type"], c["status"]) for c in status["conditions"]] == [("Ready", "True"), ("Overcommitted", "False")]
    assert status["observedGeneration"] == 3


def test_with_kueue_a_tenant_gets_its_queue_and_the_cohort_the_rest() -> None:
    world = World(QuotaEngine.KUEUE, a_node(cards=2), a_tenant())

    world.until(lambda: bool(world.nominal("cohorts/kerf")))

    assert world.nominal("clusterqueues/team") == [str(H100_MIB), "100", "10"]
    assert world.nominal("cohorts/kerf") == [str(H100_MIB), "100", "10"]
    world.until(lambda: bool(world.kube.objects(f"{ROOT}/namespaces/team/localqueues/kerf")))


def test_a_round_that_changes_nothing_writes_nothing() -> None:
    world = World(QuotaEngine.KUEUE, a_node(cards=2), a_tenant())
    world.until(lambda: bool(world.kube.objects(f"{ROOT}/namespaces/team/localqueues/kerf")))
    world.until(lambda: len(world.controller._managed.items()) == len(world.kube.objects(ROOT)))
    before = len(world.kube.writes)

    for _ in range(3):
        world.now += 1.0
        world.see()
        world.controller.run_once()

    assert world.kube.writes[before:] == []


def test_before_the_tenants_are_listed_nothing_of_kueues_is_deleted() -> None:
    world = World(QuotaEngine.KUEUE, a_node(cards=2), a_tenant())
    world.until(lambda: bool(world.kube.objects(f"{ROOT}/namespaces/team/localqueues/kerf")))
    keeper = QuotaKeeper(world.store)
    fresh = QuotaController(world.store, world.kube, keeper, world.metrics)

    keeper.refresh()
    fresh.run_once()

    assert not keeper.ready
    assert world.kube.objects(f"{ROOT}/clusterqueues/team")


def test_a_burst_of_pods_is_not_a_burst_of_statuses() -> None:
    world = World(QuotaEngine.KERF, a_node(cards=2), a_tenant())
    world.until(lambda: bool(world.book().classes))
    before = len(world.kube.writes)

    for i in range(30):  # three seconds
        world.kube.put(a_pod(f"p{i}", namespace="team", mem=1000))
        world.now += 0.1
        world.see()
        world.controller.run_once()

    assert len(world.kube.writes) - before == 1
    world.until(lambda: world.book().classes[0].pending.memory_mib == 30_000)


def test_a_sick_card_shrinks_the_cohort_and_then_the_tenants_and_grows_back() -> None:
    world = World(QuotaEngine.KUEUE, a_node(cards=2), a_tenant())
    world.until(lambda: bool(world.nominal("cohorts/kerf")))

    world.kube.put(a_node(cards=1))
    world.until(lambda: world.nominal("cohorts/kerf")[0] == "0")
    assert world.nominal("clusterqueues/team")[0] == str(H100_MIB)

    world.kube.put(a_node(cards=cards_of("node-1", 2)))
    world.until(lambda: world.nominal("cohorts/kerf")[0] == str(H100_MIB))


def test_writes_that_fail_while_kueue_restarts_are_made_again() -> None:
    world = World(QuotaEngine.KUEUE, a_node(), a_tenant())
    failures = iter(range(3))

    def fail(method: str, path: str) -> None:
        if method == "PATCH" and "clusterqueues" in path and next(failures, None) is not None:
            raise Busy(500, "InternalError", "failed calling webhook: connection refused")

    world.kube.fail = fail
    world.until(lambda: bool(world.nominal("clusterqueues/team")))


def test_a_tenant_that_is_gone_takes_its_queues_along() -> None:
    world = World(QuotaEngine.KUEUE, a_node(), a_tenant())
    world.until(lambda: bool(world.kube.objects(f"{ROOT}/namespaces/team/localqueues/kerf")))

    world.kube.remove("/apis/kerf.dev/v1alpha1/tenantquotas/team")

    world.until(
        lambda: not world.kube.objects(f"{ROOT}/clusterqueues") and not world.kube.objects(f"{ROOT}/namespaces")
    )


def test_a_file_that_cannot_be_read_says_so_in_its_own_status() -> None:
    world = World(QuotaEngine.KERF, a_node(), a_tenant("bad", weight=0), a_tenant())

    world.until(lambda: bool(world.kube.get("/apis/kerf.dev/v1alpha1/tenantquotas/bad").get("status")))

    ready = world.kube.get("/apis/kerf.dev/v1alpha1/tenantquotas/bad")["status"]["conditions"][0]
    assert (ready["status"], ready["message"]) == ("False", "spec.weight: '0': write a whole number from 1 to 1000")


def test_a_promise_that_shrank_is_shown_on_the_tenant() -> None:
    world = World(QuotaEngine.KERF, a_node(cards=1), a_tenant(guaranteed="2 cards"))

    world.until(lambda: bool(world.book().classes))

    (over,) = (
        c
        for c in world.kube.get("/apis/kerf.dev/v1alpha1/tenantquotas/team")["status"]["conditions"]
        if c["type"] == "Overcommitted"
    )
    assert over["status"] == "True"
    assert over["message"].startswith("promised 163,118 MiB of NVIDIA H100 80GB HBM3 and gets 81,559 MiB; ")


def test_kueues_books_stand_beside_the_ledger_and_the_difference_is_a_number() -> None:
    pod = a_pod("p", namespace="team", node="node-1", grant=a_grant("GPU-node-1-0", 8000, 0))
    world = World(QuotaEngine.KUEUE, a_node(), a_tenant(), pod, a_workload("w", 9000))

    world.until(lambda: bool(world.book().classes) and bool(world.book().classes[0].reserved))

    entry = world.book().classes[0]
    assert (entry.used.memory_mib, entry.reserved.memory_mib, entry.drift.memory_mib) == (8000, 9000, 1000)


def test_the_newest_borrower_of_a_tenant_that_evicts_goes_back_to_its_queue() -> None:
    old = a_workload("old", H100_MIB, since="2026-01-01T00:00:00Z")
    new = a_workload("new", H100_MIB, since="2026-01-02T00:00:00Z")
    world = World(QuotaEngine.KUEUE, a_node(cards=2), a_tenant(whenOver="evict"), old, new)
    world.until(lambda: bool(world.nominal("clusterqueues/team")))

    def active(name: str) -> bool:
        return bool(world.kube.get(f"{ROOT}/namespaces/team/workloads/{name}")["spec"]["active"])

    assert active("old")
    assert active("new")
    world.kube.put(a_node(cards=1))
    world.until(lambda: not active("new"))
    assert active("old")

    taken = world.kube.get(f"{ROOT}/namespaces/team/workloads/new")
    taken["status"] = {
        "conditions": [{"type": "Evicted", "status": "True"}, {"type": "QuotaReserved", "status": "False"}]
    }
    world.kube.put(taken)
    world.until(lambda: active("new"))
    assert (
        "kerf.dev/quota-evicted"
        not in world.kube.get(f"{ROOT}/namespaces/team/workloads/new")["metadata"]["annotations"]
    )


@pytest.mark.parametrize(("over", "evicted"), [("keep", []), ("evict", ["new"])])
def test_without_kueue_the_newest_pod_is_evicted_where_the_file_says_so(over: str, evicted: list[str]) -> None:
    def pod(name: str, card: int, created: str) -> dict[str, Any]:
        made = a_pod(name, namespace="team", node="node-1", grant=a_grant(f"GPU-node-1-{card}", H100_MIB, 100))
        made["metadata"]["creationTimestamp"] = created
        return made

    pods = (pod("old", 0, "2026-01-01T00:00:00Z"), pod("new", 1, "2026-01-02T00:00:00Z"))
    world = World(QuotaEngine.KERF, a_node(cards=2), a_tenant(whenOver=over), *pods)
    world.until(lambda: bool(world.book().classes))
    sick, well = cards_of("node-1", 1, health=SUSPECT), cards_of("node-1", 2)[1:]
    world.kube.put(a_node(cards=(*sick, *well)))

    for _ in range(3):
        world.now += 1.0
        world.see()
        world.controller.run_once()

    found = [path.split("/")[-2] for _, path in world.kube.writes if path.endswith("/eviction")]
    assert sorted(set(found)) == evicted


def test_raised_limits_wake_the_pods_that_wait() -> None:
    world = World(QuotaEngine.KERF, a_node(), a_tenant(guaranteed={"memory": 1}), a_pod("p", namespace="team"))
    world.until(lambda: bool(world.book().classes))

    world.kube.put(a_tenant(guaranteed={"memory": 9000}))

    world.until(lambda: "kerf.dev/plan" in world.kube.get("/api/v1/nodes/node-1")["metadata"]["annotations"])


def test_the_loop_ends_when_it_is_stopped() -> None:
    world = World(QuotaEngine.KERF, a_node(), a_tenant())
    stop = threading.Event()
    thread = threading.Thread(target=world.controller.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(5)

    assert not thread.is_alive()
