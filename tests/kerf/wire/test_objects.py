"""Nodes and pods as the API server gives them."""

import json

import pytest

from kerf.testing.builders import a_card, a_container, a_grant, a_node, a_pod, cards_of
from kerf.values.ask import Stage
from kerf.values.grant import ContainerGrant, Grant, Holding, Slice
from kerf.values.health import Health, State
from kerf.vendors.registry import VENDORS
from kerf.wire.errors import WireError
from kerf.wire.objects import parse_holding, parse_node

HAMI = {"hami.io/vgpu-node": "node-1", "hami.io/vgpu-devices-allocated": "GPU-1,NVIDIA,3000,20:;"}
REGISTER = json.dumps([{"id": "GPU-h", "count": 10, "devmem": 5, "devcore": 100, "type": "NVIDIA", "health": True}])


def test_a_node_is_read_with_its_cards() -> None:
    node = a_node("n", 2, **{"kerf.dev/cordon": "b, a", "hami.io/device-cordon": "c,a"})
    node["metadata"]["labels"] = {"z": "1", "a": "2"}

    found = parse_node(node, VENDORS)

    assert (found.name, found.cards, found.cpu_milli, found.memory_mib) == ("n", cards_of("n", 2), 96_000, 768 * 1024)
    assert (found.labels, found.cordoned, found.schedulable) == ((("a", "2"), ("z", "1")), ("a", "b", "c"), True)
    assert found.problem == ""


def test_a_cordoned_node_takes_nothing_new() -> None:
    assert parse_node(a_node() | {"spec": {"unschedulable": True}}, VENDORS).schedulable is False


def test_a_taint_that_pods_prefer_not_to_tolerate_makes_a_node_avoided() -> None:
    node = a_node()
    for effect, avoided in (("PreferNoSchedule", True), ("NoSchedule", False)):
        node["spec"]["taints"] = [{"key": "old", "effect": effect}]
        assert parse_node(node, VENDORS).avoided is avoided


def test_kerfs_inventory_wins_over_hamis_registration() -> None:
    both = a_node("n", 1, **{"hami.io/node-nvidia-register": REGISTER})
    hami_only = a_node("n", 1, **{"hami.io/node-nvidia-register": REGISTER})
    del hami_only["metadata"]["annotations"]["kerf.dev/inventory"]

    assert parse_node(both, VENDORS).cards == cards_of("n", 1)
    theirs = Health(State.SUSPECT, "its device plugin is still HAMi's")
    assert parse_node(hami_only, VENDORS).cards == (a_card(id="GPU-h", model="NVIDIA", memory_mib=5, health=theirs),)


def test_an_annotation_that_is_not_json_is_the_nodes_problem_not_the_schedulers() -> None:
    node = a_node()
    node["metadata"]["annotations"]["kerf.dev/inventory"] = "not json"

    found = parse_node(node, VENDORS)

    assert found.cards == ()
    assert found.problem.startswith("kerf.dev/inventory: 'not json': write JSON (")


def test_a_bound_pod_holds_its_grant() -> None:
    pod = a_pod("p", node="node-1", grant=a_grant(), init=[{"name": "i"}])

    assert parse_holding(pod, VENDORS) == Holding(
        "default/p", "uid-default-p", "node-1", a_grant(), (("i", Stage.INIT), ("main", Stage.APP))
    )


def test_a_grant_on_a_pod_without_a_node_is_a_forgery() -> None:
    assert parse_holding(a_pod(grant=a_grant()), VENDORS) is None
    assert parse_holding(a_pod(annotations=HAMI), VENDORS) is None


def test_a_finished_pod_holds_nothing() -> None:
    for phase in ("Succeeded", "Failed"):
        assert parse_holding(a_pod(node="node-1", grant=a_grant(), phase=phase), VENDORS) is None


def test_a_terminating_pod_still_holds() -> None:
    pod = a_pod(node="node-1", grant=a_grant())
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert parse_holding(pod, VENDORS) is not None


def test_what_hami_placed_is_counted_where_it_is_bound() -> None:
    held = Grant((ContainerGrant("main", (Slice("GPU-1", "nvidia", 3000, 20),)),))

    found = parse_holding(a_pod(node="node-1", annotations=HAMI), VENDORS)

    assert found is not None
    assert found.grant == held
    assert parse_holding(a_pod(node="elsewhere", annotations=HAMI), VENDORS) is None


def test_kerfs_grant_wins_over_hamis_record() -> None:
    found = parse_holding(a_pod(node="node-1", annotations=HAMI, grant=a_grant()), VENDORS)

    assert found is not None
    assert found.grant == a_grant()


def test_an_unreadable_grant_is_an_error_with_its_field() -> None:
    pod = a_pod(node="node-1", annotations={"kerf.dev/grant": "{}"}, containers=[a_container()])

    with pytest.raises(WireError) as caught:  # it must not be taken for no grant
        parse_holding(pod, VENDORS)

    assert caught.value.field == "kerf.dev/grant.v"
