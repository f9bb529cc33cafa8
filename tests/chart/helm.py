"""The chart as real helm renders it."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sandbox import ensure

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "kerf"
CASES = ROOT / "tests" / "chart" / "cases"
GOLDEN = ROOT / "tests" / "chart" / "golden"
NAMESPACE = "kerf-system"
NEWEST = "1.36.3"
"""The Kubernetes version of the golden renders, the one that the cluster tests run."""


class Refused(AssertionError):
    """Helm did not render the chart; the message is helm's output."""


@cache
def helm() -> str:
    return str(ensure(("helm",))["helm"])


def run(*arguments: str) -> str:
    """Helm's output. Raises Refused with its error message."""
    done = subprocess.run((helm(), *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def template(*arguments: str, version: str = NEWEST) -> str:
    """The manifests as one text."""
    return run("template", "kerf", str(CHART), "--namespace", NAMESPACE, "--kube-version", version, *arguments)


def render(*values: str, version: str = NEWEST) -> list[dict[str, Any]]:
    """The objects, with `values` of the form path=value."""
    sets = [argument for value in values for argument in ("--set", value)]
    return parse(template(*sets, version=version))


def parse(text: str) -> list[dict[str, Any]]:
    """The objects of a rendered text."""
    return [document for document in yaml.safe_load_all(text) if document]


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The only object of a kind and name."""
    (found,) = (each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def containers(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every container of every workload, by name."""
    specs = [each["spec"]["template"]["spec"] for each in objects if each["kind"] in {"Deployment", "DaemonSet"}]
    return {c["name"]: c for spec in specs for c in (*spec.get("initContainers", []), *spec["containers"])}
