"""Three real API servers under one manager: joined by the CLI, planned together, one lost and found again."""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.core.offered import NodeView, offered
from kerf.testing.builders import cards_of
from kerf.values.allocator import Allocator
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.inventory import render_inventory
from kerf.wire.objects import parse_holding
from kerf.wire.resourceslices import numbered, render_pool
from kerfctl.main import main
from sandbox import (
    CONTROL_PLANE,
    ApiError,
    Command,
    ControlPlane,
    Extender,
    FakeNode,
    SandboxError,
    await_until,
    ensure,
    free_ports,
    install_job_kinds,
    run_directory,
)
from sandbox.crds import install_crds
from sandbox.stack import start_extender
from scheduler.fleet.rights import RULES
from tests.chart.helm import render
from tests.cluster.dra_world import RESOURCE, claim_spec
from tests.scheduler.fleet.sixty import FLEETS, H100, L40S, MIB, SIXTY, WANTED, a_workload, least_of_sixty, price_of

pytestmark = pytest.mark.cluster
LOST_S = 20
POLICY = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "SchedulingPolicy",
    "spec": {
        "fleet": {"lostAfterSeconds": LOST_S, "staleAfterSeconds": 15, "backOffSeconds": 5, "moveSavingPercent": 100}
    },
}
WORKLOADS = "/apis/kerf.dev/v1alpha1/namespaces/default/fleetworkloads"
PODS = "/api/v1/namespaces/default/pods"
GROUPS = "leaderworkerset.sigs.k8s.io"
CLUSTERS = "/apis/kerf.dev/v1alpha1/clusters"
USER = "system:serviceaccount:kerf-system:kerf-fleet"


@dataclass
class Fleet:
    planes: Mapping[str, ControlPlane]
    files: Path

    @property
    def home(self) -> ControlPlane:
        return self.planes["north"]

    def status(self, name: str) -> dict[str, Any]:
        return self.home.api.get(f"{WORKLOADS}/{name}").get("status") or {}

    def record(self, name: str) -> dict[str, Any]:
        return self.home.api.get(f"{CLUSTERS}/{name}").get("status") or {}

    def pods(self, cluster: str) -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.planes[cluster].api.get("/api/v1/namespaces/default/pods")["items"]
            if "fleet.kerf.dev/epoch" in pod["metadata"].get("labels", {})
        ]

    def bound(self, *clusters: str) -> Counter[str]:
        """Bound pods by workload, counted at the API servers."""
        return Counter(
            pod["metadata"]["annotations"]["fleet.kerf.dev/workload"].split("/")[1]
            for cluster in clusters or self.planes
            for pod in self.pods(cluster)
            if pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp")
        )


