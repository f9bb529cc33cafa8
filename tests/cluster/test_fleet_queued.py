"""FleetWorkloads through MultiKueue: real Kueues hold them to a quota, and make them in the clusters of the plan."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.kube.client import connect, connect_to
from kerf.testing.builders import a_container, cards_of
from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import class_of
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.inventory import render_inventory
from kerfctl.main import main
from sandbox import (
    CONTROL_PLANE,
    Command,
    ControlPlane,
    Extender,
    FakeNode,
    await_until,
    ensure,
    free_ports,
    install_job_kinds,
    join_workers,
    run_directory,
    start_kueue,
)
from sandbox.crds import install_crds
from sandbox.stack import start_extender
from scheduler.clusters.dispatch import DISPATCHER, Dispatcher
from scheduler.clusters.workers import Books
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.state.store import Store
from tests.cluster.kueue_objects import KUEUE, a_cluster_queue, a_flavor, a_local_queue, create

pytestmark = pytest.mark.cluster
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"
WORKERS = {"near": ("owned", H100), "far": ("rented", A100)}
FLEET = {"lostAfterSeconds": 20, "staleAfterSeconds": 15, "backOffSeconds": 5, "moveSavingPercent": 100}
POLICY = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": {"fleet": FLEET}}
WORKLOADS = "/apis/kerf.dev/v1alpha1/namespaces/default/fleetworkloads"
PODS = "/api/v1/namespaces/default/pods"
GPU = "nvidia.com/gpu"


@dataclass
class Clusters:
    """A manager with quota for 12 cards of each class, and two workers with 8 cards each."""

    manager: ControlPlane
    workers: Mapping[str, ControlPlane]

    def pods(self, cluster: str) -> list[dict[str, Any]]:
        return [p for p in self.workers[cluster].api.get(PODS)["items"] if "deletionTimestamp" not in p["metadata"]]

    def bound(self) -> Counter[tuple[str, str]]:
        """Bound pods by cluster and workload."""
        return Counter(
            (cluster, pod["metadata"]["annotations"]["fleet.kerf.dev/workload"].partition("/")[2])
            for cluster in self.workers
            for pod in self.pods(cluster)
            if pod["spec"].get("nodeName")
        )

    def status(self, name: str) -> dict[str, Any]:
        return self.manager.api.get(f"{WORKLOADS}/{name}").get("status") or {}

    def chat(self, replicas: int) -> None:
        """So many replicas of the workload `chat`, of which near has some: as they are, or made from nothing."""
        item = next((i for i in self.manager.api.get(WORKLOADS)["items"] if i["metadata"]["name"] == "chat"), None)
        near = self.bound()["near", "chat"]
        if item is not None and near and item["spec"]["replicas"] == replicas == sum(self.bound().values()):
            return
        if item is not None:
            self.forget_chat()
        await_until(lambda: self.live() == set(WORKERS), "both clusters to take work")
        self.manager.api.post(WORKLOADS, a_workload("chat", replicas, accepts=[{"model": "H100"}, {"model": "A100"}]))
        self.await_bound(lambda: self.planned("chat"), replicas)

    def forget_chat(self) -> None:
        """Delete it, and wait until nothing of it is left."""
        self.manager.api.delete(f"{WORKLOADS}/chat")
        planes = (self.manager, *self.workers.values())
        await_until(lambda: not any(plane.api.get(PODS)["items"] for plane in planes), "the pods to go")
        await_until(lambda: not self.manager.api.get(f"{KUEUE}/workloads")["items"], "Kueue's workloads to go")

    def live(self) -> set[str]:
        clusters = self.manager.api.get("/apis/kerf.dev/v1alpha1/clusters")["items"]
        return {item["metadata"]["name"] for item in clusters if (item.get("status") or {}).get("phase") == "Live"}

    def planned(self, name: str) -> Counter[tuple[str, str]]:
        """What the manager has decided, by cluster and workload."""
        return Counter({(part["cluster"], name): part["replicas"] for part in self.status(name).get("assignments", ())})

    def await_bound(self, wanted: Callable[[], Counter[tuple[str, str]]], replicas: int, seconds: float = 240) -> None:
        """Wait until exactly what is wanted is bound, and that is so many replicas."""
        try:
            await_until(
                lambda: wanted().total() == replicas and self.bound() == wanted(), "replicas to be bound", seconds
            )
        except Exception as error:
            statuses = [item.get("status") for item in self.manager.api.get(f"{KUEUE}/workloads")["items"]]
            fleets = [item.get("status") for item in self.manager.api.get(WORKLOADS)["items"]]
            log = self.manager.supervisor.log("kerf-fleet").read_text()[-2000:]
            raise AssertionError((self.bound(), fleets, statuses, log)) from error


@pytest.fixture(scope="module")
def clusters(
    parts: Mapping[str, Path], kueue_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clusters]:
    programs = {**ensure((*CONTROL_PLANE, "kwok")), **parts, "kueue": kueue_program}
    policy = tmp_path_factory.mktemp("fleet") / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    with ExitStack() as stack:
        planes = [
            stack.enter_context(ControlPlane.start(stack.enter_context(run_directory()), programs)) for _ in range(3)
        ]
        found = Clusters(planes[0], dict(zip(WORKERS, planes[1:], strict=True)))
        install_crds(found.manager)
        for plane in planes:
            install_job_kinds(plane)
        start_kueue(found.manager, configuration={"multiKueue": {"dispatcherName": DISPATCHER}})
        for name, plane in found.workers.items():
            start_kueue(plane, configuration={"featureGates": {"ConcurrentAdmission": True}})
            start_worker(plane, name)
        for plane in planes:
            add_queue(plane, is_manager=plane is found.manager)
        join_workers(found.manager, found.workers)
        join_fleet(found, policy)
        stack.callback(start_dispatcher(found))
        yield found


def start_worker(plane: ControlPlane, name: str) -> None:
    plane.start_kwok()
    model = WORKERS[name][1]
    held = cards_of(name, 8, model=model)
    plenty = dict.fromkeys(NAMES[0].ignored, "2147483647")
    labels = {f"class.kerf.dev/{class_of(card).slug}": "true" for card in held}
    inventory = {"kerf.dev/inventory": render_inventory(held)}
    plane.add_fake_nodes([FakeNode(f"{name}-1", inventory, labels, {GPU: "80", **plenty})])
    (port,) = free_ports(1)
    start_extender(plane, port)
    plane.start_scheduler(Extender(f"http://127.0.0.1:{port}"))
    a_release(plane)


def a_release(plane: ControlPlane) -> None:
    """What the join reads of an installed chart."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kerf-system"}}
    plane.api.apply("/api/v1/namespaces/kerf-system", space)
    labels = {"app.kubernetes.io/version": version("kerf-gpu")}
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    body: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "kerf-scheduler", "namespace": "kerf-system", "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": pod},
    }
    plane.api.apply("/apis/apps/v1/namespaces/kerf-system/deployments/kerf-scheduler", body)


