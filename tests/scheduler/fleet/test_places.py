"""What is bound costs what the plan costs, in whatever order the pods come; places are wishes and hold nothing back."""

import copy
from collections import deque
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.kube.errors import Forbidden, KubeError, NotFound
from kerf.testing.builders import a_pod
from kerf.values.fleet import PlannedPlace
from kerf.wire.fleet import parse_workload
from kerf.wire.fleet_places import MARKS, render_places
from scheduler.fleet.assign import Decision, assign
from scheduler.fleet.places import follows_plan, listed
from scheduler.fleet.render import render
from tests.effort import examples
from tests.scheduler.fleet.members import NAMES, TERMS, Member
from tests.scheduler.fleet.sixty import FLEETS, SIXTY, least_of_sixty
from tests.scheduler.fleet.world import Cluster, World

WORKLOADS = tuple(parse_workload(copy.deepcopy(each)) for each in SIXTY)


def handed_over(members: dict[str, Member], decisions: tuple[Decision, ...], *, known: bool) -> list[Any]:
    """The pods that the clusters' controllers make, and the places, if the clusters get them."""
    pods = []
    for decision in decisions:
        for part in decision.parts:
            member, one = members[part.cluster], decision.workload
            if known and follows_plan(one):
                _, body = listed(one, part, "kerf", member.view(), decision.places)
                member.places.change("ADDED", body)
            (body,) = render(one, part, "kerf", NAMES).values()
            pods += [(member, pod) for pod in member.pods(body["spec"]["template"], part.replicas)]
    return pods


def bound(pods: list[Any], random: Random, in_flight: int) -> int:
    """Pods in a random order; how many find no place.

    Up to `in_flight` have a node and are not bound yet while others are asked about.
    """
    unplaced = 0
    random.shuffle(pods)
    waiting, flying = deque(pods), deque[Any]()
    while waiting or flying:
        if waiting and len(flying) <= in_flight:
            member, pod = waiting.popleft()
            found = member.ask_where(pod, seen=random.random() < 0.7)
            unplaced += found is None
            flying += [(member, *found)] if found else []
        else:
            member, pod, node = flying[i := random.randrange(len(flying))]
            del flying[i]
            if not member.bind(pod, node):
                waiting.append((member, pod))
    return unplaced


@cache
def the_plan() -> tuple[Decision, ...]:
    return assign(WORKLOADS, {}, [Member(name).view() for name in FLEETS], TERMS)


def fresh() -> dict[str, Member]:
    return {name: Member(name) for name in FLEETS}


@settings(max_examples=examples(20), deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 5))
def test_what_is_bound_costs_what_the_plan_costs_in_any_order_of_arrival(random: Random, in_flight: int):
    members = fresh()

    unplaced = bound(handed_over(members, the_plan(), known=True), random, in_flight)

    assert unplaced == 0
    assert round(sum(member.cost() for member in members.values()), 4) == least_of_sixty() == 43.82


def test_without_the_plans_places_the_same_pods_open_more_cards_or_find_none():
    worse = []
    for seed in range(4):
        members = fresh()
        unplaced = bound(handed_over(members, the_plan(), known=False), Random(seed), 0)
        worse.append(unplaced > 0 or sum(member.cost() for member in members.values()) > 1.05 * least_of_sixty())

    assert worse == [True] * 4


def test_a_place_that_something_else_has_taken_keeps_no_pod_waiting():
    member, card, labels = Member("north"), "GPU-north-0-3", dict.fromkeys(MARKS, "x")
    place = PlannedPlace("north-0", (card,), 1)
    member.places.change("ADDED", render_places({"name": "w", "namespace": "default", "labels": labels}, 1, [place]))
    stranger = card_of(member, a_pod("stranger", mem=80_000, cores=50, annotations={"nvidia.com/use-gpuuuid": card}))

    found = card_of(member, a_pod("planned", mem=9_000, cores=10, labels=labels))

    assert (stranger, found != card) == (card, True)


