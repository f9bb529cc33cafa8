"""Stand-ins for the vendors' own device plugins: they publish, lock and read as those of HAMi's kind do.

`register` is what such a plugin patches into its node every 30 seconds. `allocate` is what it does when the kubelet
calls: find the pod that the node lock names, take the devices of its next container out of `…-devices-to-allocate`,
and after the last container note the success and release the lock. (HAMi 2.10.0: `pkg/util/util.go` GetPendingPod and
PodAllocationTrySuccess; `internal/server/allocate.go` of Project-HAMi/ascend-device-plugin.)
"""

from dataclasses import dataclass
from typing import Any

from kerf.kube.client import Kube
from kerf.wire.hami import LOCK, parse_lock

PHASE = "hami.io/bind-phase"


class NothingToAllocate(Exception):
    """No node lock names a pending pod, or the pod has no container left."""


@dataclass
class StandIn:
    """A plugin on one node that reads one annotation of pods."""

    kube: Kube
    node: str
    to_allocate: str

    def register(self, **annotations: str) -> None:
        """Publish the cards and the handshake, waiting for nobody."""
        self._patch_node({**annotations, "hami.io/node-handshake": "Reported_2026.11.27 12:00:00"})

    def allocate(self) -> list[tuple[str, str, int, int]]:
        """One container's devices: id, type, MiB, cores."""
        pod = self._pending()
        notes = pod["metadata"]["annotations"]
        if notes.get(PHASE) != "allocating" or notes.get("hami.io/vgpu-node") != self.node:
            raise NothingToAllocate("the pod of the lock is not being allocated here")
        places = notes[self.to_allocate].split(";")[:-1]
        position = next((i for i, place in enumerate(places) if place), None)
        if position is None:
            raise NothingToAllocate("every container has its devices")
        devices = [self._device(text) for text in places[position].split(":") if text]
        places[position] = ""
        done = not any(places)
        changes = {self.to_allocate: "".join(f"{place};" for place in places)} | ({PHASE: "success"} if done else {})
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self.kube.patch(path, {"metadata": {"annotations": changes}})
        if done:
            self._patch_node({LOCK: None})
        return devices

    def _pending(self) -> dict[str, Any]:
        node = self.kube.get(f"/api/v1/nodes/{self.node}")
        _, namespace, name = parse_lock(str(node["metadata"].get("annotations", {}).get(LOCK) or ""))
        if not name:
            raise NothingToAllocate("no node lock names a pending pod")
        return self.kube.get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    def _patch_node(self, annotations: dict[str, Any]) -> None:
        self.kube.patch(f"/api/v1/nodes/{self.node}", {"metadata": {"annotations": annotations}})

    @staticmethod
    def _device(text: str) -> tuple[str, str, int, int]:
        card, kind, mib, cores = text.split(",")
        return card, kind, int(mib), int(cores)
