"""`kerf cluster add --install` with the real Helm: the chart comes into a member, again, and after failures."""

import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import cards_of
from kerf.wire.inventory import render_inventory
from kerfctl.main import main
from sandbox import Command, ControlPlane, FakeNode, run_directory
from sandbox.crds import install_crds
from tests.chart.helm import CHART, helm, run
from tests.cluster.chart_release import NAMESPACES, VERSION, a_control_plane

pytestmark = pytest.mark.cluster
H100 = "NVIDIA H100 80GB HBM3"
SCHEDULER = "/apis/apps/v1/namespaces/kerf-system/deployments/kerf-scheduler"
STEPS = ["version", "rights", "driver", "kerf", "cards", "credential", "access", "secret", "cluster"]


@dataclass
class Pair:
    """The manager cluster, with a manager that runs, and the cluster that joins."""

    home: ControlPlane
    member: ControlPlane
    files: Path

    def add(self, *arguments: str) -> int:
        where = ("--kubeconfig", str(self.member.kubeconfig), "--manager", str(self.home.kubeconfig))
        return main(["cluster", "add", "far", *where, "--region", "us-east-1", "--supply", "rented", *arguments])

    def install(self, *arguments: str) -> int:
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


def steps(out: str) -> list[str]:
    return [line.removeprefix("✓ ").partition(":")[0] for line in out.splitlines() if line.startswith("✓ ")]


def test_what_helm_refuses_ends_the_join_and_says_what_was_done(pair: Pair, capsys: pytest.CaptureFixture[str]):
    wrong = pair.values("wrong", scheduler={"replicas": "many"})

    status = pair.install("--values", wrong)

    said = capsys.readouterr()
    assert status == 1
    assert steps(said.out) == ["version", "rights", "driver"]
    assert "scheduler" in said.err
    assert "replicas" in said.err
    assert "done so far: version, rights, driver; run it again once that is mended" in " ".join(said.err.split())
    assert pair.home.api.get("/apis/kerf.dev/v1alpha1/clusters")["items"] == []


def test_a_chart_that_is_missing_is_named(pair: Pair, capsys: pytest.CaptureFixture[str]):
    assert pair.add("--install", "--chart", "/no/such/chart", "--helm", helm()) == 1

    assert "/no/such/chart" in capsys.readouterr().err


def test_the_chart_is_installed_with_the_registry_and_the_values_and_the_cluster_is_usable(
    pair: Pair, capsys: pytest.CaptureFixture[str]
):
    more = pair.values("more", scheduler={"kubeScheduler": {"maxBackoffSeconds": 3}})

    status = pair.install("--registry", "registry.local:5000", "--values", more)

    said = capsys.readouterr()
    assert (status, steps(said.out)) == (0, STEPS), said
    assert f"kerf: version {VERSION} was installed" in said.out
    assert said.out.splitlines()[-1] == f"far is Live, epoch 1; usable: 8 x {H100}"
    images = [c["image"] for c in pair.member.api.get(SCHEDULER)["spec"]["template"]["spec"]["containers"]]
    assert [image for image in images if not image.startswith("registry.local:5000/")] == []
    assert "podMaxBackoffSeconds: 3" in backoff(pair)


def backoff(pair: Pair) -> str:
    return str(pair.member.api.get(f"{NAMESPACES}/configmaps/kerf-kube-scheduler")["data"]["config.yaml"])


def test_a_second_run_finds_everything_there(pair: Pair, capsys: pytest.CaptureFixture[str]):
    before = pair.member.api.get(SCHEDULER)["metadata"]["generation"]

    status = pair.install()

    said = capsys.readouterr().out
    assert (status, steps(said)) == (0, STEPS)
    assert f"kerf: version {VERSION} is installed" in said
    assert pair.member.api.get(SCHEDULER)["metadata"]["generation"] == before


def test_an_older_kerf_is_upgraded_with_its_crds_and_keeps_the_values_that_it_had(
    pair: Pair, capsys: pytest.CaptureFixture[str]
):
    release(pair, an_older_chart(pair))
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/fleetworkloads.kerf.dev"
    old = pair.member.api.get(crd)["spec"]["versions"]
    del old[0]["additionalPrinterColumns"]
    pair.member.api.patch(crd, {"spec": {"versions": old}})

    without = (pair.add(), capsys.readouterr().out)
    status = pair.install("--registry", "registry.local:5001")

    assert without[0] == 0
    assert f"version 0.0.1 is installed and this is {VERSION}: run this again with --install" in without[1]
    assert status == 0
    assert f"kerf: version {VERSION} was upgraded from 0.0.1" in capsys.readouterr().out
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


def test_a_kerf_that_is_newer_than_this_one_is_left_alone(pair: Pair, capsys: pytest.CaptureFixture[str]):
    label = {"metadata": {"labels": {"app.kubernetes.io/version": "999.0.0"}}}
    pair.member.api.patch(SCHEDULER, label)

    assert pair.install() == 1

    assert "version 999.0.0 is installed there" in " ".join(capsys.readouterr().err.split())
    label["metadata"]["labels"]["app.kubernetes.io/version"] = VERSION
    pair.member.api.patch(SCHEDULER, label)


def test_without_a_manager_that_runs_the_last_line_says_so(pair: Pair, capsys: pytest.CaptureFixture[str]):
    pair.home.kill("kerf-fleet", signal.SIGKILL)
    pair.home.api.delete("/apis/kerf.dev/v1alpha1/clusters/far")

    assert pair.install() == 1

    assert capsys.readouterr().out.splitlines()[-1].startswith("far has joined; no manager runs yet (kerf fleet run")
