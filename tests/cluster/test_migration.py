"""docs/migrate-from-hami.md on kwok nodes: what HAMi placed is counted before, while and after a node moves over."""

import json
from collections.abc import Iterator

import pytest

from kerf.testing.builders import H100_MIB, cards_of
from kerf.wire.inventory import KEY, render_inventory
from sandbox import ControlPlane, FakeNode, await_until
from sandbox.stack import EXTENDER
from tests.cluster.gpu_pods import PODS, a_fleet, a_gpu_pod, await_bound, await_refused, create, node_of, overcommitted

pytestmark = pytest.mark.cluster

NODE = "moving"
REGISTER = "hami.io/node-nvidia-register"
CARDS = cards_of(NODE, 2)
HELD = {"theirs-0": (CARDS[0].id, 60_000), "theirs-1": (CARDS[1].id, 50_000)}


@pytest.fixture(scope="module")
def cp(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """A node as HAMi's device plugin leaves it, Kerf's scheduler beside it, and two pods that HAMi has placed."""
    devices = [
        {"id": card.id, "index": card.index, "count": 10, "devmem": H100_MIB, "devcore": 100, "type": "NVIDIA-H100"}
        | {"mode": "hami-core", "health": True}
        for card in CARDS
    ]
    node = FakeNode(NODE, {REGISTER: json.dumps(devices)}, allocatable={"nvidia.com/gpu": "20"})
    with a_fleet(control_plane, [node]):
        for name, (card, mib) in HELD.items():
            placed_by_hami(control_plane, name, card, mib)
        yield control_plane


def placed_by_hami(cp: ControlPlane, name: str, card: str, mib: int) -> None:
    """A pod with HAMi's record, bound by HAMi's scheduler."""
    record = f"{card},NVIDIA,{mib},20:;"
    notes = {"hami.io/vgpu-node": NODE, "hami.io/vgpu-devices-allocated": record, "hami.io/bind-phase": "success"}
    create(cp, a_gpu_pod(name, mem=mib, cores=20, annotations=notes))
    target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
    cp.api.post(f"{PODS}/{name}/binding", {"metadata": {"name": name}, "target": target})


def test_a_node_that_hamis_plugin_still_keeps_is_not_offered(cp: ControlPlane) -> None:
    """A grant means nothing to that plugin."""
    create(cp, a_gpu_pod("waits", mem=40_000))

    assert "cards are unhealthy" in await_refused(cp, "waits")


def test_a_scheduler_that_starts_again_does_not_offer_it_either(cp: ControlPlane) -> None:
    cp.kill(EXTENDER)
    cp.restart(EXTENDER)
    create(cp, a_gpu_pod("also-waits", mem=40_000))

    assert "cards are unhealthy" in await_refused(cp, "also-waits")
    cp.api.delete(f"{PODS}/also-waits", 0)


def test_it_is_counted_once_the_nodes_plugin_is_kerfs_and_pods_go_beside_it(cp: ControlPlane) -> None:
    notes = {REGISTER: None, KEY: render_inventory(CARDS)}
    cp.api.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": notes}})
    create(cp, a_gpu_pod("beside", mem=31_559), a_gpu_pod("beside-too", mem=21_559))
    await_bound(cp, "beside", "beside-too")
    create(cp, a_gpu_pod("one-too-many", mem=1))

    assert "0 MiB" in await_refused(cp, "one-too-many")
    assert overcommitted(cp) == []
    assert node_of(cp, "waits") == ""


def test_what_it_held_is_free_for_kerfs_pods_once_it_ends(cp: ControlPlane) -> None:
    cp.api.delete(f"{PODS}/theirs-0", 0)

    await_until(lambda: node_of(cp, "waits") == NODE, "the freed card to be used")
