"""One plugin for the cards of several vendors."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kerf.testing.builders import a_pod
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.wire.inventory import parse_inventory
from tests.deviceplugin.acme import BOTH
from tests.deviceplugin.plugin_world import GIB_80, NODE, World, a_world, card, read_ledger

FLEET = {
    "cards": [
        {"model": "NVIDIA H100 80GB HBM3", "memory_mib": GIB_80, "count": 2},
        {"model": "Acme A1", "memory_mib": 65_536, "vendor": "acme", "ids": ["NPU-0"], "slots": 4},
    ]
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path, resource=("nvidia.com/gpu", "acme.example/npu")) as world:
        Path(world.settings.probe.partition(":")[2]).write_text(yaml.safe_dump(FLEET))
        world.vendors = BOTH
        yield world


def a_mixed_pod() -> dict[str, object]:
    """A pod with one container on an NVIDIA card and one on Acme's."""
    limits = {
        "gpu": {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "8000", "nvidia.com/gpucores": "30"},
        "npu": {"acme.example/npu": "1", "acme.example/mem": "4000", "acme.example/cores": "20"},
    }
    slices = {"gpu": Slice(card(1), "nvidia", 8000, 30), "npu": Slice("NPU-0", "acme", 4000, 20)}
    return a_pod(
        "mixed",
        containers=[{"name": name, "resources": {"limits": asked}} for name, asked in limits.items()],
        grant=Grant(tuple(ContainerGrant(name, (piece,)) for name, piece in slices.items())),
        node=NODE,
    )


def test_each_vendor_has_its_resource_its_slots_and_its_inventory(world: World):
    world.run(slots=24)

    assert sorted((request.resource_name, request.endpoint) for request in world.kubelet.requests) == [
        ("acme.example/npu", "kerf-acme.sock"),
        ("nvidia.com/gpu", "kerf.sock"),
    ]
    assert sorted(world.kubelet.devices) == sorted(
        [f"kerf-{i}" for i in range(20)] + [f"kerf-acme-{i}" for i in range(4)]
    )
    await_inventories(world, {"kerf.dev/inventory": [card(0), card(1)], "kerf.dev/inventory-acme": ["NPU-0"]})


def await_inventories(world: World, expected: dict[str, list[str]]) -> None:
    found: dict[str, list[str]] = {}
    for _ in range(200):
        notes = world.kube.get(f"/api/v1/nodes/{NODE}")["metadata"]["annotations"]
        found = {key: [c.id for c in parse_inventory(text)] for key, text in notes.items() if "inventory" in key}
        if found == expected:
            return
        threading.Event().wait(0.05)
    assert found == expected


def test_the_containers_of_one_pod_hold_cards_of_two_vendors(world: World):
    world.run(slots=24)
    pod = world.bind(a_mixed_pod())

    got = {name: world.got(world.kubelet.start_container(pod, name)) for name in ("gpu", "npu")}

    assert got == {"gpu": ((card(1), 8000, 30),), "npu": (("NPU-0", 4000, 20),)}


def test_a_plugin_of_one_vendor_starts_the_pod_that_holds_anothers_cards_too(tmp_path: Path):
    with a_world(tmp_path, resource=("nvidia.com/gpu",)) as world:
        world.vendors = BOTH
        pod = world.run().bind(a_mixed_pod())

        name = world.kubelet.start_container(pod, "gpu")

        assert world.got(name) == ((card(1), 8000, 30),)
        assert [
            limit.uuid
            for limit in read_ledger(world.runtime_edits(name)["mounts"]["/usr/local/kerf/ledger"]).spec.cards
        ] == [card(1)]