@pytest.fixture(scope="module")
def fleet(parts: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    programs = {**ensure((*CONTROL_PLANE, "kwok")), **parts}
    with ExitStack() as stack:
        planes = {}
        for name in FLEETS:
            run_dir = stack.enter_context(run_directory())
            planes[name] = stack.enter_context(ControlPlane.start(run_dir, programs, audit=True))
        found = Fleet(planes, tmp_path_factory.mktemp("fleet"))
        for name, plane in planes.items():
            install_crds(plane)
            plane.start_kwok()
            plane.add_fake_nodes([a_node(f"{name}-{i}", *kind) for i, kind in enumerate(FLEETS[name][2])])
            write_snapshot(found, name)
            (port,) = free_ports(1)
            start_extender(plane, port)
            plane.start_scheduler(Extender(f"http://127.0.0.1:{port}"))
        (found.files / "policy.yaml").write_text(yaml.safe_dump(POLICY))
        found.home.supervisor.launch(manager_of(found))
        yield found


def manager_of(fleet: Fleet) -> Command:
    words = ["fleet", "run", "--manager", str(fleet.home.kubeconfig), "--policy", str(fleet.files / "policy.yaml")]
    run = f"import sys; from kerfctl.main import main; sys.exit(main({words!r}))"
    return Command("kerf-fleet", (sys.executable, "-c", run))


def a_node(name: str, model: str, cards: int) -> FakeNode:
    held = cards_of(name, cards, model=model, memory_mib=MIB[model])
    plenty = dict.fromkeys(NAMES[0].ignored, "2147483647")
    return FakeNode(
        name, {"kerf.dev/inventory": render_inventory(held)}, {}, {"nvidia.com/gpu": str(10 * cards), **plenty}
    )


def write_snapshot(fleet: Fleet, name: str) -> None:
    """The cluster as `kerf simulate --clusters` reads it."""
    region, supply, _ = FLEETS[name]
    spec = {"region": region, "supply": supply}
    cluster = {"apiVersion": "kerf.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec}
    nodes = [{"kind": "Node", "apiVersion": "v1", **n} for n in fleet.planes[name].api.get("/api/v1/nodes")["items"]]
    (fleet.files / "clusters").mkdir(exist_ok=True)
    (fleet.files / "clusters" / f"{name}.json").write_text(json.dumps({"kind": "List", "items": [cluster, *nodes]}))


def await_bound(fleet: Fleet, wanted: Mapping[str, int], *clusters: str) -> None:
    """Wait until so many replicas of each workload are bound in these clusters, by default in all."""
    try:
        await_until(lambda: fleet.bound(*clusters) == wanted, "replicas to be bound")
    except SandboxError:
        assert fleet.bound(*clusters) == wanted, {name: fleet.status(name) for name in wanted}


@pytest.fixture(scope="module")
def joined(fleet: Fleet) -> Mapping[str, tuple[int, str]]:
    """The three clusters have joined; what each join said."""
    return {name: join(fleet, name) for name in FLEETS}


def join(fleet: Fleet, name: str) -> tuple[int, str]:
    """The exit status of `kerf cluster add`, and its output."""
    region, supply, _ = FLEETS[name]
    flags = ("--kubeconfig", str(fleet.planes[name].kubeconfig), "--region", region, "--supply", supply)
    a_release(fleet.planes[name])
    with redirect_stdout(StringIO()) as out:
        status = main(["cluster", "add", name, *flags, "--manager", str(fleet.home.kubeconfig)])
    return status, out.getvalue()


@dataclass(frozen=True)
class Bound:
    """What the sixty replicas came to when they were bound for the first time."""

    placed: float
    listed: float
    by_cluster: Mapping[str, Counter[str]]


@pytest.fixture(scope="module")
def bound(fleet: Fleet, joined: Mapping[str, tuple[int, str]]) -> Bound:
    """The sixty replicas are asked for, all in one plan, and bound."""
    fleet.home.kill("kerf-fleet", signal.SIGSTOP)
    for workload in SIXTY:
        fleet.home.api.post(WORKLOADS, workload)
    fleet.home.kill("kerf-fleet", signal.SIGCONT)
    await_bound(fleet, WANTED)
    return Bound(placed_cost(fleet), listed_cost(fleet), {name: fleet.bound(name) for name in FLEETS})


def test_three_clusters_join_with_least_rights_and_are_usable(fleet: Fleet, joined: Mapping[str, tuple[int, str]]):
    said = joined

    assert {name: status for name, (status, _) in said.items()} == dict.fromkeys(FLEETS, 0)
    assert said["rented"][1].splitlines()[-1] == (f"rented is Live, epoch 1; usable: 8 x {H100}, 16 x {L40S}")
    secrets = [fleet.home.api.get(f"/api/v1/namespaces/kerf-system/secrets/kerf-cluster-{n}")["data"] for n in FLEETS]
    assert not any(secret["kubeconfig"] in out for secret in secrets for _, out in said.values())


def a_release(plane: ControlPlane) -> None:
    """What the join reads of an installed chart."""
    from importlib.metadata import version

    labels = {"app.kubernetes.io/version": version("kerf-gpu")}
    body: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "kerf-scheduler", "namespace": "kerf-system", "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}},
        },
    }
    plane.api.apply(
        "/api/v1/namespaces/kerf-system", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kerf-system"}}
    )
    plane.api.apply("/apis/apps/v1/namespaces/kerf-system/deployments/kerf-scheduler", body)


def test_sixty_replicas_of_five_workloads_are_bound_within_their_rules_and_the_plan_for_them_is_proven(
    fleet: Fleet, bound: Bound, capsys: pytest.CaptureFixture[str]
):
    (fleet.files / "workloads.json").write_text(json.dumps({"kind": "List", "items": list(SIXTY)}))
    main(["simulate", str(fleet.files / "workloads.json"), "--clusters", str(fleet.files / "clusters"), "--json"])
    plan = json.loads(capsys.readouterr().out)["plans"][0]

    assert plan["gap"] == 0.0
    assert plan["unplaced"] == {}
    least = least_of_sixty()
    said = f"{bound.placed} placed, {bound.listed} listed, {plan['costPerHour']} planned, {least} at least"
    print(f"an hour: {said}", file=sys.stderr)
    assert plan["costPerHour"] == least
    assert bound.placed == least
    assert max(there["rerank"] for there in bound.by_cluster.values()) <= 6
    assert 12 - max(there["vision"] for there in bound.by_cluster.values()) >= 4


