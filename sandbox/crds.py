"""Kerf's own CustomResourceDefinitions, for a control plane without the chart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from sandbox.api import ApiError
from sandbox.controlplane import ControlPlane
from sandbox.processes import await_until

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_FOLDER = Path(__file__).with_name("crds")
_EXISTS = 409


def read_crds() -> tuple[dict[str, Any], ...]:
    """Every CustomResourceDefinition of Kerf, by file name. The installed package contains them."""
    return tuple(
        yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader) for file in sorted(_FOLDER.glob("*.yaml"))
    )


def install_crds(cp: ControlPlane) -> None:
    """Create missing ones and wait until the API server serves them. Raises SandboxError."""
    for crd in read_crds():
        try:
            cp.api.post(CRDS, crd)
        except ApiError as error:
            if error.status != _EXISTS:
                raise
        name, spec = crd["metadata"]["name"], crd["spec"]
        served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        await_until(_answers(cp, served), f"{name} to be served")


def _answers(cp: ControlPlane, path: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            cp.api.get(path)
        except ApiError:
            return False
        return True

    return ask
