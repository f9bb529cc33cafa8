"""The hand-over to a vendor's own plugin: what Kerf publishes, locks and writes is what the plugin finds."""

from typing import Any

import pytest

from kerf.kube.errors import Conflict, Forbidden
from kerf.testing.builders import a_pod
from kerf.wire.extender import BindQuery
from scheduler.extender.node_locks import NodeLocks, Refusal
from tests.scheduler.extender.test_bind import raising
from tests.vendors.shop import Shop, a_vendor_node, asking, registered
from tests.vendors.stand_in import LOCK, PHASE, NothingToAllocate, StandIn

DCU = {"hygon.com/dcunum": 1, "hygon.com/dcumem": 1000, "hygon.com/dcucores": 10}
TO_ALLOCATE = "hami.io/dcu-devices-to-allocate"
POD = "/api/v1/namespaces/default/pods/{}"
NODE = "/api/v1/nodes/n"


class Hygon(Shop):
    """A node of two DCUs with a plugin on it."""

    def __init__(self) -> None:
        super().__init__(a_vendor_node(**{"hygon.com/dcunum": "8"}))
        self.plugin = StandIn(self.kube, "n", TO_ALLOCATE)
        devices = ({"id": f"DCU-{i}", "devmem": 32768, "type": "DCU-K100"} for i in range(2))
        self.plugin.register(**{"hami.io/node-dcu-register": registered(*devices)})
        self.store.feed.apply_node("MODIFIED", self.kube.get(NODE))

    def lock(self) -> str:
        return str(self.kube.get(NODE)["metadata"]["annotations"].get(LOCK) or "")


def test_the_plugin_serves_the_pod_that_was_bound_and_unlocks_the_node():
    shop = Hygon()
    shop.take(asking("first", **DCU))

    assert shop.plugin.allocate() == [("DCU-0", "DCU", 1000, 10)]
    assert shop.lock() == ""
    notes = shop.kube.get(POD.format("first"))["metadata"]["annotations"]
    assert (notes[PHASE], notes[TO_ALLOCATE]) == ("success", ";")
    assert notes["hami.io/dcu-devices-allocated"] == "DCU-0,DCU,1000,10:;"


def test_containers_are_served_in_their_order_and_those_without_devices_are_skipped():
    shop = Hygon()
    limits = {key: str(value) for key, value in DCU.items()}
    containers = [
        {"name": "a", "resources": {"limits": limits}},
        {"name": "plain"},
        {"name": "b", "resources": {"limits": {**limits, "hygon.com/dcumem": "2000"}}},
    ]

    shop.take(a_pod("three", containers=containers))

    written = shop.kube.get(POD.format("three"))["metadata"]["annotations"][TO_ALLOCATE]
    assert written == "DCU-0,DCU,1000,10:;;DCU-0,DCU,2000,10:;"
    assert [shop.plugin.allocate()[0][2] for _ in range(2)] == [1000, 2000]
    with pytest.raises(NothingToAllocate):
        shop.plugin.allocate()


def test_pods_follow_each_other_as_the_plugin_serves_them():
    shop = Hygon()

    for number in range(4):
        assert shop.take(asking(f"p{number}", **DCU)).slices
        assert shop.take(asking(f"early-{number}", **DCU)).misfit
        shop.plugin.allocate()
        shop.store.feed.apply_pod("DELETED", {"metadata": {"uid": f"uid-default-early-{number}"}, "spec": {}})


def test_a_bind_that_is_refused_gives_the_lock_back_and_holds_nothing():
    shop = Hygon()
    shop.kube.fail = raising(Forbidden(403, "Forbidden", "no"))

    got = shop.take(asking("first", **DCU))

    assert "refused the binding" in got.misfit
    assert shop.lock() == ""
    assert all(state.used.slots == 0 for state in shop.store.desk.state("n").cards)


def test_a_node_that_cannot_be_locked_binds_nothing():
    shop = Hygon()
    shop.kube.fail = raising(Forbidden(403, "Forbidden", "no"), method="PATCH")

    got = shop.take(asking("first", **DCU))

    assert "cannot be locked" in got.misfit
    assert "nodeName" not in shop.kube.get(POD.format("first"))["spec"]
    assert all(state.used.slots == 0 for state in shop.store.desk.state("n").cards)


