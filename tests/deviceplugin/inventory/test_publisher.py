"""Publishing the inventories of several vendors on one node."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from deviceplugin.inventory.publisher import Publisher
from deviceplugin.metrics import PluginMetrics
from deviceplugin.state.node import LocalNode
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_card, a_node
from kerf.testing.fake_kube import FakeKube
from kerf.values.device import Card
from kerf.values.health import SUSPECT
from kerf.values.vendor import Vendor
from kerf.vendors.registry import VENDORS
from kerf.wire.inventory import parse_inventory
from tests.deviceplugin.acme import ACME, BOTH

NODE_PATH = "/api/v1/nodes/node-1"
GPU = a_card(0)
NPU = a_card(1, id="NPU-1", vendor="acme")


@dataclass
class Node:
    """A node in a fake API server, and the publishers that run on it."""

    kube: FakeKube
    stops: list[tuple[threading.Event, threading.Thread]]

    def publish(self, vendors: tuple[Vendor, ...], ready: Callable[[Vendor], bool], *cards: Card) -> LocalNode:
        node, stop = LocalNode("node-1"), threading.Event()
        node.update_cards(cards)
        publisher = Publisher(self.kube, node, vendors, ready, PluginMetrics.build(Metrics()), lambda _: None)
        thread = threading.Thread(target=partial(publisher.run, stop), daemon=True)
        thread.start()
        self.stops.append((stop, thread))
        return node

    def inventories(self) -> dict[str, list[tuple[str, bool]]]:
        notes = self.kube.get(NODE_PATH)["metadata"]["annotations"]
        return {
            key: [(card.id, card.healthy) for card in parse_inventory(text)]
            for key, text in notes.items()
            if key.startswith("kerf.dev/inventory")
        }

    def await_inventories(self, expected: dict[str, list[tuple[str, bool]]]) -> None:
        for _ in range(200):
            if self.inventories() == expected:
                return
            threading.Event().wait(0.05)
        assert self.inventories() == expected

    def stop(self) -> None:
        for stop, thread in self.stops:
            stop.set()
            thread.join(10.0)
            assert not thread.is_alive()
        self.stops.clear()


@pytest.fixture
def node() -> Iterator[Node]:
    bare = a_node("node-1", cards=())
    bare["metadata"]["annotations"] = {}
    world = Node(FakeKube(bare), [])
    yield world
    world.stop()


def always(_: Vendor) -> bool:
    return True


def test_two_publishers_on_one_node_write_their_own_vendors_cards_and_never_each_others(node: Node):
    gpus = node.publish((VENDORS[0],), always, GPU)
    node.publish((ACME,), always, NPU)
    node.await_inventories({"kerf.dev/inventory": [("GPU-0", True)], "kerf.dev/inventory-acme": [("NPU-1", True)]})

    for beat in range(20):
        changed = node.kube.get(NODE_PATH)
        changed["status"]["beat"] = beat
        node.kube.put(changed)
    gpus.update_cards((a_card(0, health=SUSPECT),))
    node.await_inventories({"kerf.dev/inventory": [("GPU-0", False)], "kerf.dev/inventory-acme": [("NPU-1", True)]})

    assert sorted(node.kube.writes) == sorted([("PATCH", NODE_PATH)] * 3 + [("PATCH", f"{NODE_PATH}/status")] * 2)


def test_a_publisher_that_stops_withdraws_its_own_cards_only(node: Node):
    node.publish((VENDORS[0],), always, GPU)
    node.await_inventories({"kerf.dev/inventory": [("GPU-0", True)]})
    node.publish((ACME,), always, NPU)
    node.await_inventories({"kerf.dev/inventory": [("GPU-0", True)], "kerf.dev/inventory-acme": [("NPU-1", True)]})

    stop, thread = node.stops.pop(0)
    stop.set()
    thread.join(10.0)

    assert node.inventories() == {
        "kerf.dev/inventory": [("GPU-0", False)],
        "kerf.dev/inventory-acme": [("NPU-1", True)],
    }


def test_each_vendors_cards_are_offered_once_the_kubelet_watches_their_slots(node: Node):
    watched = {"acme"}
    node.publish(BOTH, lambda vendor: vendor.name in watched, GPU, NPU)
    node.await_inventories({"kerf.dev/inventory-acme": [("NPU-1", True)]})

    watched.add("nvidia")

    node.await_inventories({"kerf.dev/inventory": [("GPU-0", True)], "kerf.dev/inventory-acme": [("NPU-1", True)]})