def placed_cost(fleet: Fleet) -> float:
    """What the cards cost an hour of which pods hold anything, by the bindings at the three API servers."""
    total = 0.0
    for name, plane in fleet.planes.items():
        held = [parse_holding(pod, VENDORS) for pod in plane.api.get("/api/v1/pods")["items"]]
        cards = {piece.card for one in held if one for part in one.grant.containers for piece in part.slices}
        total += cost_of(name, cards)
    return round(total, 4)


def listed_cost(fleet: Fleet) -> float:
    """What the cards cost an hour that the manager lists in the three clusters."""
    total = 0.0
    for name, plane in fleet.planes.items():
        lists = plane.api.get("/apis/kerf.dev/v1alpha1/fleetplaces")["items"]
        total += cost_of(name, {card for each in lists for place in each["spec"]["places"] for card in place["cards"]})
    return round(total, 4)


def cost_of(cluster: str, cards: set[str]) -> float:
    models = {f"GPU-{cluster}-{i}": model for i, (model, _) in enumerate(FLEETS[cluster][2])}
    return sum(price_of(models[card.rpartition("-")[0]], cluster) for card in cards)


def assigned(fleet: Fleet) -> dict[tuple[str, str, str], int]:
    return {
        (f"default/{item['metadata']['name']}", part["cluster"], part["model"]): part["replicas"]
        for item in fleet.home.api.get(WORKLOADS)["items"]
        for part in item["status"]["assignments"]
    }


@dataclass(frozen=True)
class Found:
    """A cluster that was lost and found again."""

    moved_s: float
    gone_s: float
    epochs: tuple[int, int]


@pytest.fixture(scope="module")
def found(fleet: Fleet, bound: Bound) -> Found:
    """A cluster with replicas is stopped until they run elsewhere, and started again."""
    await_bound(fleet, WANTED)
    lost = next(name for name in ("south", "rented") if fleet.bound(name))
    plane, others = fleet.planes[lost], [name for name in FLEETS if name != lost]
    there, epoch = fleet.bound(lost), fleet.record(lost)["epoch"]
    for name in there:
        plane.api.post("/api/v1/namespaces/default/services", a_service(name))
    await_until(lambda: endpoints(plane, *there) == sum(there.values()), "the old replicas to get traffic")
    await_until(lambda: all(fleet.status(n).get("readyReplicas") == WANTED[n] for n in WANTED), "all to be ready")

    plane.kill("kube-apiserver")
    stopped = time.monotonic()
    await_bound(fleet, WANTED, *others)
    moved_s = time.monotonic() - stopped

    def old() -> list[dict[str, Any]]:
        return [pod for pod in fleet.pods(lost) if pod["metadata"]["labels"]["fleet.kerf.dev/epoch"] == str(epoch)]

    plane.restart("kube-apiserver")
    await_until(lambda: fleet.record(lost)["phase"] in ("Returned", "Resting", "Live"), "first contact")
    contact = time.monotonic()
    await_until(lambda: all(p["metadata"].get("deletionTimestamp") for p in old()), "their deletion")
    gone_s = time.monotonic() - contact
    plane.restart_controllers()
    await_until(lambda: endpoints(plane, *there) == 0, "the old replicas to get no traffic")
    await_until(lambda: not old(), "the old replicas to be gone")
    await_bound(fleet, WANTED)
    await_until(lambda: fleet.record(lost)["phase"] == "Live", "its back-off to end")
    return Found(moved_s, gone_s, (epoch, fleet.record(lost)["epoch"]))


def test_a_lost_clusters_replicas_are_bound_elsewhere_and_its_old_ones_get_no_traffic_once_it_is_back(found: Found):
    print(
        f"bound elsewhere after {found.moved_s:.1f} s, gone {found.gone_s:.1f} s after first contact", file=sys.stderr
    )

    assert found.moved_s <= LOST_S + 30
    assert found.gone_s <= 10
    assert found.epochs[1] == found.epochs[0] + 1


def a_service(name: str) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def endpoints(plane: ControlPlane, *services: str) -> int:
    """Endpoints that are ready, over the services."""
    slices = plane.api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices")["items"]
    return sum(
        bool(each.get("conditions", {}).get("ready"))
        for item in slices
        if item["metadata"]["labels"].get("kubernetes.io/service-name") in services
        for each in item.get("endpoints") or ()
    )


