"""Registration, slots, health and the published inventory over the life of a node."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from kerf.kube.errors import Unreachable
from kerf.wire.inventory import KEY, parse_inventory
from tests.deviceplugin.plugin_world import GIB_80, NODE, World, a_world, card, one_slice

NODE_PATH = f"/api/v1/nodes/{NODE}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path) as world:
        yield world


def break_cards(world: World, *indices: int) -> None:
    fleet = {"cards": [{"model": "H100", "memory_mib": GIB_80, "count": 4, "unhealthy": list(indices)}]}
    path = Path(world.settings.probe.partition(":")[2])
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(fleet))
    fresh.replace(path)


def published(world: World) -> list[bool]:
    text = world.kube.get(NODE_PATH)["metadata"]["annotations"][KEY]
    return [c.healthy for c in parse_inventory(text)]


def await_published(world: World, expected: list[bool]) -> None:
    for _ in range(200):
        if published(world) == expected:
            return
        threading.Event().wait(0.05)
    assert published(world) == expected


def test_the_plugin_registers_with_pre_start_and_forty_anonymous_slots(world: World):
    world.run()

    assert world.kubelet.requests == [
        dp.RegisterRequest(
            version="v1beta1",
            endpoint="kerf.sock",
            resource_name="nvidia.com/gpu",
            options=dp.DevicePluginOptions(pre_start_required=True),
        )
    ]
    assert world.kubelet.devices == {f"kerf-{i}": "Healthy" for i in range(40)}


def test_a_plugin_that_is_up_first_waits_for_its_kubelet_and_offers_no_card_before(world: World):
    registered: list[int] = []
    world.kube.fail = lambda method, path: registered.append(len(world.kubelet.requests)) if method == "PATCH" else None
    world.start_plugin()
    world.kubelet.start()

    world.kubelet.wait_devices(40)
    await_published(world, [True] * 4)

    assert registered == [1, 1]  # the resources that only Kerf understands, then the cards


def test_a_plugin_withdraws_its_offer_when_it_stops_and_offers_again_when_it_returns(world: World):
    world.run()
    await_published(world, [True] * 4)

    world.stop_plugin()
    assert published(world) == [False] * 4

    world.start_plugin()
    await_published(world, [True] * 4)


def test_a_card_that_becomes_unhealthy_takes_free_slots_away_and_is_published_at_once(world: World):
    world.run()
    pod = world.bind(one_slice("pod", 1000, on=2))
    await_published(world, [True] * 4)

    break_cards(world, 2)

    world.kubelet.wait_devices(30)
    await_published(world, [True, True, False, True])
    assert world.kubelet.devices[pod.slots["main"][0]] == "Healthy"
    break_cards(world)
    world.kubelet.wait_devices(40)
    await_published(world, [True] * 4)


def test_a_running_pod_may_restart_on_a_sick_card_and_a_new_one_may_not_start(world: World):
    world.run()
    runs, new = world.bind(one_slice("runs", 1000, on=2)), world.bind(one_slice("new", 1000, on=2))
    world.kubelet.start_container(runs, "main")
    break_cards(world, 2)
    world.kubelet.wait_devices(30)

    world.kubelet.start_container(runs, "main")
    with pytest.raises(Exception, match=f"card {card(2)}, granted to pod default/new, is unhealthy"):
        world.kubelet.start_container(new, "main")


def test_an_inventory_that_another_writer_changes_is_put_back(world: World):
    world.run()
    await_published(world, [True] * 4)

    world.kube.patch(NODE_PATH, {"metadata": {"annotations": {KEY: '{"v":1,"cards":[]}'}}})

    await_published(world, [True] * 4)


def test_the_inventory_is_written_once_however_often_the_node_changes(world: World):
    world.run()
    await_published(world, [True] * 4)
    for beat in range(20):
        node = world.kube.get(NODE_PATH)
        node["status"]["beat"] = beat
        world.kube.put(node)
    break_cards(world, 0)
    await_published(world, [False, True, True, True])

    patches = [write for write in world.kube.writes if write[0] == "PATCH"]
    assert patches == [("PATCH", f"{NODE_PATH}/status"), *[("PATCH", NODE_PATH)] * 2]
    assert world.kube.get(NODE_PATH)["status"]["allocatable"]["nvidia.com/gpumem"] == "2147483647"


def test_a_refused_write_of_the_inventory_is_tried_again(world: World):
    failures = iter([True, True])

    def fail(method: str, path: str) -> None:
        if method == "PATCH" and next(failures, False):
            raise Unreachable("connection refused")

    world.kube.fail = fail
    world.run()

    await_published(world, [True] * 4)


def test_cards_that_kerf_does_not_slice_are_published_and_have_no_slots(world: World):
    model = {"model": "NVIDIA H100 80GB HBM3", "memory_mib": GIB_80}
    full = {**model, "mode": "mig", "instances": [{"profile": "7g.80gb", "start": 0}]}
    fleet = {"cards": [{**model, "mode": "shared"}, {**model, "mode": "mps"}, full]}
    Path(world.settings.probe.partition(":")[2]).write_text(yaml.safe_dump(fleet))

    world.run(slots=20)

    await_published(world, [True] * 3)


def test_a_broken_fleet_file_makes_every_card_unhealthy_and_the_next_good_one_heals(world: World):
    world.run()
    path = Path(world.settings.probe.partition(":")[2])
    good = path.read_text()

    path.write_text("cards: 3")
    world.kubelet.wait_devices(0)
    path.write_text(good)

    world.kubelet.wait_devices(40)


def test_pools_over_commit_only_the_nodes_they_select(world: World, tmp_path: Path):
    policy = tmp_path / "policy.yaml"
    pool: dict[str, Any] = {"name": "dev", "nodeSelector": {"pool": "dev"}, "memoryOvercommit": 1.5}
    policy.write_text(
        yaml.safe_dump({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": {"pools": [pool]}})
    )
    node = world.kube.get(NODE_PATH)
    node["metadata"]["labels"] = {"pool": "dev"}
    world.kube.put(node)
    world.settings = type(world.settings)(
        **{name: getattr(world.settings, name) for name in world.settings.__slots__ if name != "config"},
        config=str(policy),
    )
    world.run()
    # 3 x 40,000 = 120,000 MiB of 1.5 x 81,920 = 122,880
    pods = [world.bind(one_slice(f"pod-{i}", 40_000)) for i in range(4)]

    for pod in pods[:3]:
        world.kubelet.start_container(pod, "main")
    with pytest.raises(Exception, match="120,000 of its 122,880 are held"):
        world.kubelet.start_container(pods[3], "main")
