"""Claims for MIG instances: the real plugin with a simulated driver, between a fake kubelet and a fake API server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.probes.simulated import SimulatedProbe
from kerf.testing.builders import a_claim, a_claiming_pod
from kerf.wire.resourceslices import SLICES
from sandbox.processes import await_until
from tests.deviceplugin.dra.test_driver import prepared, released, started_with
from tests.deviceplugin.plugin_world import NODE, World, a_world, card

MIG = {"model": "NVIDIA H100 80GB HBM3", "memory_mib": 81_079, "mode": "mig"}
LARGE, SMALL = f"mig-{NODE}-0-9-4", f"mig-{NODE}-0-19-0"
"""3g.40gb at memory slice 4, and 1g.10gb at memory slice 0."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    policy = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy"}
    pools = {"spec": {"pools": [{"name": "all", "allocator": "dra"}]}}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy | pools))
    more = {"config": str(tmp_path / "policy.yaml"), "dra": True, "hand_over_seconds": 0.1}
    directories = {"plugins_registry_dir": str(tmp_path / "r"), "plugins_dir": str(tmp_path / "p")}
    with a_world(tmp_path, **more, **directories) as made:
        (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"cards": [MIG]}))
        made.kubelet.start()
        started_with(made, cards=1, devices=18)
        yield made


def lies(world: World) -> list[tuple[int, int]]:
    """Start and size of the card's instances."""
    driver: Any = SimulatedProbe(world.settings.probe.partition(":")[2], NODE).mig
    return [(one.start, one.size) for one in driver.instances(card(0))]


def names(world: World) -> list[str]:
    return [d["name"] for item in world.kube.objects(SLICES) for d in item["spec"].get("devices", [])]


def test_a_claim_makes_the_instance_of_its_device_and_the_container_sees_it_alone(world: World):
    world.kube.put(a_claiming_pod(main=["a"]))
    world.kube.put(a_claim("a", (LARGE, None, 0)))
    cdi = "kerf.dev/grant=claim-uid-default-pod-1-0"

    assert prepared(world, "a") == {"a": [(LARGE, cdi)]}
    assert lies(world) == [(4, 4)]
    assert world.runtime_edits(cdi)["env"]["NVIDIA_VISIBLE_DEVICES"].startswith("MIG-")
    assert prepared(world, "a") == {"a": [(LARGE, cdi)]}
    assert lies(world) == [(4, 4)]


def test_an_instance_at_a_place_that_another_pod_holds_is_refused(world: World):
    world.kube.put(a_claiming_pod(main=["a"]))
    world.kube.put(a_claim("a", (LARGE, None, 0)))
    prepared(world, "a")
    world.kube.put(a_claiming_pod("pod-2", main=["b"]))
    world.kube.put(a_claim("b", (f"mig-{NODE}-0-19-5", None, 0), pod="pod-2"))

    assert "memory slices 5 of card" in prepared(world, "b")["b"]


def test_a_place_is_free_once_its_pod_is_gone(world: World):
    world.kube.put(a_claiming_pod(main=["a"]))
    world.kube.put(a_claim("a", (LARGE, None, 0)))
    prepared(world, "a")
    released(world, "a")
    world.kube.remove("/api/v1/namespaces/default/pods/pod-1")
    world.kube.put(a_claiming_pod("pod-2", main=["b"]))
    world.kube.put(a_claim("b", (f"mig-{NODE}-0-19-5", None, 0), pod="pod-2"))

    assert isinstance(prepared(world, "b")["b"], list)
    assert lies(world) == [(5, 1)]


def test_the_place_beside_what_is_held_comes_first(world: World):
    world.kube.put(a_claiming_pod(main=["a"]))
    world.kube.put(a_claim("a", (SMALL, None, 0)))
    prepared(world, "a")

    await_until(lambda: names(world)[6] == SMALL, "what is held to come last of its size")
    assert names(world)[0] in {f"mig-{NODE}-0-19-1", f"mig-{NODE}-0-19-2", f"mig-{NODE}-0-19-3"}


def test_a_slice_of_a_card_that_is_divided_by_its_hardware_is_refused(world: World):
    world.kube.put(a_claiming_pod(main=["a"]))
    world.kube.put(a_claim("a", (f"gpu-{NODE}-0", 4096, 20)))

    assert "is none of card" in prepared(world, "a")["a"]
    assert lies(world) == []
