"""The driver with a fake API server: claims are prepared once, twice and after restarts to the same, and released."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin._pb import kubelet_dra_v1_pb2 as dra
from deviceplugin._pb import kubelet_pluginregistration_v1_pb2 as reg
from deviceplugin.kubelet import rpc
from kerf.testing.builders import a_claim, a_claiming_pod, a_grant
from kerf.values.allocator import Allocator
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.inventory import KEY, parse_inventory
from kerf.wire.resourceslices import SLICES
from sandbox.processes import await_until
from tests.deviceplugin.plugin_world import NODE, World, a_world

DEVICE = f"gpu-{NODE}-"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    policy = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy"}
    pools = {"spec": {"pools": [{"name": "all", "allocator": "dra"}]}}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy | pools))
    more = {"config": str(tmp_path / "policy.yaml"), "dra": True, "hand_over_seconds": 0.1}
    directories = {"plugins_registry_dir": str(tmp_path / "r"), "plugins_dir": str(tmp_path / "p")}
    with a_world(tmp_path, **more, **directories) as made:
        made.kubelet.start()
        started(made)
        yield made


def started(world: World) -> None:
    """Start the plugin, register its driver and wait until claims are given the four cards."""
    started_with(world, cards=4, devices=8)


def started_with(world: World, cards: int, devices: int) -> None:
    """The same for so many cards, and so many devices."""
    world.start_plugin()
    registry = world.root / "r" / "gpu.kerf.dev-reg.sock"
    await_until(registry.exists, "the driver's socket")
    with rpc.connect(str(registry)) as channel:
        info = channel.unary_unary("/pluginregistration.Registration/GetInfo", bytes, reg.PluginInfo.FromString)(b"")
        notify = "/pluginregistration.Registration/NotifyRegistrationStatus"
        channel.unary_unary(notify, reg.RegistrationStatus.SerializeToString, bytes)(
            reg.RegistrationStatus(plugin_registered=True)
        )
    assert (info.name, list(info.supported_versions)) == ("gpu.kerf.dev", ["v1.DRAPlugin", "v1beta1.DRAPlugin"])
    await_until(lambda: hands(world) == [Allocator.DRA] * cards, "the cards to be given to claims")
    await_until(lambda: len(listed(world)) == devices, "the devices")


def hands(world: World) -> list[Allocator]:
    notes = world.kube.get(f"/api/v1/nodes/{NODE}")["metadata"]["annotations"]
    return [card.allocator for card in parse_inventory(notes[KEY])] if KEY in notes else []


def listed(world: World) -> list[str]:
    return [d["name"] for item in world.kube.objects(SLICES) for d in item["spec"].get("devices", [])]


def prepared(world: World, *claims: str, version: str = "v1") -> dict[str, Any]:
    """By claim, its devices as (device, CDI device), or why it is refused."""
    refs = [dra.Claim(namespace="default", name=name, uid=f"uid-{name}") for name in claims]
    answer = _call(world, "NodePrepareResources", dra.NodePrepareResourcesRequest(claims=refs), version)
    read = dra.NodePrepareResourcesResponse.FromString(answer).claims
    return {
        name: read[f"uid-{name}"].error or [(d.device_name, *d.cdi_device_ids) for d in read[f"uid-{name}"].devices]
        for name in claims
    }


def released(world: World, *claims: str) -> None:
    refs = [dra.Claim(namespace="default", name=name, uid=f"uid-{name}") for name in claims]
    _call(world, "NodeUnprepareResources", dra.NodeUnprepareResourcesRequest(claims=refs), "v1")


def _call(world: World, method: str, request: Any, version: str) -> bytes:
    with rpc.connect(str(world.root / "p" / "gpu.kerf.dev" / "dra.sock")) as channel:
        path = f"/k8s.io.kubelet.pkg.apis.dra.{version}.DRAPlugin/{method}"
        return channel.unary_unary(path, type(request).SerializeToString, lambda answer: answer)(request, timeout=20)


def test_one_container_with_two_claims_gets_one_cdi_device_for_both_and_again_after_a_restart(world: World):
    world.kube.put(a_claiming_pod(main=["a", "b"]))
    world.kube.put(a_claim("a", (f"{DEVICE}0", 4096, 20)))
    world.kube.put(a_claim("b", (f"{DEVICE}1", 8192, 30)))
    cdi = "kerf.dev/grant=claim-uid-default-pod-1-0"
    expected = {"a": [(f"{DEVICE}0", cdi)], "b": [(f"{DEVICE}1",)]}

    assert prepared(world, "a", "b") == expected
    assert world.got(cdi) == ((f"GPU-{NODE}-0", 4096, 20), (f"GPU-{NODE}-1", 8192, 30))
    world.stop_plugin()
    started(world)
    assert prepared(world, "a", "b", version="v1beta1") == expected
    fullest = [f"{DEVICE}1", f"{DEVICE}0"]
    await_until(lambda: listed(world)[:2] == fullest, "the fullest card to come first")


def test_a_claim_of_another_driver_may_serve_several_pods_beside_a_slice(world: World):
    world.kube.put(a_claiming_pod(main=["a", "network"]))
    world.kube.put(a_claim("a", (f"{DEVICE}0", 4096, 20)))
    network = a_claim("network", ("nic-0", None, 0), pods=("pod-2", "pod-3"))
    network["status"]["allocation"]["devices"]["results"][0]["driver"] = "net.example.com"
    world.kube.put(network)

    assert prepared(world, "a") == {"a": [(f"{DEVICE}0", "kerf.dev/grant=claim-uid-default-pod-1-0")]}


def test_a_released_claim_leaves_no_file_and_a_second_release_is_no_error(world: World):
    world.kube.put(a_claiming_pod(main=["a"]))
    world.kube.put(a_claim("a", (f"{DEVICE}0", 4096, 20)))
    prepared(world, "a")
    files = [Path(world.settings.cdi_dir), Path(world.settings.state_dir) / "grants"]
    assert [len(list(folder.glob("*uid-default-pod-1*"))) for folder in files] == [1, 1]

    released(world, "a")
    released(world, "a")

    assert [len(list(folder.glob("*uid-default-pod-1*"))) for folder in files] == [0, 0]


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        (a_claim("a"), "claim default/a is not allocated"),
        (a_claim("a", (f"{DEVICE}0", 1, 1), node="other"), "holds cards of node other, not of node-1"),
        (
            a_claim("a", (f"{DEVICE}0", 1, 1), pods=("pod-2",)),
            "is reserved for pod-1, pod-2: a slice belongs to one pod",
        ),
        (a_claim("a", (f"{DEVICE}0", 1, 1), pod="pod-9"), "which is not bound to node node-1"),
        (a_claim("a", ("nvme-0", 1, 1)), "this is no device that Kerf publishes"),
        (a_claim("a", (f"{DEVICE}7", 1, 1)), f"card GPU-{NODE}-7, which this node lacks"),
    ],
)
def test_a_claim_that_cannot_be_kept_is_refused_with_the_reason(world: World, claim: dict[str, Any], problem: str):
    world.kube.put(a_claiming_pod(main=["a"]))
    world.kube.put(claim)

    assert problem in prepared(world, "a")["a"]


def test_a_claim_that_was_made_again_under_its_name_is_another_claim(world: World):
    world.kube.put(a_claiming_pod(main=["a"]))
    claim = a_claim("a", (f"{DEVICE}0", 1, 1))
    world.kube.put({**claim, "metadata": {**claim["metadata"], "uid": "newer"}})

    assert "another one (newer) than the kubelet means (uid-a)" in prepared(world, "a")["a"]


def test_one_pod_uses_one_way_and_a_card_has_one_allocator(world: World):
    both = a_claiming_pod(main=["a"])
    both["metadata"]["annotations"][GRANT] = render_grant(a_grant(f"GPU-{NODE}-0"))
    world.kube.put(both)
    world.kube.put(a_claim("a", (f"{DEVICE}0", 1, 1)))

    assert "by extended resources and by claims: use one of them" in prepared(world, "a")["a"]
    assert set(world.kubelet.devices.values()) == {"Unhealthy"}
