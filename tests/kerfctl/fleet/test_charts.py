"""What `kerf cluster add` asks of Helm."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from kerf.testing.fake_kube import FakeKube
from kerfctl.errors import CliError
from kerfctl.fleet.charts import VERSION, install_operator, kerf_there, registry_values

AGAIN = "run this again with --install, or install the chart"
HELM = """#!/bin/sh
printf '%s\\n' "$@" > "$(dirname "$0")/arguments"; cat > "$(dirname "$0")/stdin"
"""


@pytest.fixture
def helm(tmp_path: Path) -> Path:
    """A helm that keeps what it was asked for. The cluster tests run the real one."""
    program = tmp_path / "helm"
    program.write_text(HELM)
    program.chmod(0o755)
    return program


def flags(helm: Path, **changes: Any) -> argparse.Namespace:
    usual = {
        "helm": str(helm), "context": None,
        "kubeconfig": "north.yaml", "namespace": "kerf-system", "chart": "charts/kerf",
        "install": True, "registry": None, "values": [], "gpu_operator": None, "gpu_operator_values": [],
    }  # fmt: skip
    return argparse.Namespace(**usual | changes)


def asked(helm: Path) -> list[str]:
    return (helm.parent / "arguments").read_text().splitlines()


def a_cluster(version: str = "") -> FakeKube:
    kube = FakeKube()
    if version:
        meta = {"name": "kerf-scheduler", "namespace": "kerf-system", "labels": {"app.kubernetes.io/version": version}}
        kube.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta})
    return kube


def test_the_gpu_operator_is_installed_with_its_own_device_plugin_off_whatever_its_values_say(helm: Path) -> None:
    install_operator(flags(helm, gpu_operator="oci://registry.local/gpu-operator", gpu_operator_values=["more.yaml"]))

    assert asked(helm) == [
        "upgrade",
        "--install",
        "gpu-operator",
        "oci://registry.local/gpu-operator",
        "--namespace",
        "gpu-operator",
        "--create-namespace",
        "--reset-then-reuse-values",
        "--wait",
        "--timeout=300s",
        "--values=more.yaml",
        "--set=devicePlugin.enabled=false",
        "--kubeconfig=north.yaml",
    ]


def test_the_registry_is_for_every_image_and_files_of_values_weigh_more(helm: Path) -> None:
    with pytest.raises(CliError, match="no Deployment kerf-scheduler"):  # this helm installs nothing
        kerf_there(a_cluster(), flags(helm, registry="registry.local", values=["a.yaml", "b.yaml"]))

    assert [each for each in asked(helm) if each.startswith("--values")] == [
        "--values=-", "--values=a.yaml", "--values=b.yaml",
    ]  # fmt: skip
    assert json.loads((helm.parent / "stdin").read_text()) == registry_values("registry.local")
    assert registry_values("registry.local") == {
        "global": {"imageRegistry": "registry.local"},
        "scheduler": {"kubeScheduler": {"image": {"registry": "registry.local"}}},
    }


@pytest.mark.parametrize(
    ("there", "install", "says"),
    [
        (VERSION, True, f"version {VERSION} is installed"),
        ("", False, f"Kerf is not installed: {AGAIN}"),
        ("0.0.1", False, f"version 0.0.1 is installed and this is {VERSION}: {AGAIN}"),
    ],
)  # fmt: skip
def test_helm_runs_only_where_something_is_missing_and_it_was_asked_for(
    helm: Path, there: str, install: bool, says: str
) -> None:
    assert kerf_there(a_cluster(there), flags(helm, install=install)) == says

    assert not (helm.parent / "arguments").exists()


def test_a_newer_kerf_is_never_replaced_by_an_older_one(helm: Path) -> None:
    with pytest.raises(CliError, match=r"version 999\.0 is installed there and this is"):
        kerf_there(a_cluster("999.0"), flags(helm))

    assert not (helm.parent / "arguments").exists()


@pytest.mark.parametrize("helm_program", ["/no/such/helm", "/etc/hostname"])
def test_a_helm_that_cannot_be_run_is_named(helm_program: str) -> None:
    with pytest.raises(CliError, match=f"{helm_program}: .*: install helm, or name it with --helm"):
        kerf_there(a_cluster(), flags(Path(helm_program)))
