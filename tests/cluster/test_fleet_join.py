"""`kerf cluster add --install` with the real Helm: the chart comes into a member, again, and after failures."""

import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import cards_of
from kerf.wire.inventory import render_inventory
from kerfctl.fleet import join
from kerfctl.main import main
from sandbox import ApiError, Command, ControlPlane, FakeNode, await_until, run_directory
from sandbox.crds import install_crds
from tests.chart.helm import CHART, helm, run
from tests.cluster.chart_release import NAMESPACES, VERSION, a_control_plane

pytestmark = pytest.mark.cluster
H100 = "NVIDIA H100 80GB HBM3"
CLUSTERS = "/apis/kerf.dev/v1alpha1/clusters"
SCHEDULER = "/apis/apps/v1/namespaces/kerf-system/deployments/kerf-scheduler"
STEPS = ["version", "rights", "driver", "kerf", "cards", "credential", "access", "secret", "cluster"]


@dataclass(frozen=True)
class Said:
    """How `kerf cluster add` ended, and what it printed."""

    status: int
    out: str
    err: str


@dataclass
class Pair:
    """The manager cluster, with a manager that runs, and the cluster that joins."""

    home: ControlPlane
    member: ControlPlane
    files: Path

    def add(self, *arguments: str) -> Said:
        where = ("--kubeconfig", str(self.member.kubeconfig), "--manager", str(self.home.kubeconfig))
        words = ["cluster", "add", "far", *where, "--region", "us-east-1", "--supply", "rented", *arguments]
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            status = main(words)
        return Said(status, out.getvalue(), " ".join(err.getvalue().split()))

    def install(self, *arguments: str) -> Said:
        return self.add("--install", "--chart", str(CHART), "--helm", helm(), *arguments)

    def values(self, name: str, **values: Any) -> str:
        path = self.files / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)


