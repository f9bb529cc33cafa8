"""The fit check on a fake API server: Ready with places, Retry with the explanation, Rejected for ever."""

import time
from collections.abc import Callable
from typing import Any

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_container, a_node, a_pod_ask, an_ask
from kerf.testing.fake_kube import FakeKube
from kerf.values.grant import Grant
from kerf.values.policy import QuotaEngine, QuotaSettings, SchedulingPolicy
from kerf.vendors.registry import NAMES, VENDORS
from scheduler.kueue.fit_check import FitCheck
from scheduler.metrics import QuotaMetrics
from scheduler.state.store import Store
from tests.scheduler.quota.tenants import SLUG

VERSION = "kueue.x-k8s.io/v1beta2"
CHECK = {
    "apiVersion": VERSION,
    "kind": "AdmissionCheck",
    "metadata": {"name": "kerf-gpu-fit", "generation": 2},
    "spec": {"controllerName": "kerf.dev/gpu-fit"},
}


class World:
    def __init__(self, *objects: dict[str, Any], cards: int = 1) -> None:
        node = a_node(cards=cards)
        node["metadata"]["labels"][f"class.kerf.dev/{SLUG}"] = "true"
        self.kube = FakeKube(*objects)
        self.store = Store(SchedulingPolicy(quota=QuotaSettings(QuotaEngine.KUEUE)), VENDORS)
        self.store.feed.apply_node("ADDED", node)
        self.now = 0.0
        self.check = FitCheck(self.store, self.kube, QuotaMetrics.build(Metrics()), clock=lambda: self.now)
        self.check._workloads.start()
        self.check._checks.start()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            if self.seen() == self.check._workloads.items():
                self.now += 1.0
                self.check.run_once()

    def seen(self) -> list[dict[str, Any]]:
        """The workloads as the API server has them."""
        found, _ = self.kube.list(f"/apis/{VERSION}/workloads")
        return [{"kind": "Workload", **item} for item in sorted(found, key=lambda item: item["metadata"]["name"])]

    def answer(self, name: str) -> dict[str, Any]:
        checks = self.kube.get(path(name))["status"]["admissionChecks"]
        return {key: value for key, value in checks[0].items() if key != "lastTransitionTime"}

    def used_mib(self) -> int:
        return sum(use.memory_mib for tenant in self.store.ledger.bookings() for use in tenant.uses.values())

    def state(self, name: str) -> str:
        return str(self.answer(name)["state"])


def path(name: str) -> str:
    return f"/apis/{VERSION}/namespaces/team/workloads/{name}"


def a_workload(name: str, mib: int = 60_000, count: int = 1, *, retries: int = 0, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {}, "spec": {"containers": [a_container(mem=mib, cores=0)], **spec}}
    reserved = {"type": "QuotaReserved", "status": "True", "lastTransitionTime": f"2026-01-01T00:00:0{name[-1]}Z"}
    assignment = {"name": "main", "count": count, "flavors": {NAMES[0].quota[0]: SLUG}}
    return {
        "apiVersion": VERSION,
        "kind": "Workload",
        "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}"},
        "spec": {"podSets": [{"name": "main", "count": count, "template": template}]},
        "status": {
            "admission": {"podSetAssignments": [assignment]},
            "conditions": [reserved],
            "admissionChecks": [{"name": "kerf-gpu-fit", "state": "Pending", "message": "", "retryCount": retries}],
        },
    }


def test_the_check_says_that_it_is_there() -> None:
    world = World(CHECK)

    world.until(lambda: "status" in world.kube.get(f"/apis/{VERSION}/admissionchecks/kerf-gpu-fit"))

    (active,) = world.kube.get(f"/apis/{VERSION}/admissionchecks/kerf-gpu-fit")["status"]["conditions"]
    assert (active["type"], active["status"], active["observedGeneration"]) == ("Active", "True", 2)


def test_a_workload_that_fits_is_ready_and_its_pods_learn_whose_they_are() -> None:
    world = World(a_workload("w1"))

    world.until(lambda: world.state("w1") == "Ready")

    assert world.answer("w1") == {
        "name": "kerf-gpu-fit",
        "state": "Ready",
        "message": "1 place is held",
        "podSetUpdates": [{"name": "main", "annotations": {"kerf.dev/admission": "uid-w1"}}],
    }
    assert world.used_mib() == 60_000


