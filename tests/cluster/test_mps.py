"""MPS on a real kubelet: cards change when they are empty, containers get their daemon, and its end is seen."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.values.device import Backend, Card, Mode
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.inventory import KEY, parse_inventory
from sandbox import SLEEPER, Command, ControlPlane, Node, await_until
from sandbox.stack import plugin_on
from tests.cluster.sandbox_pods import PODS, await_report, await_running
from tests.deviceplugin.mps.fake_control import a_program

pytestmark = pytest.mark.cluster

USER = "system:serviceaccount:kerf-system:kerf-deviceplugin"
CARDS = ("GPU-sim-0", "GPU-sim-1")


@dataclass(frozen=True)
class Sharing:
    """The device plugin and the supervisor of MPS daemons beside a real node."""

    cp: ControlPlane
    node: Node
    folder: Path

    def ask_for(self, mode: str) -> None:
        spec = {"pools": [{"name": "all", "mode": mode}]}
        fresh = self.folder / "policy.new"
        fresh.write_text(yaml.safe_dump({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": spec}))
        fresh.replace(self.folder / "policy.yaml")

    def cards(self) -> tuple[Card, ...]:
        notes = self.cp.api.get(f"/api/v1/nodes/{self.node.name}")["metadata"].get("annotations", {})
        return parse_inventory(notes[KEY]) if KEY in notes else ()

    def await_modes(self, *modes: Mode) -> tuple[Card, ...]:
        def are() -> bool:
            cards = self.cards()
            return tuple(card.mode for card in cards) == modes and all(card.healthy for card in cards)

        await_until(are, f"cards in modes {modes}")
        return self.cards()

    def bind(self, name: str, card: int, **annotations: str) -> None:
        """A pod with 8,000 MiB and 30 % of a card, bound to the node."""
        limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "8000", "nvidia.com/gpucores": "30"}
        container = {"name": "main", "image": SLEEPER, "imagePullPolicy": "Never", "resources": {"limits": limits}}
        metadata = {"name": name, "namespace": "default", "annotations": annotations}
        spec = {"schedulerName": "nobody", "terminationGracePeriodSeconds": 1, "containers": [container]}
        self.cp.api.post(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        grant = Grant((ContainerGrant("main", (Slice(CARDS[card], "nvidia", 8000, 30),)),))
        target = {"apiVersion": "v1", "kind": "Node", "name": self.node.name}
        noted = {"name": name, "annotations": {GRANT: render_grant(grant)}}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": noted, "target": target}
        self.cp.api.post(f"{PODS}/{name}/binding", binding)

    def remove(self, name: str) -> None:
        self.cp.api.delete(f"{PODS}/{name}", grace_seconds=0)

    def daemon(self, card: int) -> int:
        """Its PID; 0 while there is none, or its file is being written."""
        file = self.folder / "state/mps" / CARDS[card] / "pipe/nvidia-cuda-mps-control.pid"
        return int(file.read_text() or 0) if file.exists() else 0

    def events(self, about: str) -> list[str]:
        found: list[dict[str, Any]] = self.cp.api.get("/api/v1/namespaces/default/events")["items"]
        return [each["message"] for each in found if each["involvedObject"]["name"] == about]


@pytest.fixture(scope="module")
def sharing(control_plane: ControlPlane, node: Node) -> Iterator[Sharing]:
    folder = control_plane.run_dir / "mps"
    folder.mkdir()
    cards = {"model": "NVIDIA H100 80GB HBM3", "memory_mib": 81_920, "ids": list(CARDS), "count": 2}
    (folder / "fleet.yaml").write_text(yaml.safe_dump({"cards": [cards]}))
    (folder / "libkerf.so").write_bytes(b"the sleeper is static")
    made = Sharing(control_plane, node, folder)
    made.ask_for("auto")
    plugin = (
        *plugin_on(node, control_plane.kubeconfig_for(USER), folder / "fleet.yaml", folder / "state"),
        "--cdi-specs-from", str(node.cdi_dirs[0]),
        "--limiter", str(folder / "libkerf.so"),
        "--config", str(folder / "policy.yaml"),
    )  # fmt: skip
    supervisor = (
        sys.executable, "-m", "deviceplugin.mps",
        "--state-dir", str(folder / "state"), "--control", str(a_program(folder)),
    )  # fmt: skip
    control_plane.supervisor.start(Command("deviceplugin", plugin, ready=(folder / "state").exists))
    await_until(lambda: bool(made.cards()), "the inventory")
    control_plane.supervisor.start(Command("mps", supervisor, ready=(folder / "state/mps/report.json").exists))
    yield made
    control_plane.supervisor.stop("deviceplugin")
    control_plane.supervisor.stop("mps")


def test_a_node_shares_its_cards_through_mps_from_its_first_daemon_to_the_last(sharing: Sharing):
    cards = sharing.await_modes(Mode.MPS, Mode.MPS)
    assert {(card.backend, card.joint, card.mode_note) for card in cards} == {(Backend.MPS, False, "")}

    sharing.bind("mps-one", 0)
    environment = await_report(sharing.node, "mps-one").environment
    assert {name: value for name, value in environment.items() if name.startswith("CUDA_MPS")} == {
        "CUDA_MPS_PIPE_DIRECTORY": "/usr/local/kerf/mps",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "GPU-sim-0=8000M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
    }

    sharing.bind("mps-strict", 1, **{"nvidia.com/vgpu-mode": "hami-core"})
    refusal = "in mode mps: the pod accepts preload alone"
    await_until(lambda: any(refusal in said for said in sharing.events("mps-strict")), "the refusal's event")
    sharing.remove("mps-strict")

    before = sharing.daemon(0)
    os.kill(before, signal.SIGKILL)
    said = "its MPS daemon does not run"
    await_until(lambda: any(said in each for each in sharing.events(sharing.node.name)), "the node's event")
    await_until(lambda: sharing.daemon(0) not in {before, 0}, "another daemon")
    sharing.await_modes(Mode.MPS, Mode.MPS)
    await_running(sharing.cp, "mps-one")

    sharing.ask_for("preload")
    (busy, _) = sharing.await_modes(Mode.MPS, Mode.SHARED)
    assert busy.mode_note == (
        "its pool asks for mode preload: it changes once no pod holds a slice of the cards that change with it"
    )
    sharing.remove("mps-one")
    sharing.await_modes(Mode.SHARED, Mode.SHARED)
