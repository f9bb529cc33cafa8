"""The gate by itself: pods identified in any way, without a kubelet and without slots."""

import json
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.core.start import Start
from deviceplugin.gate.pods import BoundPods
from deviceplugin.gate.rules import Rules
from deviceplugin.gate.start import StartGate
from deviceplugin.state.allocations import Allocation, Allocations
from deviceplugin.state.files import Files
from deviceplugin.state.node import LocalNode
from deviceplugin.state.node_specs import NodeSpecs
from kerf.testing.builders import a_card, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.limiter import parse_ledger

CLAIM = (Start("main", ("claim-7",)),)
"""A container that was identified by a claim: its CDI device has the claim's name."""


class World:
    """One node with one card of 80,000 MiB."""

    def __init__(self, root: Path, *pods: dict[str, Any]) -> None:
        self.root = root
        self.kube = FakeKube(a_node("node-1", cards=()), *pods)
        node = LocalNode("node-1")
        node.update_cards((a_card(0, memory_mib=80_000),))
        self.files = Files(str(root / "state"), str(root / "cdi"), None, NodeSpecs((), VENDORS))
        self.pods = BoundPods(self.kube, node, VENDORS)
        self.gate = StartGate(self.pods, self.files, node, Rules(VENDORS, SchedulingPolicy))

    def admit(self, name: str, starts: tuple[Start, ...] = CLAIM) -> str:
        """Why the pod may not start; empty if it may."""
        listing = self.pods.list()
        pod = listing.named("default", name)
        assert pod is not None
        refusal = self.gate.admit_pod(pod, listing, "claim-7", starts, "nvidia")
        return refusal.message if refusal else ""

    def devices(self) -> dict[str, list[str]]:
        """Environment by CDI device."""
        specs = [json.loads(path.read_text()) for path in (self.root / "cdi").iterdir()]
        return {device["name"]: device["containerEdits"]["env"] for spec in specs for device in spec["devices"]}


def a_bound_pod(name: str, mib: int) -> dict[str, Any]:
    return a_pod(name, mem=mib, grant=a_grant(memory_mib=mib), node="node-1")


def test_an_admitted_pod_has_a_spec_under_the_names_it_was_identified_by_and_a_ledger(tmp_path: Path):
    world = World(tmp_path, a_bound_pod("p", 8000))

    assert world.admit("p") == ""

    assert world.devices() == {
        "claim-7": [
            "NVIDIA_VISIBLE_DEVICES=GPU-0",
            "CUDA_DEVICE_MEMORY_LIMIT_0=8000m",
            "CUDA_DEVICE_SM_LIMIT=30",
            "KERF_LEDGER=/usr/local/kerf/ledger",
        ]
    }
    ledger = Path(world.files.ledger_path("uid-default-p", "main")).read_bytes()
    assert [(c.limit.uuid, (c.limit.memory_bytes or 0) >> 20) for c in parse_ledger(ledger).cards] == [("GPU-0", 8000)]


def test_a_refused_pod_has_no_files(tmp_path: Path):
    world = World(tmp_path, a_bound_pod("a", 50_000), a_bound_pod("b", 50_000))
    assert world.admit("a") == ""
    before = world.devices()

    assert world.admit("b") == (
        "pod default/b was granted 50,000 MiB of card GPU-0, but 50,000 of its 80,000 are held (default/a): "
        "30,000 are free"
    )
    assert (world.devices(), list(world.files.grants())) == (before, ["uid-default-a"])


@pytest.mark.parametrize("end", ["removed", "Succeeded"])
def test_the_clean_up_removes_what_belongs_to_pods_that_are_over(tmp_path: Path, end: str):
    world = World(tmp_path, a_bound_pod("p", 8000))
    world.admit("p")
    assert world.gate.clean() == 0

    if end == "removed":
        world.kube.remove("/api/v1/namespaces/default/pods/p")
    else:
        world.kube.put({**a_bound_pod("p", 8000), "status": {"phase": end}})

    assert world.gate.clean() == 3  # ledger, grant and spec
    assert (world.devices(), world.files.grants(), world.files.ledgers()) == ({}, {}, ())


def test_the_clean_up_removes_records_of_slots_that_pods_no_longer_have(tmp_path: Path):
    world = World(tmp_path, a_bound_pod("stays", 2000))
    world.admit("stays")
    allocations = Allocations(world.files)
    allocations.write("kerf-0", Allocation("uid-default-gone", ("main",), "nvidia"))
    allocations.write("kerf-1", stays := Allocation("uid-default-stays", ("main",), "nvidia"))
    world.files.write_allocated("kerf-2", "{")

    assert world.gate.clean() == 2

    assert allocations.by_stem() == {"kerf-1": stays}
    assert list(world.files.allocated()) == ["kerf-1"]


def test_a_ledger_has_the_cards_that_this_plugin_serves(tmp_path: Path):
    """Another vendor's plugin of the node knows its own cards alone, and each has its own state directory."""
    slices = (Slice("GPU-0", "nvidia", 8000, 30), Slice("NPU-0", "acme", 4000, 20))
    pod = a_pod("p", mem=8000, grant=Grant((ContainerGrant("main", slices),)), node="node-1")
    world = World(tmp_path, pod)

    assert world.admit("p") == ""

    ledger = Path(world.files.ledger_path("uid-default-p", "main")).read_bytes()
    assert [card.limit.uuid for card in parse_ledger(ledger).cards] == ["GPU-0"]