def test_whole_cards_are_placed_before_slices_that_fit_beside_others() -> None:
    workload = a_workload("w1", mib=30_000, count=2)
    leader = {"metadata": {}, "spec": {"containers": [a_container(mem=None, cores=100)]}}
    workload["spec"]["podSets"].append({"name": "leader", "count": 1, "template": leader})
    flavors = {NAMES[0].quota[0]: SLUG}
    workload["status"]["admission"]["podSetAssignments"].append({"name": "leader", "count": 1, "flavors": flavors})
    world = World(workload, cards=2)

    members, _, _ = world.check._members(workload)

    assert [member.ask.containers[0].memory_mib for member in members] == [None, 30_000, 30_000]


def test_the_second_workload_for_one_hole_gets_the_numbers_and_let_in_once_the_first_is_gone() -> None:
    world = World(a_workload("w1"), a_workload("w2", retries=3))

    world.until(lambda: bool(world.answer("w2")["message"]))

    assert world.state("w1") == "Ready"
    assert world.state("w2") == "Pending"
    assert "best node node-1 has 21,559 MiB free" in world.answer("w2")["message"]
    world.kube.remove(path("w1"))
    world.until(lambda: world.state("w2") == "Ready")


def test_an_answer_that_kueue_does_not_show_is_given_again_without_a_second_place() -> None:
    world = World(a_workload("w1"))
    world.until(lambda: world.state("w1") == "Ready")
    ask = a_pod_ask("pod", an_ask(memory_mib=60_000, cores=0), namespace="team", admission="uid-w1")
    assert isinstance(world.store.desk.assume(ask, "node-1", ()), Grant)

    world.kube.put(a_workload("w1"))
    world.until(lambda: world.state("w1") == "Ready")

    assert world.store.desk._live.places.nodes(ask) == []
    assert world.used_mib() == 60_000


def test_a_workload_that_was_taken_back_and_got_quota_again_is_answered_again() -> None:
    world = World(a_workload("w1"))
    world.until(lambda: world.state("w1") == "Ready")
    again = a_workload("w1", mib=50_000)
    again["status"]["conditions"][0]["lastTransitionTime"] = "2026-01-01T00:01:00Z"

    world.kube.put(again)
    world.until(lambda: world.state("w1") == "Ready")

    assert world.used_mib() == 50_000


def test_a_workload_that_waits_too_long_gives_its_quota_to_others() -> None:
    world = World(a_workload("w1"), a_workload("w2"))
    world.until(lambda: bool(world.answer("w2")["message"]))
    told = world.now

    world.until(lambda: world.state("w2") == "Retry")

    assert world.now - told == 1.0  # 2 ** 0 retries seconds
    assert "requeueAfterSeconds" not in world.answer("w2")


def test_what_no_card_could_ever_hold_is_rejected() -> None:
    world = World(a_workload("w1", mib=100_000))

    world.until(lambda: world.state("w1") == "Rejected")


def test_a_template_that_cannot_be_read_is_rejected_by_its_field() -> None:
    world = World(a_workload("w1", containers=[a_container(mem="lots")]))

    world.until(lambda: world.state("w1") == "Rejected")

    assert world.answer("w1")["message"].startswith("spec.containers[main].resources.limits[nvidia.com/gpumem]: 'lots'")


def test_node_selectors_of_the_template_are_honoured() -> None:
    world = World(a_workload("w1", nodeSelector={"zone": "b"}))

    world.until(lambda: bool(world.answer("w1")["message"]))

    assert "node selector" in world.answer("w1")["message"]


def test_workloads_that_are_over_give_their_places_back() -> None:
    world = World(a_workload("w1"))
    world.until(lambda: world.state("w1") == "Ready")

    done = world.kube.get(path("w1"))
    done["status"]["conditions"].append({"type": "Finished", "status": "True"})
    world.kube.put(done)

    world.until(lambda: world.used_mib() == 0)


def test_a_workload_without_cards_is_ready_at_once() -> None:
    world = World(a_workload("w1", containers=[{"name": "main"}]))

    world.until(lambda: world.state("w1") == "Ready")

    assert world.answer("w1")["podSetUpdates"] == []
