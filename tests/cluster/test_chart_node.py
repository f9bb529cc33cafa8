"""The chart on a real node, with Kerf's own images: installed, used, upgraded under running pods, uninstalled."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kerf.testing.builders import a_container
from kerf.wire.limiter import parse_ledger
from sandbox import (
    SLEEPER,
    ControlPlane,
    Node,
    await_until,
    free_ports,
    node_obstacle,
    parse_report,
    run_directory,
)
from tests.chart.helm import Refused
from tests.cluster.chart_release import NAMESPACES, Release, a_control_plane, await_gone, every_object, images
from tests.cluster.gpu_pods import PODS, remove_pods

pytestmark = pytest.mark.cluster
LEDGER, LIBRARY = "/usr/local/kerf/ledger", "/usr/local/kerf/libkerf.so"
FLEET = "cards: [{model: NVIDIA H100 80GB HBM3, memory_mib: 81559, count: 2}]\n"
WAIT = ("--wait", "--timeout", "180s")


@pytest.fixture(scope="module")
def cluster(parts: Mapping[str, Path]) -> Iterator[tuple[ControlPlane, Node]]:
    if reason := node_obstacle():
        pytest.skip(f"no real node: {reason}")
    archives = images()
    with ExitStack() as running:
        cp = running.enter_context(a_control_plane(running.enter_context(run_directory()), parts))
        node = running.enter_context(Node.start(cp, labels={"gpu": "on"}))
        for archive in archives.values():
            node.load_image(archive)
        scheduler = {"/usr/local/bin/kube-scheduler": parts["kube-scheduler"].read_bytes()}
        node.import_image("registry.k8s.io/kube-scheduler:v1.36.3", scheduler, ("kube-scheduler",))
        yield cp, node


def values(cp: ControlPlane, node: Node) -> dict[str, Any]:
    """Host network, since this node's pods reach no API server otherwise, and simulated cards."""
    extender, kube_scheduler, webhook, metrics = free_ports(4)
    fleet = cp.run_dir / "fleet.yaml"
    fleet.write_text(FLEET)
    host, _, port = cp.url.removeprefix("https://").partition(":")
    never = {"image": {"pullPolicy": "Never"}}
    return {
        "apiServer": {"host": host, "port": int(port)},
        "scheduler": {
            "replicas": 1,
            "hostNetwork": True,
            "extender": never | {"port": extender},
            "kubeScheduler": never | {"port": kube_scheduler},
        },
        "webhook": never
        | {
            "replicas": 1,
            "hostNetwork": True,
            "port": webhook,
            "customURL": {"enabled": True, "host": node.address, "port": webhook},
        },
        "devicePlugin": never
        | {
            "hostNetwork": True,
            "metricsPort": metrics,
            "probe": f"simulated:{fleet}",
            "extraHostPaths": {"fleet": str(fleet)},
            "libPath": str(cp.run_dir / "lib"),
            "statePath": str(cp.run_dir / "state"),
            "cdiPath": str(node.cdi_dirs[0]),
            "cdiSpecsFrom": [str(node.cdi_dirs[0])],
        },
    }


def a_sliced_pod(name: str, mem: int) -> dict[str, Any]:
    main = a_container(gpu=1, mem=mem, cores=10) | {"image": SLEEPER, "imagePullPolicy": "Never"}
    main["args"] = ["--cat", LEDGER, "--list", "/usr/local/kerf"]
    spec = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "containers": [main]}
    return {"metadata": {"name": name}, "spec": spec}


def await_slice(cp: ControlPlane, node: Node, name: str) -> int:
    """The MiB that a container finds in its ledger, once it runs."""
    await_until(lambda: cp.api.get(f"{PODS}/{name}")["status"].get("phase") == "Running", f"{name} to run", 90)
    await_until(lambda: parse_report(node.output("default", name, "main")).complete, f"the report of {name}", 60)
    report = parse_report(node.output("default", name, "main"))
    assert report.errors == {}
    (card,) = parse_ledger(report.files[LEDGER]).spec.cards
    return (card.memory_bytes or 0) >> 20


def applied(release: Release, act: str, wanted: dict[str, Any]) -> None:
    """Add the pods' events and logs to the error if it fails."""
    try:
        (release.install if act == "install" else release.upgrade)(wanted, *WAIT)
    except Refused:
        for event in release.cp.api.get(f"{NAMESPACES}/events")["items"]:
            sys.stdout.write(f"{event['involvedObject']['name']}: {event['message']}\n")
        for log in sorted((release.cp.run_dir / "nodes").glob("*/pods/kerf-system*/*/*.log")):
            sys.stdout.write(f"{log}\n{log.read_text()[-3000:]}\n")
        raise


def test_install_use_upgrade_uninstall(cluster: tuple[ControlPlane, Node]) -> None:
    cp, node = cluster
    chosen = values(cp, node)
    release = Release(cp)
    cp.api.post("/api/v1/namespaces", {"metadata": {"name": "kerf-system"}})
    await_until(lambda: bool(cp.api.get(f"{NAMESPACES}/configmaps")["items"]), "the namespace's own objects", 60)
    await_until(lambda: bool(cp.api.get(f"{NAMESPACES}/serviceaccounts")["items"]), "the default account", 60)
    before = every_object(cp.api)

    applied(release, "install", chosen)
    cp.api.post(PODS, a_sliced_pod("first", 8000))
    assert await_slice(cp, node, "first") == 8000
    assert (cp.run_dir / "lib" / "libkerf.so").read_bytes()[:4] == b"\x7fELF"
    first = cp.api.get(f"{PODS}/first")

    chosen["scheduler"]["podAnnotations"] = chosen["webhook"]["podAnnotations"] = {"upgraded": "yes"}
    chosen["devicePlugin"]["podAnnotations"] = {"upgraded": "yes"}
    old = {pod["metadata"]["uid"] for name in ("scheduler", "webhook", "deviceplugin") for pod in release.pods(name)}
    applied(release, "upgrade", chosen)
    fresh = {pod["metadata"]["uid"] for name in ("scheduler", "webhook", "deviceplugin") for pod in release.pods(name)}
    assert not old & fresh, "every daemon was replaced"
    cp.api.post(PODS, a_sliced_pod("second", 9000))
    assert await_slice(cp, node, "second") == 9000
    noticed = cp.api.get(f"{PODS}/first")
    assert noticed["metadata"]["uid"] == first["metadata"]["uid"]
    assert noticed["status"]["containerStatuses"] == first["status"]["containerStatuses"], "the pod noticed nothing"

    remove_pods(cp)
    release.uninstall()
    await_gone(cp.api, before)