def test_places_are_for_so_many_pods_and_free_again_when_a_pod_is_gone():
    member = Member("north")
    card, part = "GPU-north-0-3", {"fleet.kerf.dev/manager": "m", "fleet.kerf.dev/workload": "w"}
    part |= {"fleet.kerf.dev/epoch": "1", "fleet.kerf.dev/model": "h"}
    body = render_places(
        {"name": "w", "namespace": "default", "labels": part}, 2, [PlannedPlace("north-0", (card,), 1)]
    )
    member.places.change("ADDED", body)

    first, second, third = (a_pod(f"p-{i}", mem=9_000, cores=10, labels=part) for i in range(3))
    chosen = [card_of(member, first), card_of(member, second)]
    member.store.feed.apply_pod("DELETED", first)
    chosen.append(card_of(member, third))

    assert [each == card for each in chosen] == [True, False, True]


def test_lists_that_cannot_be_read_and_lists_that_are_gone_list_nothing():
    member, part = Member("north"), dict.fromkeys(MARKS, "x")
    body = render_places(
        {"name": "w", "namespace": "default", "labels": part}, 1, [PlannedPlace("north-0", ("GPU-north-0-5",), 9)]
    )
    broken = {**body, "spec": {"places": [{"node": "north-0", "cards": [], "pods": 1}]}}
    planned_at: list[bool] = []
    for n, (kind, item) in enumerate((("ADDED", body), ("MODIFIED", broken), ("MODIFIED", body), ("DELETED", body))):
        member.places.change(kind, item)
        planned_at.append(card_of(member, a_pod(f"p-{n}", mem=1_000, cores=1, labels=part)) == "GPU-north-0-5")
        member.store.feed.apply_pod("DELETED", a_pod(f"p-{n}"))
    member.places.change("ADDED", body)
    member.places.replace([])
    planned_at.append(card_of(member, a_pod("last", mem=1_000, cores=1, labels=part)) == "GPU-north-0-5")

    assert planned_at == [True, False, True, False, False]


def card_of(member: Member, pod: dict[str, Any]) -> str:
    found = member.ask_where(pod)
    assert found is not None
    assert member.bind(*found)
    booking = member.store.ledger.get(pod["metadata"]["uid"])
    assert booking is not None
    return next(iter(booking.uses))


def test_lists_are_written_again_only_when_a_part_has_another_number_of_replicas():
    """What a later plan would do with the same replicas does not matter: pods are on their way by the first one."""
    world = World(Cluster("east", 2))
    world.ask("chat", 3)
    world.clock.now += 2
    world.manager.run_once()
    world.manager.run_once()
    first = lists(world)
    world.clock.now += 2
    world.manager.run_once()
    world.round(rounds=3)
    settled = lists(world)
    world.ask_again("chat", 5)
    world.round(rounds=2)
    grown = lists(world)

    assert [sum(p["pods"] for p in each["spec"]["places"]) for each in first] == [3]
    assert settled == first
    assert [each["spec"]["replicas"] for each in grown] == [5]
    assert [sum(p["pods"] for p in each["spec"]["places"]) for each in grown] == [5]


def lists(world: World) -> list[dict[str, Any]]:
    return [
        item
        for cluster in world.clusters.values()
        for item in cluster.kube.objects("/apis/kerf.dev/v1alpha1/")
        if item["kind"] == "FleetPlaces"
    ]


def test_a_cluster_of_an_older_kerf_gets_no_lists_and_its_replicas_all_the_same():
    for refusal in (NotFound, Forbidden):
        world = World(Cluster("east", 1))
        kube = world.clusters["east"].kube
        kube.fail = refusing(refusal)
        world.ask("chat", 3)
        world.round(rounds=3)

        assert world.running("chat") == {"east": 3}
        assert lists(world) == []


def refusing(error: type[KubeError]) -> Callable[[str, str], None]:
    def fail(method: str, path: str) -> None:
        if "fleetplaces" in path:
            raise error(404, "no", f"{method} {path}")

    return fail
