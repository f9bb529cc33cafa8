"""The two sides of a join: the manager cluster, and the cluster that is to be managed."""

import argparse
import base64
from pathlib import Path
from typing import Any

import yaml

from kerf.kube.client import Kube, connect, connect_to
from kerf.kube.errors import KubeError, NotFound
from kerf.wire.errors import WireError
from kerf.wire.fleet import CLUSTERS
from kerf.wire.json import Json, at, items_at
from kerf.wire.multikueue import parse_kubeconfig
from kerfctl.errors import CliError

CALL_S = 15.0
NO_KIND = "the manager cluster does not serve kerf.dev Clusters: install Kerf's chart there first"


def manager_of(args: argparse.Namespace) -> Kube:
    """The manager cluster's API server. Raises CliError."""
    try:
        file = args.manager or str(Path("~/.kube/config").expanduser())
        return connect(file, timeout_s=CALL_S, context=args.manager_context, option="--manager")
    except KubeError as error:
        raise CliError(f"the manager cluster: {error}") from error


def clusters(kube: Kube) -> list[dict[str, Any]]:
    """The Clusters of the fleet. Raises CliError."""
    try:
        return kube.list(CLUSTERS)[0]
    except NotFound as error:
        raise CliError(NO_KIND) from error
    except KubeError as error:
        raise CliError(f"Clusters cannot be read: {error}") from error


def cluster_named(kube: Kube, name: str) -> dict[str, Any]:
    """One Cluster. Raises CliError."""
    found = [item for item in clusters(kube) if item["metadata"]["name"] == name]
    if not found:
        known = ", ".join(item["metadata"]["name"] for item in clusters(kube)) or "none"
        raise CliError(f"{name}: no such cluster; the fleet has: {known}")
    return found[0]


def member_of(kube: Kube, namespace: str, secret: str) -> Kube:
    """A client with the credential that the manager uses. Raises CliError, which never shows the credential."""
    try:
        found = kube.get(f"/api/v1/namespaces/{namespace}/secrets/{secret}")
        return connect_to(parse_kubeconfig(found), timeout_s=CALL_S)
    except (KubeError, WireError) as error:
        raise CliError(f"Secret {namespace}/{secret}: {error}") from error


_KEPT = ("tls-server-name", "proxy-url")
"""What the manager needs to reach a cluster, beside its server and its CA."""


def server_of(path: str, context: str | None = None) -> dict[str, str]:
    """The cluster of a kubeconfig's context, with its CA in it, as another kubeconfig has it. Raises CliError."""
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CliError(f"{path}: cannot be read as a kubeconfig: {' '.join(str(error).split())[:200]}") from error
    contexts = {str(each.get("name")): at(each, "context") for each in items_at(config, "contexts")}
    name = context or str(at(config).get("current-context") or "")
    if name not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        raise CliError(f"{path}: has no context {name or '(no current-context is set)'}; --context takes: {known}")
    named = contexts[name].get("cluster")
    cluster: Json = next((at(e, "cluster") for e in items_at(config, "clusters") if e.get("name") == named), {})
    server = str(cluster.get("server") or "")
    if not server:
        raise CliError(f"{path}: context {name} names no cluster with a server: write a complete kubeconfig")
    if not server.startswith("https://") or cluster.get("insecure-skip-tls-verify"):
        fix = "write its certificate-authority-data"
        raise CliError(f"{path}: {server}: Kerf joins no cluster whose certificate it may not verify: {fix}")
    kept = {key: str(cluster[key]) for key in _KEPT if cluster.get(key)}
    return {"server": server, **_authority(Path(path), cluster), **kept}


def _authority(path: Path, cluster: Json) -> dict[str, str]:
    """The CA of a cluster; nothing where it has none of its own, and the system's CAs verify it."""
    key = "certificate-authority-data"
    if cluster.get(key):
        return {key: str(cluster[key])}
    if not cluster.get("certificate-authority"):
        return {}
    file = path.parent / str(cluster["certificate-authority"])
    try:
        return {key: base64.b64encode(file.read_bytes()).decode()}
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}: the cluster's certificate-authority is needed") from error
