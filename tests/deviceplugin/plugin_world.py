"""A node in this process: a fake kubelet, a fake API server, and the real device plugin between them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deviceplugin.main import Settings, serve
from kerf.testing.builders import a_container, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.vendor import Vendor
from kerf.vendors.registry import VENDORS
from kerf.wire.limiter import LedgerView, parse_ledger
from tests.deviceplugin.fake_kubelet import Admitted, FakeKubelet

NODE = "node-1"
GIB_80 = 81_920


@dataclass
class World:
    """The kubelet, the API server, and the plugin with its directories."""

    root: Path
    kubelet: FakeKubelet
    kube: FakeKube
    settings: Settings
    vendors: tuple[Vendor, ...] = VENDORS
    _running: "tuple[threading.Thread, threading.Event] | None" = None

    def start_plugin(self) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=serve, args=(self.settings, self.kube, stop, self.vendors), daemon=True)
        self._running = (thread, stop)
        thread.start()

    def stop_plugin(self) -> None:
        if self._running is not None:
            thread, stop = self._running
            stop.set()
            thread.join(20.0)
            assert not thread.is_alive()
            self._running = None

    def run(self, slots: int = 40) -> "World":
        self.kubelet.start()
        self.start_plugin()
        self.kubelet.wait_devices(slots)
        return self

    def restart_plugin(self, slots: int = 40) -> None:
        seen = len(self.kubelet.requests)
        self.stop_plugin()
        self.start_plugin()
        self.kubelet.wait_registrations(seen + 1)
        self.kubelet.wait_devices(slots)

    def bind(self, pod: dict[str, Any]) -> Admitted:
        """The pod as the API server has it after binding, admitted by the kubelet."""
        return self.kubelet.admit(self.kube.put(pod))

    def runtime_edits(self, name: str) -> dict[str, Any]:
        """What the runtime makes of a CDI device name: environment, and host path by container path."""
        found = [
            device["containerEdits"]
            for path in sorted(Path(self.settings.cdi_dir).glob("*.json"))
            for spec in [json.loads(path.read_text())]
            for device in spec["devices"]
            if f"{spec['kind']}={device['name']}" == name
        ]
        assert len(found) == 1, f"{len(found)} CDI devices are called {name}"
        env = dict(item.split("=", 1) for item in found[0].get("env", []))
        return {"env": env, "mounts": {m["containerPath"]: m["hostPath"] for m in found[0].get("mounts", [])}}

    def got(self, name: str) -> tuple[tuple[str, int, int], ...]:
        """What a container that starts now would hold: (card, MiB, cores) by environment and by ledger, which agree."""
        edits = self.runtime_edits(name)
        cards = edits["env"]["NVIDIA_VISIBLE_DEVICES"].split(",")
        memory = [int(edits["env"][f"CUDA_DEVICE_MEMORY_LIMIT_{i}"].removesuffix("m")) for i in range(len(cards))]
        ledger = read_ledger(edits["mounts"][edits["env"]["KERF_LEDGER"]])
        by_ledger = tuple((card.uuid, (card.memory_bytes or 0) >> 20, card.cores or 0) for card in ledger.spec.cards)
        assert [(card, mib) for card, mib, _ in by_ledger] == list(zip(cards, memory, strict=True))
        return by_ledger


def read_ledger(path: str) -> LedgerView:
    return parse_ledger(Path(path).read_bytes())


@contextmanager
def a_world(root: Path, **settings: Any) -> Iterator[World]:
    """A node with four simulated cards of 80 GiB, not yet running."""
    fleet = root / "fleet.yaml"
    fleet.write_text(yaml.safe_dump({"cards": [{"model": "NVIDIA H100 80GB HBM3", "memory_mib": GIB_80, "count": 4}]}))
    kubelet = FakeKubelet(root)
    kube = FakeKube(a_node(NODE, cards=()))
    world = World(
        root,
        kubelet,
        kube,
        Settings(
            node_name=NODE,
            probe=f"simulated:{fleet}",
            pod_resources_socket=str(kubelet.socket),
            device_plugin_dir=str(kubelet.plugin_dir),
            cdi_dir=str(root / "cdi"),
            cdi_specs_from=(str(root / "node-cdi"),),
            state_dir=str(root / "state"),
            leave_seconds=0.0,
            **settings,
        ),
    )
    try:
        yield world
    finally:
        kubelet.stop()  # first: a plugin that stops waits a second for streams that are open
        world.stop_plugin()


def card(index: int) -> str:
    return f"GPU-{NODE}-{index}"


def a_sliced_pod(name: str, **containers: list[tuple[int, int, int]]) -> dict[str, Any]:
    """A bound pod whose containers ask for, and were granted, (card, MiB, cores) each.

    A container called `init…` is a plain init container, `sidecar…` a restartable one.
    """
    grant = Grant(
        tuple(
            ContainerGrant(key, tuple(Slice(card(index), "nvidia", mib, cores) for index, mib, cores in slices))
            for key, slices in containers.items()
        )
    )
    made = {
        key: a_container(key, gpu=len(slices), mem=max(mib for _, mib, _ in slices), cores=max(c for *_, c in slices))
        for key, slices in containers.items()
    }
    init = [
        {**container, **({"restartPolicy": "Always"} if key.startswith("sidecar") else {})}
        for key, container in made.items()
        if key.startswith(("init", "sidecar"))
    ]
    apps = [container for key, container in made.items() if not key.startswith(("init", "sidecar"))]
    return a_pod(name, containers=apps, init=init, grant=grant, node=NODE)


def one_slice(name: str, mib: int, on: int = 0, cores: int = 5) -> dict[str, Any]:
    return a_sliced_pod(name, main=[(on, mib, cores)])