def test_the_manager_may_be_killed_at_any_moment_and_goes_on_where_it_was(fleet: Fleet, bound: Bound):
    """Each change is followed by a kill after another while: before, in and after the write of the plan."""
    await_bound(fleet, WANTED)
    before = assigned(fleet)
    for replicas, lives_s in ((12, 0.0), (9, 0.4), (11, 1.0), (12, 2.0)):
        fleet.home.api.patch(f"{WORKLOADS}/rerank", {"spec": {"replicas": replicas}})
        time.sleep(lives_s)  # the moment of the kill is what is tried; nothing is waited for
        fleet.home.supervisor.kill("kerf-fleet")
        fleet.home.supervisor.restart("kerf-fleet")
    await_bound(fleet, {**WANTED, "rerank": 12})

    after = assigned(fleet)
    fleet.home.api.patch(f"{WORKLOADS}/rerank", {"spec": {"replicas": WANTED["rerank"]}})
    await_bound(fleet, WANTED)

    assert sum(after.values()) == sum(before.values()) + 2
    assert {name: fleet.record(name)["phase"] for name in FLEETS} == dict.fromkeys(FLEETS, "Live")


def test_no_card_holds_more_than_it_has(fleet: Fleet, bound: Bound):
    cards = 0
    for name, plane in fleet.planes.items():
        used: Counter[str] = Counter()
        for pod in plane.api.get("/api/v1/pods")["items"]:
            held = parse_holding(pod, VENDORS)
            for container in held.grant.containers if held else ():
                for piece in container.slices:
                    used[piece.card] += piece.memory_mib
        sizes = {f"GPU-{name}-{i}": MIB[model] for i, (model, _) in enumerate(FLEETS[name][2])}
        assert {card: mib for card, mib in used.items() if mib > sizes[card.rpartition("-")[0]]} == {}
        cards += len(used)
    assert cards > 0


def test_a_group_is_bound_on_the_cards_of_the_plan_and_comes_as_a_whole(fleet: Fleet, bound: Bound):
    """No LeaderWorkerSet controller is here: the test makes the pods that it makes."""
    south = fleet.planes["south"]
    sets = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets"
    install_job_kinds(south)
    fleet.home.api.post(WORKLOADS, a_workload("gang", 1, 30_000, 40, groupSize=2, clusters=["south"]))
    await_until(lambda: south.api.get(sets)["items"], "the group's set")
    (made,) = south.api.get(sets)["items"]
    listed = south.api.get(f"/apis/kerf.dev/v1alpha1/namespaces/default/fleetplaces/{made['metadata']['name']}")

    first, second = (one_of_group(made, i) for i in range(2))
    south.api.post(PODS, first)
    south.api.post(PODS, second)
    await_until(lambda: fleet.bound("south")["gang"] == 2, "both of its pods to be bound")

    held = [parse_holding(p, VENDORS) for p in fleet.pods("south") if p["metadata"]["name"].startswith("gang-")]
    cards = Counter(piece.card for one in held if one for part in one.grant.containers for piece in part.slices)
    assert cards == Counter({card: each["pods"] for each in listed["spec"]["places"] for card in each["cards"]})
    fleet.home.api.delete(f"{WORKLOADS}/gang")
    await_until(lambda: not south.api.get(sets)["items"], "the set to go")
    for pod in (first, second):
        south.api.remove(f"{PODS}/{pod['metadata']['name']}", grace_seconds=0)
    await_until(lambda: not fleet.bound("south")["gang"], "its pods to go")


