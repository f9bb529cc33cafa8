"""Pods that a node does not take beside others: a plan puts none where kube-scheduler would refuse it."""

from typing import Any

import pytest

from kerf.testing.builders import a_container, a_pod
from kerf.values.fleet import FleetWorkload
from scheduler.fleet.neighbours import Neighbourhood, apart, barred
from tests.scheduler.fleet.world import REQUIRED, Cluster, World

SERVER = {"tier": "server"}


def a_term(labels: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}, **more}


def a_template(
    labels: dict[str, str], *terms: dict[str, Any], ports: tuple[dict[str, Any], ...] = (), **spec: Any
) -> dict[str, Any]:
    container = a_container(mem=8_000) | ({"ports": list(ports)} if ports else {})
    rules = {"affinity": {"podAntiAffinity": {REQUIRED: list(terms)}}} if terms else {}
    return {"metadata": {"labels": labels}, "spec": {**rules, **spec, "containers": [container]}}


def a_workload(name: str, template: dict[str, Any], namespace: str = "default") -> FleetWorkload:
    return FleetWorkload(namespace, name, "u", 1, template)


PLAIN = a_template({"app": "b"})
HTTP = a_template({}, ports=({"hostPort": 80},))
ALIKE = a_template(SERVER | {"app": "b"}, a_term(SERVER))


@pytest.mark.parametrize(
    ("one", "other", "pairs"),
    [
        (a_template(SERVER, a_term(SERVER)), ALIKE, ["aa", "ab", "bb"]),
        (a_template({"app": "a"}, a_term({"app": "b"})), PLAIN, ["ab"]),
        (PLAIN, a_template({"app": "a"}, a_term({"app": "b"})), ["ab"]),
        (a_template({"app": "a"}, a_term({"app": "a"})), PLAIN, ["aa"]),
        (a_template({"app": "b"}, a_term({"app": "b"}, matchLabelKeys=["pod-template-hash"])), PLAIN, ["aa"]),
        (a_template({"app": "b", "v": "1"}, a_term({"app": "b"}, matchLabelKeys=["v"])), PLAIN, ["aa"]),
        (a_template({"app": "a"}, a_term({"app": "b"}, namespaces=["other"])), PLAIN, []),
        (HTTP, HTTP, ["aa", "ab", "bb"]),
        (HTTP, a_template({}, ports=({"hostPort": 80, "hostIP": "10.0.0.1"},)), ["aa", "ab", "bb"]),
        (HTTP, a_template({}, ports=({"hostPort": 81},)), ["aa", "bb"]),
        (HTTP, a_template({}, ports=({"hostPort": 80, "protocol": "UDP"},)), ["aa", "bb"]),
        (a_template({}, ports=({"containerPort": 80},), hostNetwork=True), PLAIN, ["aa"]),
        (a_template({}, ports=({"containerPort": 80},)), PLAIN, []),
    ],
)  # fmt: skip
def test_two_workloads_are_apart_where_the_rules_or_ports_of_either_say_so(
    one: dict[str, Any], other: dict[str, Any], pairs: list[str]
):
    found = apart([a_workload("a", one), a_workload("b", other)])

    assert sorted({"".join(sorted(x[-1] + y[-1])) for x, names in found.items() for y in names}) == pairs
    assert all(x in found[y] for x, names in found.items() for y in names)


def test_rules_hold_in_their_own_namespace_and_with_an_empty_selector_of_namespaces_in_all():
    there = a_workload("b", PLAIN, "elsewhere")

    assert apart([a_workload("a", a_template({}, a_term({"app": "b"}))), there]) == {}
    assert apart([a_workload("a", a_template({}, a_term({"app": "b"}, namespaceSelector={}))), there]) == {
        "default/a": ("elsewhere/b",),
        "elsewhere/b": ("default/a",),
    }


def test_a_pod_on_a_node_keeps_others_off_it_until_it_has_ended():
    rule = {"podAntiAffinity": {REQUIRED: [a_term({"app": "b"})]}}
    guard = a_pod("guard", node="n-1", uid="u-1", spec={"affinity": rule})
    seen, mine = Neighbourhood(), [a_workload("b", PLAIN)]
    seen.replace([guard, a_pod("other", node="n-2", uid="u-2")])

    assert barred(seen.seen(), mine, own_stays=True) == {"n-1": ("default/b",)}
    seen.change("MODIFIED", guard | {"status": {"phase": "Succeeded"}})
    assert barred(seen.seen(), mine, own_stays=True) == {}


def placed(world: World, name: str) -> int:
    return int(world.status(name)["placed"])


def test_workloads_whose_rules_take_each_other_share_the_nodes_one_pod_each():
    world = World(Cluster("east", 3))
    for name in ("a", "b"):
        world.ask(name, 2, template=a_template(SERVER | {"app": name}, a_term(SERVER)))

    world.round(rounds=3)

    assert placed(world, "a") + placed(world, "b") == 3
    assert sum(world.running("a").values()) + sum(world.running("b").values()) == 3
    short = next(name for name in ("a", "b") if placed(world, name) == 1)
    (said,) = [c["message"] for c in world.status(short)["conditions"] if c["type"] == "Placed"]
    assert "pods there keep it off 3 of its nodes" in said


def test_pods_that_no_fleet_made_keep_replicas_off_their_nodes():
    world = World(Cluster("east", 2), Cluster("west", 1))
    mine = a_pod("mine", node="east-0", labels=SERVER, gpu=None)
    world.clusters["east"].kube.put(mine)
    world.ask("a", 3, template=a_template({"app": "a"}, a_term(SERVER), a_term({"app": "a"})))

    world.round(rounds=3)

    assert placed(world, "a") == 2
    assert world.running("a") == {"east": 1, "west": 1}