def slug(model: str) -> str:
    return class_of(cards_of("any", 1, model=model)[0]).slug


def add_queue(plane: ControlPlane, *, is_manager: bool) -> None:
    """A queue of both classes; the A100's flavor is the first everywhere, so that the order decides nothing."""
    slugs = [slug(A100), slug(H100)]
    check = {"admissionChecksStrategy": {"admissionChecks": [{"name": "multikueue"}]}} if is_manager else {}
    quota = {each: {"quota.kerf.dev/nvidia-cards": 12} for each in slugs}
    flavors = [a_flavor(each, **{f"class.kerf.dev/{each}": "true"}) for each in slugs]
    create(plane.api, *flavors, a_cluster_queue("team", quota, **check), a_local_queue("team", "team"))


def join_fleet(found: Clusters, policy: Path) -> None:
    words = ["fleet", "run", "--manager", str(found.manager.kubeconfig), "--policy", str(policy)]
    run = f"import sys; from kerfctl.main import main; sys.exit(main({words!r}))"
    found.manager.supervisor.launch(Command("kerf-fleet", (sys.executable, "-c", run)))
    for name, plane in found.workers.items():
        flags = ("--kubeconfig", str(plane.kubeconfig), "--supply", WORKERS[name][0])
        assert main(["cluster", "add", name, *flags, "--manager", str(found.manager.kubeconfig)]) == 0, name


def start_dispatcher(found: Clusters) -> Any:
    stop = threading.Event()
    loop = Dispatcher(
        connect(str(found.manager.kubeconfig)),
        books_for=lambda _: Books(store := Store(SchedulingPolicy(), VENDORS), QuotaKeeper(store)),
        connect=connect_to,
        honours_pin=True,
    )
    thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(10)

    return end


