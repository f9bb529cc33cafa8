"""Odd but valid fleets and workloads, and templates that are no templates: each concerns itself alone."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.testing.builders import a_container, a_node, cards_of
from kerf.values.fleet import FleetSettings
from tests.effort import examples
from tests.scheduler.fleet import world as worlds
from tests.scheduler.fleet.world import Cluster, World

A100 = "NVIDIA A100-SXM4-80GB"
TERM = {"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}
REQUIRED, PREFERRED = (f"{word}DuringSchedulingIgnoredDuringExecution" for word in ("required", "preferred"))
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "w"}, "annotations": {"a": "b"}},
    "spec": {
        "nodeSelector": {"x": "y"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {
            "nodeAffinity": {
                REQUIRED: {"nodeSelectorTerms": [TERM]},
                PREFERRED: [{"weight": 1, "preference": TERM}],
            },
            "podAntiAffinity": {REQUIRED: [{"topologyKey": "kubernetes.io/hostname", "labelSelector": TERM}]},
        },
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}],
        "resourceClaims": [],
        "containers": [a_container(mem=8000, cores=10)],
        "initContainers": [a_container(mem=1000)],
    },
}
ODD = (None, 0, -1, 3.5, True, "", "x", "9" * 30, [], {}, [None], [[]], [{}], {"": None}, {"a": 1}, "9e99", 1 << 70)


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from paths(each, (*before, key))


def with_odd(path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    found = copy.deepcopy(TEMPLATE)
    inner: Any = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return found


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(list(paths(TEMPLATE))), st.sampled_from(ODD))
def test_whatever_a_template_has_other_workloads_get_their_places(path: tuple[Any, ...], value: Any):
    world = World(Cluster("east", 1))
    world.ask("odd", 1, template=with_odd(path, copy.deepcopy(value)))
    world.ask("chat", 1)

    world.clock.now += 2
    world.manager.run_once()

    assert world.status("chat")["placed"] == 1


@pytest.mark.parametrize(("where", "value"), [("values", -1), ("values", "v"), ("key", None), ("operator", 7)])
def test_a_rule_of_a_selector_that_is_none_matches_nothing_and_breaks_nothing(where: str, value: Any):
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": copy.deepcopy(TERM)}
    term["labelSelector"]["matchExpressions"][0][where] = value
    spec = {"affinity": {"podAntiAffinity": {REQUIRED: [term]}}, "containers": [a_container(mem=8000)]}
    world = World(Cluster("east", 1))
    world.ask("odd", 2, template={"spec": spec})

    world.round(rounds=2)

    assert world.status("odd")["placed"] == 2


class SameNames(Cluster):
    """Nodes, and cards that are called by their nodes, have the same names as in every other such cluster."""

    def nodes_of(self) -> list[dict[str, Any]]:
        names = [f"node-{i}" for i in range(self.nodes)]
        return [a_node(name, cards_of(name, self.cards, model=self.model)) for name in names]


def places(world: World, cluster: str) -> list[int]:
    lists = world.clusters[cluster].kube.objects("/apis/kerf.dev/v1alpha1/")
    return [sum(p["pods"] for p in each["spec"]["places"]) for each in lists if each["kind"] == "FleetPlaces"]


def test_nodes_and_cards_of_one_name_in_two_clusters_are_apart():
    world = World(SameNames("east", 1), SameNames("west", 1, model=A100))
    world.ask("chat", 14)

    world.round(rounds=3)

    assert sum(world.running("chat").values()) == 14
    assert {name: places(world, name) for name in world.clusters} == {
        name: [n] for name, n in world.running("chat").items()
    }


def test_a_pod_with_the_marks_of_another_namespaces_workload_does_not_count_for_it():
    world = World(Cluster("east", 1))
    world.ask("chat", 2)
    world.round(rounds=3)
    east = world.clusters["east"]
    for pod in east.pods():
        forged = copy.deepcopy(pod)
        forged["metadata"] |= {"namespace": "team", "uid": f"forged-{pod['metadata']['uid']}"}
        forged["metadata"]["labels"].pop("owner")
        east.kube.put(forged)
        east.kube.put({**pod, "status": {"phase": "Running", "conditions": []}})

    world.round()

    assert world.status("chat")["readyReplicas"] == 0


def test_clusters_without_nodes_or_cards_take_nothing_and_disturb_nothing():
    world = World(Cluster("none", 0), Cluster("bare", 2, cards=0), Cluster("east", 1))
    world.ask("chat", 3)

    world.round(rounds=3)

    assert world.running("chat") == {"east": 3}


def placed(world: World, name: str) -> str:
    (found,) = [c["message"] for c in world.status(name)["conditions"] if c["type"] == "Placed"]
    return str(found)


def test_a_fleet_without_clusters_says_how_one_joins():
    world = World()
    world.ask("chat", 2)

    world.round(rounds=2)

    assert placed(world, "chat") == "2 of 2 replicas have no place: no cluster has joined: kerf cluster add"


def test_full_clusters_and_models_that_none_has_are_explained_and_keep_no_other_workload_back():
    world = World(Cluster("east", 1), Cluster("west", 1))
    world.ask("chat", 15)
    world.round(rounds=3)
    world.ask("late", 3)
    world.ask("foreign", 1, accepts=[{"model": "B200"}])
    world.round(rounds=3)

    assert world.status("late")["placed"] == 1
    assert placed(world, "late").startswith("2 of 3 replicas have no place: east: 0 of 2 replicas fit by themselves")
    assert placed(world, "foreign").count("no card that it accepts; it has NVIDIA H100 80GB HBM3") == 2


def test_what_most_per_cluster_and_survive_leave_open_is_said():
    world = World(Cluster("east", 1), Cluster("west", 1))
    world.ask("few", 5, mostPerCluster=1)
    world.ask("safe", 4, survive=4)

    world.round(rounds=3)

    assert "mostPerCluster lets it have 1" in placed(world, "few")
    assert "of survive 4 are elsewhere than in" in placed(world, "safe")


@pytest.mark.parametrize("percent", [0.0, 10.0])
def test_cards_that_cost_nothing_are_packed_all_the_same_and_nothing_moves(
    percent: float, monkeypatch: pytest.MonkeyPatch
):
    rows = tuple(replace(row, per_hour=Decimal(0)) for row in worlds.PRICES.prices)
    monkeypatch.setattr(worlds, "PRICES", replace(worlds.PRICES, prices=rows))
    settings_ = FleetSettings(lost_after_s=30, stale_after_s=10, back_off_s=20, move_saving_percent=percent)
    world = World(Cluster("east", 2), Cluster("west", 1), settings=settings_)
    world.join("east", cordoned=True)
    world.ask("chat", 5)
    world.clock.now += 2
    world.manager.run_once()
    world.manager.run_once()
    lists = world.clusters["west"].kube.objects("/apis/kerf.dev/v1alpha1/")
    planned = len({card for each in lists for place in each["spec"]["places"] for card in place["cards"]})
    world.round(rounds=3)
    world.join("east")
    world.round(rounds=6)

    assert (world.running("chat"), planned) == ({"west": 5}, 3)
    assert world.status("chat")["costPerHour"] == "0.0000"
