"""ReplicaSets of one pod each: a pod that is evicted gets a successor under the same name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kerf.testing.builders import a_container
from sandbox import SLEEPER, ControlPlane, Node, await_until
from tests.cluster.gpu_pods import pods, remove_pods

SETS = "/apis/apps/v1/namespaces/default/replicasets"


@dataclass
class OnePodSets:
    """On a real node. A world says what each pod asks for, and adds what it needs."""

    cp: ControlPlane
    node: Node
    mem: ClassVar[int]
    cores: ClassVar[int | None]

    def run(self, *names: str, mem: int = 0, notes: Mapping[str, str] | None = None) -> None:
        """Create the sets and wait until their pods run. `notes` are annotations of the pods."""
        self.create(*names, mem=mem, notes=notes)
        await_until(lambda: set(names) <= set(self.running()), f"{', '.join(names)} to run")

    def create(self, *names: str, mem: int = 0, notes: Mapping[str, str] | None = None) -> None:
        for name in names:
            main = a_container("main", mem=mem or self.mem, cores=self.cores)
            containers = [{**main, "image": SLEEPER, "imagePullPolicy": "Never"}]
            labels = {"app": name}
            spec = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "containers": containers}
            template = {"metadata": {"labels": labels, "annotations": dict(notes or {})}, "spec": spec}
            meta = {"name": name, "namespace": "default"}
            body = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
            self.cp.api.post(SETS, {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": body})

    def clear(self) -> None:
        """Delete all sets and their pods."""
        for one in self.cp.api.get(SETS)["items"]:
            self.cp.api.delete(f"{SETS}/{one['metadata']['name']}")
        remove_pods(self.cp)

    def running(self) -> dict[str, dict[str, Any]]:
        """The running pods that are not leaving, by the name of their set."""
        return {
            pod["metadata"]["labels"]["app"]: pod
            for pod in pods(self.cp)
            if pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
        }
