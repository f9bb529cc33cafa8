"""MultiKueue among the control planes of one machine: a manager that sends jobs to workers, each with its own Kueue."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.controlplane import ControlPlane
from sandbox.kueuedocs import KUEUE_API, NAMESPACE, render_kubeconfig_secret, render_multikueue
from sandbox.processes import await_until

CHECK = "multikueue"
"""The AdmissionCheck that a manager's ClusterQueues name, and its MultiKueueConfig."""
USER = "multikueue"


def join_workers(manager: ControlPlane, workers: Mapping[str, ControlPlane]) -> None:
    """Register the workers at the manager's Kueue, by name, and wait until it is connected to each.

    Both sides must already run Kueue. Namespaces and LocalQueues must exist on both under the same names.
    """
    for name, worker in workers.items():
        secret = render_kubeconfig_secret(name, kubeconfig(worker))
        manager.api.apply(f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}", secret)
    for document in render_multikueue(CHECK, tuple(workers)):
        plural = f"{document['kind'].lower()}s"
        manager.api.apply(f"{KUEUE_API}/{plural}/{document['metadata']['name']}", document)

    def connected() -> bool:
        check = manager.api.get(f"{KUEUE_API}/admissionchecks/{CHECK}")
        clusters = [manager.api.get(f"{KUEUE_API}/multikueueclusters/{name}") for name in workers]
        return all(_is_active(each) for each in (check, *clusters))

    await_until(connected, f"Kueue to reach {', '.join(workers)}")


def kubeconfig(cp: ControlPlane, user: str = USER) -> dict[str, Any]:
    """An administrator's kubeconfig that contains its certificates, as MultiKueue requires."""
    config: dict[str, Any] = json.loads(cp.kubeconfig_for(user).read_text())
    for entry in (*(each["cluster"] for each in config["clusters"]), *(each["user"] for each in config["users"])):
        for key in ("certificate-authority", "client-certificate", "client-key"):
            if key in entry:
                entry[f"{key}-data"] = base64.b64encode(Path(entry.pop(key)).read_bytes()).decode()
    return config


def _is_active(item: Mapping[str, Any]) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any((each["type"], each["status"]) == ("Active", "True") for each in conditions)
