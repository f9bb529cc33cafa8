"""Nodes that say odd things: what can be read counts, the rest has one clear reason, and nothing else is disturbed."""

import json
from typing import Any

import pytest

from kerf.testing.builders import a_node
from kerf.vendors.registry import VENDORS
from kerf.wire.objects import parse_node
from tests.vendors.shop import Shop, a_vendor_node, asking, registered

DCU, HCU = "hami.io/node-dcu-register", "hami.io/node-hcu-register"
ONE = "DCU-0,4,32768,100,DCU-K100,0,true:"
WORDS = {"hygon.com/dcunum": 1, "hygon.com/dcumem": 1000}


def mixed(**notes: str) -> dict[str, Any]:
    """A node of NVIDIA's cards beside others."""
    node = a_node("n", 2, **notes)
    node["status"] = {"allocatable": {"cpu": "96", "memory": "768Gi", "hygon.com/dcunum": "4", "hygon.com/hcunum": "4"}}
    return node


def found(node: dict[str, Any]) -> tuple[list[tuple[str, str, bool]], str]:
    read = parse_node(node, VENDORS)
    return sorted((card.vendor, card.id, card.healthy) for card in read.cards), read.problem


NVIDIA = [("nvidia", "GPU-n-0", True), ("nvidia", "GPU-n-1", True)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("DCU-0,4", f"{DCU}: 'DCU-0,4': write 7 or 9 comma-separated fields a device"),
        ("[1]", f"{DCU}: '[1]': write a JSON list of devices"),
        (ONE + ONE, f"""{DCU}: "['DCU-0', 'DCU-0']": give every card its own id"""),
        ('[{"id":"x"}]', f"""{DCU}[0]: "{{'id': 'x'}}": write the device's id and type"""),
        ("DCU-0,4,-1,100,DCU,0,true:", f"{DCU}[0].devmem: '-1': write a whole number from 0 to 2147483647"),
    ],
)
def test_a_vendors_broken_inventory_costs_its_own_cards_alone(text: str, problem: str):
    cards, said = found(mixed(**{DCU: text}))

    assert cards == NVIDIA
    assert said == problem


def test_a_pod_of_the_broken_vendor_is_answered_with_the_reason_and_others_run():
    shop = Shop(mixed(**{DCU: "DCU-0,4"}))

    assert "write 7 or 9 comma-separated fields" in shop.take(asking("dcu", **WORDS)).misfit
    assert shop.take(asking("gpu", **{"nvidia.com/gpumem": 1000})).slices


def test_every_broken_inventory_is_named():
    _, said = found(mixed(**{DCU: "x", "hami.io/node-amd-register": "y"}))

    assert [part.partition(":")[0] for part in said.split("; ")] == ["hami.io/node-amd-register", DCU]


def test_a_card_of_two_vendors_counts_once_and_is_named():
    cards, said = found(mixed(**{DCU: ONE, HCU: ONE.replace("DCU-K100", "HCU")}))

    assert cards == [("hygon", "DCU-0", True), *NVIDIA]
    assert said == f"{HCU}: 'DCU-0': give every card its own id: another vendor's inventory has this one too"


@pytest.mark.parametrize(("stopped", "vendor"), [("hygon.com/dcunum", "hygonhcu"), ("hygon.com/hcunum", "hygon")])
def test_what_a_replaced_plugin_left_behind_is_passed_over(stopped: str, vendor: str):
    node = mixed(**{DCU: ONE, HCU: ONE.replace("DCU-K100", "HCU")})
    node["status"]["allocatable"][stopped] = "0"

    assert found(node) == ([(vendor, "DCU-0", True), *NVIDIA], "")


def test_a_plugin_that_registers_before_the_kubelet_counts_gives_no_card():
    node = a_vendor_node(annotations={DCU: ONE}, **{"hygon.com/dcunum": "0"})
    shop = Shop(node)

    assert "cards are unhealthy" in shop.take(asking("early", **WORDS)).misfit
    assert [card.health.cause for card in shop.store.desk.nodes()[0].cards] == [
        "the vendor's device plugin offers no card to the kubelet"
    ]
    shop.store.feed.apply_node("MODIFIED", a_vendor_node(annotations={DCU: ONE}, **{"hygon.com/dcunum": "4"}))
    assert shop.take(asking("later", **WORDS)).slices


def test_a_registration_of_a_newer_plugin_may_say_more():
    more = {"id": "B3-0", "devmem": 65536, "type": "Ascend910B3", "custominfo": {"NetworkID": 0}, "later": [1, {}]}
    node = a_vendor_node(
        annotations={"hami.io/node-register-Ascend910B3": registered(more)}, **{"huawei.com/Ascend910B3": "10"}
    )

    assert found(node) == ([("ascend910b3", "B3-0", True)], "")


def test_a_plugin_that_registers_no_card_is_no_problem():
    assert found(mixed(**{DCU: "[]"})) == (NVIDIA, "")
    assert found(mixed(**{DCU: json.dumps(None)}))[0] == NVIDIA


@pytest.mark.parametrize("numa", [-1, "-1"])
def test_a_card_of_which_the_kernel_knows_no_numa_node_is_on_the_first(numa: object):
    device = {"id": "B3-0", "devmem": 65536, "type": "Ascend910B3", "numa": numa}
    node = a_vendor_node(
        annotations={"hami.io/node-register-Ascend910B3": registered(device)}, **{"huawei.com/Ascend910B3": "10"}
    )

    assert [(card.id, card.numa) for card in parse_node(node, VENDORS).cards] == [("B3-0", 0)]
    assert found(mixed(**{DCU: ONE.replace(",0,true", ",-1,true")})) == ([("hygon", "DCU-0", True), *NVIDIA], "")


@pytest.mark.parametrize("identity", ["0000:5d:00.0", "a,b", "a;b"])
def test_an_id_that_no_record_can_have_is_refused(identity: str):
    cards, said = found(mixed(**{DCU: registered({"id": identity, "devmem": 5, "type": "DCU"})}))

    assert cards == NVIDIA
    assert said == (
        f"{DCU}[0]: '{identity}': register it without , : ; which divide the devices that are written on pods"
    )


@pytest.mark.parametrize("amount", ["-1", "9E", "x", "1e18"])
def test_a_capacity_that_no_card_can_have_is_the_vendors_problem(amount: str):
    memory = "cambricon.com/mlu.smlu.vmemory"
    node = mixed()
    node["status"]["capacity"] = {"cambricon.com/mlu.smlu.vcore": "200", memory: amount}
    shop = Shop(node)

    cards, said = found(node)

    assert cards == NVIDIA
    assert said.startswith(f"status.capacity[{memory}]: ")
    assert shop.take(asking("gpu", **{"nvidia.com/gpumem": 1000})).slices