@pytest.fixture(scope="module")
def pair(parts: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        home = stack.enter_context(ControlPlane.start(stack.enter_context(run_directory()), parts))
        member = stack.enter_context(a_control_plane(stack.enter_context(run_directory()), parts))
        install_crds(home)
        held = {"kerf.dev/inventory": render_inventory(cards_of("gpu-1", 8, model=H100))}
        member.add_fake_nodes([FakeNode("gpu-1", held, {"gpu": "on"}), FakeNode("cpu-1")])
        words = ["fleet", "run", "--manager", str(home.kubeconfig)]
        code = f"import sys; from kerfctl.main import main; sys.exit(main({words!r}))"
        home.supervisor.launch(Command("kerf-fleet", (sys.executable, "-c", code)))
        yield Pair(home, member, tmp_path_factory.mktemp("values"))


@pytest.fixture(scope="module")
def refused(pair: Pair) -> tuple[Said, list[dict[str, Any]]]:
    """Before the cluster joins, Helm refuses some values: what was said, and the clusters of the fleet then."""
    said = pair.install("--values", pair.values("wrong", scheduler={"replicas": "many"}))
    return said, pair.home.api.get(CLUSTERS)["items"]


@pytest.fixture(scope="module")
def installed(pair: Pair, refused: tuple[Said, list[dict[str, Any]]]) -> tuple[Said, list[str]]:
    """The cluster has joined, with the chart from a registry and with values; the images that it runs then."""
    more = pair.values("more", scheduler={"kubeScheduler": {"maxBackoffSeconds": 3}})
    said = pair.install("--registry", "registry.local:5000", "--values", more)
    return said, [c["image"] for c in pair.member.api.get(SCHEDULER)["spec"]["template"]["spec"]["containers"]]


def steps(out: str) -> list[str]:
    return [line.removeprefix("✓ ").partition(":")[0] for line in out.splitlines() if line.startswith("✓ ")]


def test_what_helm_refuses_ends_the_join_and_says_what_was_done(refused: tuple[Said, list[dict[str, Any]]]):
    said, fleet = refused

    assert said.status == 1
    assert steps(said.out) == ["version", "rights", "driver"]
    assert "scheduler" in said.err
    assert "replicas" in said.err
    assert "done so far: version, rights, driver; run it again once that is mended" in said.err
    assert fleet == []


def test_a_chart_that_is_missing_is_named(pair: Pair):
    label(pair, "0.0.2")
    said = pair.add("--install", "--chart", "/no/such/chart", "--helm", helm())
    label(pair, VERSION)

    assert said.status == 1
    assert "/no/such/chart" in said.err


def label(pair: Pair, version: str) -> None:
    """What the join takes for the version of the Kerf that is there. No-op where there is none."""
    with suppress(ApiError):
        pair.member.api.patch(SCHEDULER, {"metadata": {"labels": {"app.kubernetes.io/version": version}}})


def test_the_chart_is_installed_with_the_registry_and_the_values_and_the_cluster_is_usable(
    pair: Pair, installed: tuple[Said, list[str]]
):
    said, images = installed

    assert (said.status, steps(said.out)) == (0, STEPS), said
    assert f"kerf: version {VERSION} was installed" in said.out
    assert said.out.splitlines()[-1] == f"far is Live, epoch 1; usable: 8 x {H100}"
    assert [image for image in images if not image.startswith("registry.local:5000/")] == []
    assert "podMaxBackoffSeconds: 3" in backoff(pair)


def backoff(pair: Pair) -> str:
    return str(pair.member.api.get(f"{NAMESPACES}/configmaps/kerf-kube-scheduler")["data"]["config.yaml"])


def test_a_second_run_finds_everything_there(pair: Pair, installed: tuple[Said, list[str]]):
    before = pair.member.api.get(SCHEDULER)["metadata"]["generation"]

    said = pair.install()

    assert (said.status, steps(said.out)) == (0, STEPS)
    assert f"kerf: version {VERSION} is installed" in said.out
    assert pair.member.api.get(SCHEDULER)["metadata"]["generation"] == before


def test_rights_that_a_cluster_lacks_are_named_until_it_is_joined_again(
    pair: Pair, installed: tuple[Said, list[str]], capsys: pytest.CaptureFixture[str]
):
    """As after an upgrade of the manager alone: the credential was written by a Kerf that knew fewer kinds."""
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/kerf-fleet"
    rules = pair.member.api.get(role)["rules"]
    older = [rule for rule in rules if "fleetplaces" not in rule["resources"]]
    pair.member.api.patch(role, {"rules": older})

    doctor = ["cluster", "doctor", "far", "--manager", str(pair.home.kubeconfig)]
    await_until(lambda: main(doctor) == 1, "the older rights to be taken up")
    without = capsys.readouterr().out
    joined = pair.add()

    assert (
        "lacks list fleetplaces.kerf.dev, create fleetplaces.kerf.dev, patch fleetplaces.kerf.dev, "
        "delete fleetplaces.kerf.dev; run kerf cluster add far again" in " ".join(without.split())
    )
    assert joined.status == 0, joined
    main(doctor)
    assert "✓ rights: all that is needed" in capsys.readouterr().out


def test_an_older_kerf_is_upgraded_with_its_crds_and_keeps_the_values_that_it_had(
    pair: Pair, installed: tuple[Said, list[str]]
):
    release(pair, an_older_chart(pair))
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/fleetworkloads.kerf.dev"
    old = pair.member.api.get(crd)["spec"]["versions"]
    del old[0]["additionalPrinterColumns"]
    pair.member.api.patch(crd, {"spec": {"versions": old}})

    without = pair.add()
    said = pair.install("--registry", "registry.local:5001")

    assert without.status == 0
    assert f"version 0.0.1 is installed and this is {VERSION}: run this again with --install" in without.out
    assert said.status == 0
    assert f"kerf: version {VERSION} was upgraded from 0.0.1" in said.out
    assert "podMaxBackoffSeconds: 3" in backoff(pair)
    assert "additionalPrinterColumns" in pair.member.api.get(crd)["spec"]["versions"][0]


def an_older_chart(pair: Pair) -> Path:
    older = pair.files / "older"
    shutil.copytree(CHART, older)
    text = (older / "Chart.yaml").read_text()
    (older / "Chart.yaml").write_text(text.replace(f"appVersion: {VERSION}", "appVersion: 0.0.1"))
    return older


def release(pair: Pair, chart: Path) -> None:
    where = ("--namespace", "kerf-system", "--kubeconfig", str(pair.member.kubeconfig))
    run("upgrade", "kerf", str(chart), "--reuse-values", *where)


def test_a_kerf_that_is_newer_than_this_one_is_left_alone(pair: Pair, installed: tuple[Said, list[str]]):
    label(pair, "999.0.0")
    said = pair.install()
    label(pair, VERSION)

    assert said.status == 1
    assert "version 999.0.0 is installed there" in said.err


def test_without_a_manager_that_runs_the_last_line_says_so(
    pair: Pair, installed: tuple[Said, list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(join, "MANAGER_S", 2.0)
    pair.home.kill("kerf-fleet", signal.SIGKILL)
    pair.home.api.delete(f"{CLUSTERS}/far")

    said = pair.install()
    pair.home.restart("kerf-fleet")

    assert said.status == 1
    assert said.out.splitlines()[-1].startswith("far has joined; no manager runs yet (kerf fleet run")
