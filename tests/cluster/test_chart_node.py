"""The chart on a real node, with Kerf's own images: installed, used, upgraded under running pods, uninstalled."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kerf.testing.builders import a_container
from kerf.wire.limiter import parse_ledger
from kerf.wire.usage import PATH as USAGE
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
from tests.cluster.page_visit import visit

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
    extender, kube_scheduler, webhook, metrics, page = free_ports(5)
    fleet = cp.run_dir / "fleet.yaml"
    fleet.write_text(FLEET)
    host, _, port = cp.url.removeprefix("https://").partition(":")
    never = {"image": {"pullPolicy": "Never"}}
    return {
        "apiServer": {"host": host, "port": int(port)},
        "metering": {"enabled": True, "cluster": "sandbox", "more": {"writeSeconds": 5}},
        "page": {"enabled": True, "port": page},
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
    await_until(lambda: cp.api.get(f"{PODS}/{name}")["status"].get("phase") == "Running", f"{name} to run")
    await_until(lambda: parse_report(node.output("default", name, "main")).complete, f"the report of {name}")
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


def kerf(cp: ControlPlane, *words: str) -> tuple[int, str, str]:
    """The command as an administrator runs it: status, output, errors."""
    argv = (sys.executable, "-c", "import sys; from kerfctl.main import main; sys.exit(main())", *words)
    done = subprocess.run(
        (*argv, "--kubeconfig", str(cp.kubeconfig)), capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


def check_use_and_bill(cp: ControlPlane, tmp_path: Path, mib: Mapping[str, int]) -> None:
    """`kerf top` finds the node's monitor by itself, and the bill has every pod since it was bound."""

    def limits() -> dict[str, int]:
        status, said, wrong = kerf(cp, "top", "--json")
        assert (status, wrong) == (0, "")
        (top,) = json.loads(said).values()
        return {row["pod"]: row["limit_mib"] for row in top["containers"]}

    await_until(lambda: limits() == mib, "the monitor to have looked at both containers")
    assert "first" in kerf(cp, "top")[1]

    found: dict[str, Any] = {}

    def billed() -> bool:
        status, said, wrong = kerf(cp, "bill", "--since", "7d", "--json", "--cache", str(tmp_path / "usage"))
        assert status == 0, wrong
        found.update(json.loads(said))
        return {row["workload"] for row in found["rows"]} == {f"Pod/{name}" for name in mib}

    await_until(billed, "both pods to be in the bill")
    costs = [Decimal(row["cost"]) for row in found["rows"]]
    assert min(costs) > 0
    assert sum(costs) + Decimal(found["idle_cost"]) == Decimal(found["node_cost"])
    assert {(row["class"], row["cluster"], row["tenant"]) for row in found["rows"]} == {
        ("nvidia-h100-80gb-hbm3-shared", "sandbox", "")
    }


def test_install_use_upgrade_uninstall(cluster: tuple[ControlPlane, Node], tmp_path: Path) -> None:
    cp, node = cluster
    chosen = values(cp, node)
    release = Release(cp)
    cp.api.post("/api/v1/namespaces", {"metadata": {"name": "kerf-system"}})
    await_until(lambda: bool(cp.api.get(f"{NAMESPACES}/configmaps")["items"]), "the namespace's own objects")
    await_until(lambda: bool(cp.api.get(f"{NAMESPACES}/serviceaccounts")["items"]), "the default account")
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

    check_use_and_bill(cp, tmp_path, {"first": 8000, "second": 9000})
    with visit(cp, tmp_path, chosen["page"]["port"]) as person:
        seen = person.picture()
    assert {pod[0] for pod in seen["nodes"][node.name]["pods"]} == {"default/first", "default/second"}
    assert Decimal(seen["costs"]["all"]["cards"]) == Decimal("3.24")

    remove_pods(cp)
    release.uninstall()
    records = cp.api.get(USAGE)["items"]
    assert records, "what was used outlives the release"
    for record in records:
        cp.api.delete(f"{USAGE}/{record['metadata']['name']}")
    await_gone(cp.api, before)
