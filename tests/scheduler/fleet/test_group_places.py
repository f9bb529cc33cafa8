"""Groups get the plan's cards, all of them or none; what pods say of their neighbours comes before the plan."""

import copy
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.kube.client import Kube
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_container, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.device_ask import DeviceAsk
from kerf.values.fleet import FleetWorkload, PlannedPlace
from kerf.wire.fleet import parse_workload
from kerf.wire.fleet_places import MARKS, render_places
from scheduler.fleet.assign import Decision, assign
from scheduler.fleet.neighbours import apart
from scheduler.fleet.places import as_planned, listed
from scheduler.fleet.render import render
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.planner import Planner
from tests.effort import examples
from tests.scheduler.fleet.members import NAMES, TERMS, Member
from tests.scheduler.fleet.sixty import FLEETS, a_workload, price_of
from tests.scheduler.fleet.world import Cluster, World

SET = "leaderworkerset.sigs.k8s.io"
GROUPS = (
    a_workload("pairs", 5, 40_000, 45, groupSize=2, accepts=[{"model": "H100"}, {"model": "A100"}]),
    a_workload("threes", 4, 12_000, 20, groupSize=3),
    a_workload("whole", 2, 44_000, 100, groupSize=4, accepts=[{"model": "L40S"}]),
)


def planner_of(member: Member) -> Planner:
    kube: Kube = FakeKube(*({"apiVersion": "v1", "kind": "Node", "metadata": {"name": n}} for n in nodes_of(member)))
    return Planner(member.store, kube, SchedulerMetrics.build(Metrics()))


def nodes_of(member: Member) -> list[str]:
    return member.store.desk.node_names()


def groups_of(members: dict[str, Member], decisions: tuple[Decision, ...]) -> list[tuple[Member, list[dict[str, Any]]]]:
    """The groups that LeaderWorkerSets make, once their places are listed."""
    found = []
    for decision in decisions:
        for part in decision.parts:
            member, one = members[part.cluster], decision.workload
            member.places.change("ADDED", listed(one, part, "kerf", member.view(), decision.places)[1])
            (body,) = render(one, part, "kerf", NAMES).values()
            for i in range(part.replicas):
                pods = member.pods(body["spec"]["leaderWorkerTemplate"]["workerTemplate"], one.group_size)
                found.append((member, [in_group(pod, body["metadata"]["name"], i, one.group_size) for pod in pods]))
    return found


def in_group(pod: dict[str, Any], name: str, index: int, size: int) -> dict[str, Any]:
    meta = pod["metadata"]
    meta["labels"] |= {f"{SET}/name": name, f"{SET}/group-index": str(index)}
    meta["annotations"] |= {f"{SET}/size": str(size)}
    return pod


