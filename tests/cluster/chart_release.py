"""The chart as a release on a sandbox's control plane, and its daemons as processes with its service accounts."""

import json
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sandbox import Api, Command, ControlPlane, SandboxError, await_until, render_scheduler_configuration
from sandbox.crds import read_crds
from sandbox.rootfs import build_image
from tests.chart.helm import CHART, NAMESPACE, ROOT, Refused, run

KEPT = (*(f"/{crd['metadata']['name']}" for crd in read_crds()), "/v1alpha1.kerf.dev")
"""Helm never deletes a CustomResourceDefinition of `crds/`: that would delete every tenant's quota."""
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
NAMESPACES = f"/api/v1/namespaces/{NAMESPACE}"


@dataclass
class Release:
    """One release called kerf in kerf-system. `values` are the last ones passed."""

    cp: ControlPlane
    values: dict[str, Any] = field(default_factory=dict)
    chart: Path = CHART

    def install(self, values: dict[str, Any], *arguments: str) -> str:
        """Install, and wait as `arguments` say. Returns helm's output."""
        return self._apply("install", values, "--create-namespace", *arguments)

    def upgrade(self, values: dict[str, Any], *arguments: str) -> str:
        return self._apply("upgrade", values, *arguments)

    def roll_back(self, *arguments: str) -> str:
        return self._helm("rollback", "kerf", *arguments)

    def uninstall(self) -> str:
        return self._helm("uninstall", "kerf", "--wait", "--timeout", "120s")

    def pods(self, component: str) -> list[dict[str, Any]]:
        selector = f"labelSelector=app.kubernetes.io%2Fcomponent%3D{component}"
        return list(self.cp.api.get(f"{NAMESPACES}/pods?{selector}")["items"])

    def pod_of(self, component: str, node: str = "") -> str:
        """The name of a pod that was assigned to a node (this one, if named)."""

        def found() -> list[str]:
            placed = [(p["metadata"]["name"], p["spec"].get("nodeName", "")) for p in self.pods(component)]
            return [name for name, where in placed if where and where == (node or where)]

        await_until(lambda: bool(found()), f"a pod of {component} to be placed")
        return found()[0]

    def start(self, module: str, account: str, *arguments: str, node: str = "") -> None:
        """Run a daemon as a process named after its module, with the token that its pod (on a node) would get."""
        kubeconfig = self.cp.service_account(NAMESPACE, f"kerf-{account}", self.pod_of(account, node))
        argv = (sys.executable, "-m", module, "--kubeconfig", str(kubeconfig), *arguments)
        self.cp.supervisor.launch(Command(module, argv))

    def _apply(self, verb: str, values: dict[str, Any], *arguments: str) -> str:
        self.values = values
        path = self.cp.layout.config / "values.json"
        path.write_text(json.dumps(values))
        return self._helm(verb, "kerf", str(self.chart), "--values", str(path), *arguments)

    def _helm(self, *arguments: str) -> str:
        return run(*arguments, "--namespace", NAMESPACE, "--kubeconfig", str(self.cp.kubeconfig))


def images() -> dict[str, Path]:
    """The archives of Kerf's images, built from their Dockerfiles; by the name that the chart gives them."""
    built = {}
    for daemon in ("scheduler", "webhook", "deviceplugin"):
        name = f"docker.io/kerf/{daemon}:{VERSION}"
        built[name] = build_image(ROOT, ROOT / "images" / f"{daemon}.Dockerfile", name)
    return built


@contextmanager
def a_control_plane(run_dir: Path, parts: Any) -> Iterator[ControlPlane]:
    """With service accounts, an audit log, kwok, and a kube-scheduler for pods that name no scheduler."""
    with ControlPlane.start(run_dir, parts, audit=True, service_accounts=True) as cp:
        cp.start_kwok()
        kubeconfig = str(cp.kubeconfig_for("system:kube-scheduler"))
        cp.start_scheduler(configuration=render_scheduler_configuration(kubeconfig, None, profile="default-scheduler"))
        yield cp


def every_object(api: Api) -> set[str]:
    """Every object of every kind that can be listed, except those that come and go by themselves."""
    found = set()
    for group, resource in _listable(api):
        if resource in {"events", "leases", "endpointslices", "endpoints"} and group != "coordination.k8s.io/v1":
            continue
        for item in api.get(f"{group}/{resource}")["items"]:
            meta = item["metadata"]
            found.add(f"{group}/{resource} {meta.get('namespace', '')}/{meta['name']}")
    return found


def await_gone(api: Api, before: set[str]) -> None:
    """Wait until nothing is left of a release. The error names what is left."""

    def left() -> list[str]:
        return sorted(each for each in every_object(api) - before if not each.endswith(KEPT))

    try:
        await_until(lambda: not left(), "every object of the release to be gone")
    except SandboxError as error:
        raise AssertionError(f"{error}: {left()}") from None


def await_all(seen: Callable[[], Collection[Any]], wanted: Collection[Any], what: str) -> None:
    """Wait until all that is wanted was seen. The error names what is missing."""

    def missing() -> set[Any]:
        return set(wanted) - set(seen())

    try:
        await_until(lambda: not missing(), what)
    except SandboxError as error:
        raise AssertionError(f"{error}: {missing()}") from None


def _listable(api: Api) -> list[tuple[str, str]]:
    groups = ["/api/v1"]
    groups += [f"/apis/{group['preferredVersion']['groupVersion']}" for group in api.get("/apis")["groups"]]
    return [
        (group, resource["name"])
        for group in groups
        for resource in api.get(group)["resources"]
        if "list" in resource["verbs"] and "/" not in resource["name"]
    ]


__all__ = [
    "NAMESPACE",
    "NAMESPACES",
    "Refused",
    "Release",
    "a_control_plane",
    "await_all",
    "await_gone",
    "every_object",
    "images",
]