@pytest.mark.parametrize(
    ("pod", "age", "taken"),
    [
        pytest.param(None, 10, True, id="its pod is gone"),
        pytest.param({"phase": "Pending"}, 10, False, id="its pod waits for the plugin"),
        pytest.param({"phase": "Running"}, 10, True, id="its pod was served"),
        pytest.param({"phase": "Failed"}, 10, True, id="its pod has failed"),
        pytest.param({"phase": "Pending"}, 299, False, id="just not too old"),
        pytest.param({"phase": "Pending"}, 301, True, id="too old"),
    ],
)
def test_a_forgotten_lock_is_taken_over(pod: dict[str, Any] | None, age: int, taken: bool):
    shop = Hygon()
    shop.kube.patch(NODE, {"metadata": {"annotations": {LOCK: "2026-11-27T12:00:00Z,default,old"}}})
    if pod is not None:
        shop.kube.put({**a_pod("old", node="n"), "status": pod})
    locks = NodeLocks(shop.kube, clock=lambda: 1_795_780_800.0 + age)

    found = locks.take(LOCK, BindQuery("default", "new", "uid", "n"))

    assert isinstance(found, str) is taken
    assert shop.lock().endswith("default,new" if taken else "default,old")


@pytest.mark.parametrize("stamp", ["2026-11-27T13:00:00+01:00", "2026-11-27T07:00:00-05:00", "2026-11-27T12:00:00Z"])
def test_locks_of_other_writers_have_times_of_any_zone(stamp: str):
    shop = Hygon()
    shop.kube.patch(NODE, {"metadata": {"annotations": {LOCK: f"{stamp},default,old"}}})
    shop.kube.put(a_pod("old", node="n", phase="Pending"))

    assert isinstance(
        NodeLocks(shop.kube, clock=lambda: 1_795_780_800.0 + 299).take(LOCK, BindQuery("default", "new", "uid", "n")),
        Refusal,
    )


def test_of_two_that_lock_at_once_one_is_refused():
    shop = Hygon()
    shop.kube.fail = raising(Conflict(409, "Conflict", "the object has been modified"), method="PATCH")

    assert "changed while it was being locked" in shop.take(asking("first", **DCU)).misfit


def test_a_pod_with_cards_of_two_vendors_is_served_by_both_plugins():
    cards = registered({"id": "DCU-0", "devmem": 32768, "type": "DCU-K100"})
    node = a_vendor_node(
        annotations={"hami.io/node-dcu-register": cards}, **{"hygon.com/dcunum": "4", "metax-tech.com/gpu": "1"}
    )
    shop = Shop(node)
    limits = {**{key: str(value) for key, value in DCU.items()}, "metax-tech.com/gpu": "1"}

    got = shop.take(a_pod(containers=[{"name": "main", "resources": {"limits": limits}}]))

    assert sorted(card for card, *_ in got.slices) == ["DCU-0", "n-metax-0"]
    assert got.notes[TO_ALLOCATE] == "DCU-0,DCU,1000,10:;"
    assert got.notes["hami.io/metax-gpu-devices-to-allocate"] == "n-metax-0,Metax-GPU,65536,100:;"


def test_what_hami_has_bound_is_counted_until_it_ends():
    shop = Hygon()
    record = {"hami.io/vgpu-node": "n", "hami.io/dcu-devices-allocated": "DCU-0,DCU,30000,90:;"}
    limits = {"hygon.com/dcunum": "1"}
    pod = a_pod("old", containers=[{"name": "main", "resources": {"limits": limits}}], annotations=record, node="n")

    shop.store.feed.apply_pod("ADDED", pod)

    assert [state.used.memory_mib for state in shop.store.desk.state("n").cards] == [30000, 0]


def test_nobody_else_may_write_what_a_plugin_obeys():
    forged = {
        "mthreads.com/gpu-index": "0",
        "AWS_NEURON_IDS": "0",
        "hami.io/dcu-devices-to-allocate": "DCU-1,DCU,1,1:;",
    }

    got = Hygon().take(asking("first", forged, **DCU))

    assert got.slices == [("DCU-0", "hygon", 1000, 10)]
    assert not {"mthreads.com/gpu-index", "AWS_NEURON_IDS"} & set(got.stored["metadata"]["annotations"])
    assert len(got.warnings) == 3
