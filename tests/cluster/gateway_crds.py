"""CRDs of gateways and of KEDA: real ones out of pinned Go modules, and schemas of ours where no module can be had."""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sandbox import ControlPlane, await_until
from sandbox.api import ApiError
from sandbox.crds import CRDS

MODULES = {
    "sigs.k8s.io/gateway-api-inference-extension@v1.5.0": (
        "h1:w9Awt60cmI1vM7Y6N81h8wDCBP0WkmxpdI7GKY0v070=",
        ("config/crd/bases/inference.networking.k8s.io_inferencepools.yaml",),
    ),
    "github.com/envoyproxy/gateway@v1.9.1": (
        "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=",
        tuple(
            f"charts/gateway-helm/charts/crds/crds/generated/gateway.envoyproxy.io_{plural}.yaml"
            for plural in ("backends", "backendtrafficpolicies")
        ),
    ),
}
"""Module and version to its checksum and the CRDs that are taken from it."""
KEDA = {
    "github.com/kedacore/keda/v2@v2.21.0": (
        "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
        ("config/crd/bases/keda.sh_scaledobjects.yaml",),
    )
}


def real(modules: Mapping[str, tuple[str, tuple[str, ...]]]) -> Iterator[dict[str, Any]]:
    """The CRDs of the modules; Go keeps these in its module cache."""
    for module, (checksum, files) in modules.items():
        done = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        assert found["Sum"] == checksum, module
        for file in files:
            yield from yaml.safe_load_all((Path(found["Dir"]) / file).read_text())


def stand_ins() -> Iterator[dict[str, Any]]:
    """CRDs of our schemas."""
    for one in yaml.safe_load(Path(__file__).with_name("gateway_schemas.yaml").read_text()):
        schema = {"type": "object", "properties": {"spec": one["spec"], "status": {"type": "object"}}}
        version = {"name": one["version"], "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        names = {"kind": one["kind"], "plural": one["plural"], "singular": one["kind"].lower()}
        spec = {"group": one["group"], "scope": "Namespaced", "names": names, "versions": [version]}
        meta = {"name": f"{one['plural']}.{one['group']}"}
        yield {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": meta,
            "spec": spec,
        }


def install(cp: ControlPlane) -> None:
    """All of the gateways', and wait until they are served."""
    install_some(cp, (*real(MODULES), *stand_ins()))


def install_some(cp: ControlPlane, crds: Iterable[dict[str, Any]]) -> None:
    """Some, and wait until they are served."""
    for crd in crds:
        cp.api.post(CRDS, crd)
        spec = crd["spec"]
        served = next(version["name"] for version in spec["versions"] if version["storage"])
        path = f"/apis/{spec['group']}/{served}/{spec['names']['plural']}"
        await_until(lambda path=path: _answers(cp, path), f"{path} to be served")  # type: ignore[misc]


def _answers(cp: ControlPlane, path: str) -> bool:
    try:
        cp.api.get(path)
    except ApiError:
        return False
    return True