def one_of_group(made: dict[str, Any], i: int) -> dict[str, Any]:
    template, name = made["spec"]["leaderWorkerTemplate"]["workerTemplate"], made["metadata"]["name"]
    labels = {f"{GROUPS}/name": name, f"{GROUPS}/group-index": "0", f"{GROUPS}/worker-index": str(i)}
    notes = {**template["metadata"]["annotations"], f"{GROUPS}/size": "2"}
    meta = {"name": f"{name}-0-{i}", "labels": {**template["metadata"]["labels"], **labels}, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


def test_replicas_that_ask_by_claims_get_devices_of_the_cards_that_are_given_to_claims(
    fleet: Fleet, bound: Bound, capsys: pytest.CaptureFixture[str]
):
    south, templates = fleet.planes["south"], f"{RESOURCE}/namespaces/default/resourceclaimtemplates"
    give_cards_to_claims(south)
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "third"}}
    fleet.home.api.post(templates, {**kind, "spec": {"spec": claim_spec(memory="26000Mi", cores="30")}})
    container = {"name": "main", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}
    pod = {
        "schedulerName": "kerf-scheduler",
        "automountServiceAccountToken": False,
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "third"}],
        "containers": [container],
    }
    workload = a_workload("claims", 5, 0, 0)
    workload["spec"]["template"]["spec"] = pod
    fleet.home.api.post(WORKLOADS, workload)
    await_until(lambda: fleet.bound()["claims"] == 5, "the pods to be bound")

    claims = [each for each in south.api.get(f"{RESOURCE}/resourceclaims")["items"] if each.get("status")]
    given = Counter(
        (found["driver"], found["pool"], found["device"], found["consumedCapacity"]["memory"])
        for each in claims
        for found in each["status"]["allocation"]["devices"]["results"]
    )
    assert {pool for _, pool, *_ in given} == {"claims-1"}
    assert sorted(given.values()) == [2, 3]
    assert main(["cluster", "plan", "claims", "--manager", str(fleet.home.kubeconfig)]) == 0
    assert "~ default/claims: Kubernetes' allocator chooses the devices of claims" in capsys.readouterr().out
    fleet.home.api.delete(f"{WORKLOADS}/claims")
    await_until(lambda: not south.api.get(f"{RESOURCE}/resourceclaims")["items"], "its claims to go")
    await_until(lambda: not south.api.get(templates)["items"], "its templates to go")
    south.api.remove("/api/v1/nodes/claims-1")


def give_cards_to_claims(plane: ControlPlane) -> None:
    """A node whose device plugin has published two cards for claims, and the chart's classes."""
    cards = cards_of("claims-1", 2, model=H100, memory_mib=MIB[H100], allocator=Allocator.DRA)
    plane.add_fake_nodes([FakeNode("claims-1", {"kerf.dev/inventory": render_inventory(cards)})])
    uid = plane.api.get("/api/v1/nodes/claims-1")["metadata"]["uid"]
    for item in numbered(
        render_pool("claims-1", uid, offered(cards, {}, NodeView(), SchedulingPolicy()), shares=True), 1
    ):
        plane.api.post(f"{RESOURCE}/resourceslices", item)
    for item in render("dra.enabled=true"):
        if item["kind"] == "DeviceClass":
            plane.api.post(f"{RESOURCE}/deviceclasses", item)


def test_the_managers_rights_are_what_it_uses_and_no_more(fleet: Fleet, found: Found):
    granted = {(verb, r["apiGroups"][0], res) for r in RULES for res in r["resources"] for verb in r["verbs"]}
    calls = {call for plane in fleet.planes.values() for call in plane.calls_by(USER)}
    used = {(call.verb, call.group, call.resource) for call in calls if call.allowed}
    denied = {(call.verb, call.group, call.resource) for call in calls if not call.allowed}

    # An API server that has just started refuses what it has not read the roles for yet.
    assert denied <= used
    unused_here = (
        {(verb, "leaderworkerset.x-k8s.io", "leaderworkersets") for verb in ("create", "patch", "delete")}
        | {("create", "", "namespaces"), ("create", "apps", "deployments")}  # an apply is a patch in the audit log
        | {(verb, "resource.k8s.io", "resourceclaimtemplates") for verb in ("create", "patch", "delete")}
        | {("create", "kerf.dev", "fleetplaces")}
        | {(verb, "kerf.dev", "tenantquotas") for verb in ("list", "create", "patch", "delete")}
    )
    assert granted - used <= unused_here
    reviews = {("create", "authorization.k8s.io", f"selfsubject{what}reviews") for what in ("access", "rules")}
    assert {each for each in used if each[2]} <= granted | reviews


def test_a_cluster_is_drained_before_it_leaves_and_may_join_again(
    fleet: Fleet, bound: Bound, capsys: pytest.CaptureFixture[str]
):
    leaver = "rented"

    status = main(["cluster", "remove", leaver, "--manager", str(fleet.home.kubeconfig), "--timeout", "120"])

    assert status == 0, capsys.readouterr()
    assert {item["metadata"]["name"] for item in fleet.home.api.get(CLUSTERS)["items"]} == {"north", "south"}
    with pytest.raises(ApiError):
        fleet.home.api.get(f"/api/v1/namespaces/kerf-system/secrets/kerf-cluster-{leaver}")
    await_bound(fleet, WANTED, "north", "south")
    assert join(fleet, leaver)[0] == 0
    await_bound(fleet, WANTED)
