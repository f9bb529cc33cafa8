"""Pods on MIG instances, on a real kubelet and a real API server. The driver is simulated; everything else is not."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.probes.simulated import SimulatedProbe
from kerf.values.mig import Instance
from kerf.wire.inventory import KEY, parse_inventory
from sandbox import ControlPlane, Node, await_until, parse_report
from sandbox.stack import PLUGIN, start_plugin, start_stack, stop_stack
from tests.cluster.gpu_pods import pods
from tests.cluster.one_pod_sets import SETS, OnePodSets

pytestmark = pytest.mark.cluster
POLICY = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "SchedulingPolicy",
    "spec": {"recovery": {"mode": "recover", "cleanReadings": 2}},
}
CARD = {"model": "NVIDIA H100 80GB HBM3", "memory_mib": 81_079, "mode": "mig"}
FOREIGN = {"card": 1, "profile": "1g.10gb", "start": 6}


@dataclass
class World(OnePodSets):
    """A real node with two cards in MIG mode, one of which holds an instance of somebody else's."""

    mem = 9_000
    cores = None
    fleet: Path
    log: Path

    def remove(self, *names: str) -> None:
        for name in names:
            self.cp.api.delete(f"{SETS}/{name}")
        await_until(lambda: not set(names) & {p["metadata"]["labels"]["app"] for p in pods(self.cp)}, "pods to go")

    def uid(self, name: str) -> str:
        return str(self.running().get(name, {"metadata": {"uid": ""}})["metadata"]["uid"])

    def sees(self, name: str) -> str:
        """The devices that the pod's process finds in its environment."""
        pod = self.running()[name]["metadata"]["name"]
        await_until(lambda: parse_report(self.node.output("default", pod, "main")).complete, f"{name} to report")
        return parse_report(self.node.output("default", pod, "main")).environment["NVIDIA_VISIBLE_DEVICES"]

    def instances(self) -> list[Instance]:
        """All instances of both cards, as the driver has them."""
        probe = SimulatedProbe(str(self.fleet), self.node.name)
        return [each for card in probe.cards() for each in probe.mig.instances(card.id)]

    def inventory(self) -> list[Any]:
        notes = self.cp.api.get(f"/api/v1/nodes/{self.node.name}")["metadata"]["annotations"]
        return list(parse_inventory(notes[KEY]))


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, node: Node) -> Iterator[World]:
    folder = control_plane.run_dir / "mig"
    folder.mkdir()
    policy, log, fleet = folder / "policy.yaml", folder / "kmsg", folder / "fleet.yaml"
    policy.write_text(json.dumps(POLICY))
    log.touch()
    fleet.write_text(yaml.safe_dump({"cards": [{**CARD, "count": 2, "instances": [FOREIGN]}]}))
    start_stack(control_plane, policy=policy)
    start_plugin(control_plane, node, fleet, ("--kernel-log", str(log), "--config", str(policy)))
    made = World(control_plane, node, fleet, log)
    yield made
    made.clear()
    stop_stack(control_plane, PLUGIN)


@pytest.fixture(autouse=True)
def free_cards(world: World) -> Iterator[None]:
    yield
    world.clear()


def test_pods_run_on_instances_of_their_own_until_every_place_is_taken_and_the_next_one_hears_why(world: World):
    """Thirteen 1g: seven on one card, six beside somebody else's instance on the other."""
    names = [f"p{i:02}" for i in range(13)]
    world.run(*names)

    seen = [world.sees(name) for name in names]
    assert len(set(seen)) == 13
    assert set(seen) < {each.uuid for each in world.instances()}
    assert all(device.startswith("MIG-") for device in seen)

    world.create("late")
    world.remove("p00")
    await_until(lambda: "late" in world.running(), "the place of a pod that has gone to be used")
    assert world.sees("late") not in seen


def test_instances_outlive_the_device_plugin_and_end_with_their_pods(world: World):
    world.run("small", "large")
    before = {name: world.sees(name) for name in ("small", "large")}

    world.cp.kill(PLUGIN)
    world.cp.supervisor.restart(PLUGIN)
    assert {name: world.sees(name) for name in before} == before
    assert [len(card.mig.taken) for card in world.inventory()] == [0, 1]

    world.remove("small", "large")
    await_until(lambda: len(world.instances()) == 1, "Kerf's instances to be removed")
    assert world.instances()[0].uuid.startswith("MIG-of-the-file")


def test_a_fault_of_one_instance_moves_its_pod_alone(world: World):
    world.run("hit", "beside", mem=30_000)
    hit, beside, device = world.uid("hit"), world.uid("beside"), world.sees("hit")
    probe = SimulatedProbe(str(world.fleet), world.node.name)
    (where,) = [(c, i) for c in probe.cards() for i in probe.mig.instances(c.id) if i.uuid == device]
    card, instance = where

    line = f"NVRM: Xid (PCI:{card.bus} GPU-I:{instance.id:02}): 48, pid=1, name=a, double bit"
    with world.log.open("a") as file:
        file.write(f"3,1,{int(time.monotonic() * 1e6)},-;{line}\n")

    await_until(lambda: world.uid("hit") not in {"", hit}, "the pod to run elsewhere")
    assert (world.uid("beside"), world.sees("hit") != device) == (beside, True)