@settings(max_examples=examples(10), deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_bound_of_groups_costs_what_the_plan_costs_in_any_order_of_arrival(random: Random):
    members = {name: Member(name) for name in FLEETS}
    workloads = [parse_workload(copy.deepcopy(each)) for each in GROUPS]
    decisions = assign(workloads, {}, [member.view() for member in members.values()], TERMS)
    planned = {
        (where[0], card)
        for each in decisions
        for where, places in each.places.items()
        for place in places
        for card in place.cards
    }
    arriving = [(member, pod) for member, pods in groups_of(members, decisions) for pod in pods]
    random.shuffle(arriving)
    for i, (member, pod) in enumerate(arriving):
        member.store.feed.apply_pod("ADDED", pod)
        if i % 7 == 0:
            planner_of(member).run_once()
    for member in members.values():
        planner_of(member).run_once()

    bound = [member.bind(pod, place) for member, pod in arriving for place in [reserved_for(member, pod)]]

    assert all(bound)
    assert round(sum(member.cost() for member in members.values()), 4) == round(
        sum(price_of(members[name].models[card], name) for name, card in planned), 4
    )


def reserved_for(member: Member, pod: dict[str, Any]) -> str:
    booking = member.store.ledger.get(pod["metadata"]["uid"])
    assert booking is not None
    return booking.node


def a_group(name: str, size: int, mem: int, cores: int) -> list[dict[str, Any]]:
    """Pods of one part, and of one group."""
    pods = (a_pod(f"{name}-{i}", mem=mem, cores=cores, labels=dict.fromkeys(MARKS, "x")) for i in range(size))
    return [in_group(pod, name, 0, size) for pod in pods]


def list_places(member: Member, *places: PlannedPlace, after_preferences: bool = False) -> None:
    meta = {"name": "w", "namespace": "default", "labels": dict.fromkeys(MARKS, "x")}
    member.places.change("ADDED", render_places(meta, 1, places, after_preferences=after_preferences))


def cards_held(member: Member, pods: list[dict[str, Any]]) -> list[str]:
    bookings = [member.store.ledger.get(pod["metadata"]["uid"]) for pod in pods]
    return sorted(card for booking in bookings if booking is not None for card in booking.uses)


def test_a_group_takes_all_of_its_listed_cards():
    member, group = Member("north"), a_group("g", 2, 80_000, 100)
    list_places(member, PlannedPlace("north-0", ("GPU-north-0-3",), 1), PlannedPlace("north-1", ("GPU-north-1-5",), 1))
    for pod in group:
        member.store.feed.apply_pod("ADDED", pod)

    planner_of(member).run_once()

    assert cards_held(member, group) == ["GPU-north-0-3", "GPU-north-1-5"]


def test_a_group_takes_none_of_its_listed_cards_where_one_is_taken_and_is_placed_as_any_other():
    member, group = Member("north"), a_group("g", 2, 80_000, 100)
    list_places(member, PlannedPlace("north-0", ("GPU-north-0-3",), 1), PlannedPlace("north-1", ("GPU-north-1-5",), 1))
    pin = {"nvidia.com/use-gpuuuid": "GPU-north-1-5"}
    stranger = a_pod("stranger", mem=10_000, cores=10, annotations=pin)
    assert member.bind(stranger, "north-1")
    for pod in group:
        member.store.feed.apply_pod("ADDED", pod)

    planner_of(member).run_once()

    held = cards_held(member, group)
    assert len(held) == 2
    assert "GPU-north-1-5" not in held


def test_a_group_without_room_reserves_nothing_and_is_not_tried_again_before_something_changes():
    member, group = Member("north"), a_group("g", 25, 80_000, 100)
    list_places(member, *(PlannedPlace("north-0", (f"GPU-north-0-{i}",), 1) for i in range(8)))
    for pod in group:
        member.store.feed.apply_pod("ADDED", pod)
    planner = planner_of(member)

    planner.run_once()
    charged = member.store.desk.version
    planner.run_once()

    assert cards_held(member, group) == []
    assert member.store.desk.version == charged


def test_places_that_come_after_preferences_leave_the_choice_of_the_node_and_give_the_card():
    member, marks = Member("north"), dict.fromkeys(MARKS, "x")
    list_places(member, PlannedPlace("north-1", ("GPU-north-1-5",), 1), after_preferences=True)
    chosen, other = (a_pod(name, mem=9_000, cores=10, labels=marks) for name in ("chosen", "other"))

    ask, _ = member.store.desk.read(chosen)
    offered = list(member.store.desk.where(ask, nodes_of(member)).fits)
    first = member.ask_where(chosen)
    member.bind(other, "north-0")
    member.bind(chosen, "north-1")

    assert offered == nodes_of(member)
    assert first is not None
    assert first[1] == "north-1"
    assert cards_held(member, [chosen]) == ["GPU-north-1-5"]
    assert cards_held(member, [other])[0].startswith("GPU-north-0-")


OTHERS = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]}
OWN = {"labelSelector": {"matchLabels": {"app": "w"}}, "topologyKey": "kubernetes.io/hostname"}
REQUIRED, PREFERRED = (f"{word}DuringSchedulingIgnoredDuringExecution" for word in ("required", "preferred"))


def a_workload_with(spec: dict[str, Any], **more: Any) -> FleetWorkload:
    template = {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [a_container()], **spec}}
    return FleetWorkload("default", "w", "u", 1, template, **more)


def anti(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"affinity": {"podAntiAffinity": {REQUIRED: list(terms)}}}


def asking(resource: str) -> dict[str, Any]:
    asked = {"limits": {"nvidia.com/gpu": "1", resource: "1"}, "requests": {"cpu": "1"}}
    return {"containers": [{"name": "main", "image": "x", "resources": asked}]}


def spread(when: str) -> dict[str, Any]:
    return {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when}]}