def a_workload(name: str, replicas: int, **spec: Any) -> dict[str, Any]:
    """Replicas of a whole card each. The webhook, which is not here, would write the totals that Kueue counts."""
    container = a_container(mem=80_000, cores=100)
    for amounts in container["resources"].values():
        amounts["quota.kerf.dev/nvidia-cards"] = "1"
    pod = {"schedulerName": "kerf-scheduler", "automountServiceAccountToken": False, "containers": [container]}
    return {
        "apiVersion": "kerf.dev/v1alpha1",
        "kind": "FleetWorkload",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "queue": "team", "template": {"spec": pod}, **spec},
    }


def test_replicas_go_through_the_queue_to_the_clusters_of_the_plan(clusters: Clusters):
    clusters.chat(10)

    await_until(lambda: clusters.status("chat").get("readyReplicas") == 10, "the status")
    here = clusters.manager.api.get(PODS)["items"]
    assert [pod["spec"].get("nodeName") for pod in here] == [None] * 10, "on the manager they stay gated"
    admitted = [item["status"] for item in clusters.manager.api.get(f"{KUEUE}/workloads")["items"]]
    classes = Counter(
        (each["clusterName"], flavor)
        for each in admitted
        for assigned in each["admission"]["podSetAssignments"]
        for flavor in assigned["flavors"].values()
    )
    planned = clusters.planned("chat")
    assert classes == {("near", slug(H100)): planned["near", "chat"], ("far", slug(A100)): planned["far", "chat"]}
    assert planned["near", "chat"] >= 2 <= planned["far", "chat"]


def test_fewer_replicas_are_fewer_pods_in_the_clusters(clusters: Clusters):
    clusters.chat(10)

    clusters.manager.api.patch(f"{WORKLOADS}/chat", {"spec": {"replicas": 7}})

    await_until(lambda: sum(clusters.bound().values()) == 7, "the others to go")
    assert clusters.status("chat")["conditions"][0]["status"] == "True"


def test_a_queue_cannot_change_and_one_that_is_missing_is_named(clusters: Clusters):
    if not clusters.bound():
        clusters.chat(7)
    with pytest.raises(Exception, match="queue cannot change"):
        clusters.manager.api.patch(f"{WORKLOADS}/chat", {"spec": {"queue": "other"}})
    clusters.manager.api.post(
        WORKLOADS, a_workload("lost", 1) | {"spec": {**a_workload("lost", 1)["spec"], "queue": "no"}}
    )

    await_until(lambda: bool(clusters.status("lost")), "its status")

    (said,) = clusters.status("lost")["conditions"]
    assert said["message"] == "spec.queue: the manager cluster has no LocalQueue default/no"
    clusters.manager.api.delete(f"{WORKLOADS}/lost")


def test_groups_are_leader_worker_sets_of_their_own_and_each_is_copied_whole(clusters: Clusters):
    """No LeaderWorkerSet controller is here: what MultiKueue copies is looked at, not pods."""
    sets = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets"
    clusters.manager.api.post(WORKLOADS, a_workload("gang", 2, groupSize=2, clusters=["far"]))

    await_until(lambda: len(clusters.workers["far"].api.get(sets)["items"]) == 2, "both groups in far")

    copies = clusters.workers["far"].api.get(sets)["items"]
    assert [each["spec"]["replicas"] for each in copies] == [1, 1]
    assert [each["spec"]["leaderWorkerTemplate"]["size"] for each in copies] == [2, 2]
    assert clusters.workers["near"].api.get(sets)["items"] == []
    clusters.manager.api.delete(f"{WORKLOADS}/gang")
    await_until(lambda: not clusters.workers["far"].api.get(sets)["items"], "both groups to go")


def test_a_lost_clusters_replicas_go_through_the_queue_elsewhere_and_its_old_ones_are_gone_once_it_is_back(
    clusters: Clusters,
):
    clusters.chat(7)
    near = clusters.workers["near"]
    old = {pod["metadata"]["uid"] for pod in clusters.pods("near")}

    near.kill("kube-apiserver")
    far = clusters.workers["far"]

    def bound_in_far() -> int:
        return sum(bool(p["spec"].get("nodeName")) for p in far.api.get(PODS)["items"])

    await_until(lambda: bound_in_far() == 7, "all replicas to be bound in far")
    near.restart("kube-apiserver")
    near.restart_controllers()
    await_until(lambda: not old & {p["metadata"]["uid"] for p in near.api.get(PODS)["items"]}, "the old ones to go")

    clusters.await_bound(lambda: Counter({("far", "chat"): 7}), 7)


def test_a_workload_that_is_deleted_leaves_nothing(clusters: Clusters):
    if not clusters.bound():
        clusters.chat(7)

    clusters.forget_chat()

    assert [plane.api.get(PODS)["items"] for plane in clusters.workers.values()] == [[], []]
