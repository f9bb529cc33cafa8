"""What `kerf cluster add` installs with Helm: Kerf's chart, and NVIDIA's GPU Operator with its own plugin off."""

import argparse
import json
import subprocess
from collections.abc import Mapping
from importlib.metadata import version

import yaml

from kerf.kube.client import Kube
from kerf.kube.errors import NotFound
from kerf.wire.json import at
from kerfctl.errors import CliError

VERSION = version("kerf-gpu")
APPLY = {"fieldManager": "kerf-cli", "force": "true"}
WAIT_S = 300
"""How long Helm waits for the pods of a release."""
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_UPGRADE = ("upgrade", "--install")
_KEPT = ("--reset-then-reuse-values", "--wait", f"--timeout={WAIT_S}s")
"""New defaults come from the chart, and what an earlier run or person set stays set."""


def kerf_there(member: Kube, args: argparse.Namespace) -> str:
    """The version of Kerf in a cluster; installs or upgrades it where that is asked for. Raises CliError, KubeError."""
    found = installed(member, args.namespace)
    if found == VERSION:
        return f"version {VERSION} is installed"
    if found and _newer(found, VERSION):
        raise CliError(f"version {found} is installed there and this is {VERSION}: use a kerf of that version or newer")
    if not args.install:
        what = f"version {found} is installed and this is {VERSION}" if found else "Kerf is not installed"
        return f"{what}: run this again with --install, or install the chart"
    if found:
        _upgrade_crds(member, args)
    _helm(args, kerf_words(args), values=registry_values(args.registry))
    now = installed(member, args.namespace)
    if not now:
        raise CliError(f"{args.chart} was installed and has no Deployment kerf-scheduler: is it Kerf's chart?")
    return f"version {now} was {f'upgraded from {found}' if found else 'installed'}"


def kerf_words(args: argparse.Namespace) -> list[str]:
    """Helm's arguments for Kerf's chart."""
    words = [*_UPGRADE, "kerf", args.chart, "--namespace", args.namespace, "--create-namespace", *_KEPT]
    return [*words, "--values=-", *(f"--values={file}" for file in args.values)]


def registry_values(registry: str | None) -> dict[str, object]:
    """The values by which every image comes from a registry, kube-scheduler's too; files of values weigh more."""
    if not registry:
        return {}
    kube_scheduler = {"kubeScheduler": {"image": {"registry": registry}}}
    return {"global": {"imageRegistry": registry}, "scheduler": kube_scheduler}


def install_operator(args: argparse.Namespace) -> None:
    """Install or upgrade the GPU Operator. Raises CliError."""
    _helm(args, operator_words(args))


def operator_words(args: argparse.Namespace) -> list[str]:
    """Helm's arguments for the GPU Operator's chart. Kerf's device plugin serves the cards; the operator's is off."""
    space = ("--namespace", "gpu-operator", "--create-namespace")
    values = [f"--values={file}" for file in args.gpu_operator_values]
    return [*_UPGRADE, "gpu-operator", args.gpu_operator, *space, *_KEPT, *values, "--set=devicePlugin.enabled=false"]


def installed(member: Kube, namespace: str) -> str:
    """The version of Kerf in a cluster; empty where there is none. Raises KubeError."""
    try:
        item = member.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/kerf-scheduler")
    except NotFound:
        return ""
    return str(at(item, "metadata", "labels").get("app.kubernetes.io/version", "unknown"))


def _newer(one: str, other: str) -> bool:
    """Whether a version is newer; what is no version is not."""
    try:
        first, second = ([int(part) for part in each.split(".")] for each in (one, other))
    except ValueError:
        return False
    return first > second


def _upgrade_crds(member: Kube, args: argparse.Namespace) -> None:
    """Helm creates CustomResourceDefinitions once and never changes them."""
    shown = _helm(args, ["show", "crds", args.chart], here=True)
    for crd in yaml.safe_load_all(shown):
        if crd:
            member.patch(f"{_CRDS}/{crd['metadata']['name']}", crd, "apply", APPLY)


def _helm(
    args: argparse.Namespace, words: list[str], *, here: bool = False, values: Mapping[str, object] | None = None
) -> str:
    """Helm's output. Unless it works `here` alone, it gets the kubeconfig of the cluster. Raises CliError."""
    given = json.dumps(values or {})
    there = [f"--kubeconfig={args.kubeconfig}", *([f"--kube-context={args.context}"] if args.context else [])]
    command = [args.helm, *words, *([] if here else there)]
    try:
        found = subprocess.run(command, input=given, capture_output=True, text=True, timeout=2 * WAIT_S, check=False)
    except OSError as error:
        raise CliError(f"{args.helm}: {error.strerror}: install helm, or name it with --helm") from error
    except subprocess.TimeoutExpired as error:
        raise CliError(f"{args.helm} {words[0]}: no end after {2 * WAIT_S} s") from error
    if found.returncode:
        raise CliError(f"{args.helm} {words[0]} of {_chart(words)}: {' '.join(found.stderr.split())[-600:]}")
    return found.stdout


def _chart(words: list[str]) -> str:
    return words[3] if words[0] == "upgrade" else words[-1]