@pytest.mark.parametrize(
    ("spec", "one_a_node"),
    [
        ({}, False),
        (anti(OWN), True),
        (anti({**OWN, "namespaces": ["default", "other"]}), True),
        (anti({**OWN, "namespaces": ["other"]}), False),
        (anti({**OWN, "namespaceSelector": {"matchLabels": {"a": "b"}}}), False),
        (anti({**OWN, "namespaceSelector": {}}), True),
        (anti({**OWN, "matchLabelKeys": ["pod-template-hash"]}), True),
        (anti({**OWN, "mismatchLabelKeys": ["pod-template-hash"]}), False),
        (anti({**OWN, "topologyKey": "topology.kubernetes.io/zone"}), False),
        (anti({**OWN, "labelSelector": OTHERS}), False),
        (anti({**OWN, "labelSelector": {"matchExpressions": [{}]}}), False),
        (anti({"topologyKey": "kubernetes.io/hostname"}), False),
        ({"affinity": {"podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": OWN}]}}}, False),
    ],
)  # fmt: skip
def test_pods_stay_apart_where_they_require_it_of_their_own_kind_by_hostname(spec: dict[str, Any], one_a_node: bool):
    assert apart([a_workload_with(spec)]) == ({"default/w": ("default/w",)} if one_a_node else {})


@pytest.mark.parametrize(
    ("spec", "reason", "says"),
    [
        ({}, "Listed", "the plan has"),
        (anti(OWN), "Listed", "the plan has"),
        ({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{}]}}}}, "Listed", "the plan has"),
        ({"affinity": {"nodeAffinity": {PREFERRED: [{"weight": 1}]}}}, "Preferences", f"nodeAffinity.{PREFERRED} come"),
        (spread("ScheduleAnyway"), "Preferences", "topologySpreadConstraints of zone come first"),
        (spread("DoNotSchedule"), "Neighbours", "does not weigh topologySpreadConstraints of zone"),
        (anti({**OWN, "topologyKey": "zone"}), "Neighbours", "does not weigh podAntiAffinity"),
        (anti({**OWN, "namespaceSelector": {"matchLabels": {"a": "b"}}}), "Neighbours", "not weigh podAntiAffinity"),
        ({"affinity": {"podAffinity": {REQUIRED: [OWN]}}}, "Neighbours", "does not weigh podAffinity"),
        (asking("rdma/hca"), "Needs", "does not weigh rdma/hca:"),
        (asking("hugepages-2Mi"), "Needs", "does not weigh hugepages-2Mi:"),
        (asking("nvidia.com/gpu"), "Listed", "the plan has"),
        ({"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "c"}}]}, "Needs", "the claim of volume m:"),
        ({"volumes": [{"name": "m", "emptyDir": {}}]}, "Listed", "the plan has"),
    ],
)
def test_how_far_pods_get_the_plans_cards_is_said_with_the_reason(spec: dict[str, Any], reason: str, says: str):
    found = as_planned(a_workload_with(spec), NAMES)

    assert (found["reason"], found["status"]) == (reason, "True" if reason == "Listed" else "False")
    assert says in found["message"]


def test_pods_that_ask_by_claims_say_that_kubernetes_chooses_their_devices():
    found = as_planned(a_workload_with({}, devices=(DeviceAsk(()),)), NAMES)

    assert (found["reason"], found["status"]) == ("Claims", "False")


def test_a_cluster_gets_no_more_replicas_that_stay_apart_than_it_has_nodes_without_one():
    world = World(Cluster("east", 1), Cluster("west", 3))
    template = {"metadata": {"labels": {"app": "w"}}, "spec": {**anti(OWN), "containers": [a_container(mem=8_000)]}}
    world.ask("w", 3, template=template)
    world.round(rounds=2)
    first = parts_of(world)
    world.ask_again("w", 6)
    world.round(rounds=2)

    assert (first["east"] <= 1, first["west"] <= 3, sum(first.values())) == (True, True, 3)
    assert parts_of(world)["east"] == 1
    (said,) = [c["message"] for c in world.status("w")["conditions"] if c["type"] == "Placed"]
    assert "where a node takes one pod" in said


def parts_of(world: World, name: str = "w") -> dict[str, int]:
    found = dict.fromkeys(world.clusters, 0)
    for part in world.status(name)["assignments"]:
        found[part["cluster"]] += part["replicas"]
    return found
