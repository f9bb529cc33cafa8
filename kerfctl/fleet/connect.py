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
        return connect(args.manager or str(Path("~/.kube/config").expanduser()), timeout_s=CALL_S)
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


def server_of(path: str) -> tuple[str, str]:
    """The URL of a kubeconfig's current cluster and its CA in base64. Raises CliError."""
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CliError(f"{path}: cannot be read as a kubeconfig: {' '.join(str(error).split())[:200]}") from error
    contexts = {str(each.get("name")): at(each, "context") for each in items_at(config, "contexts")}
    name = contexts.get(str(at(config).get("current-context")), {}).get("cluster")
    cluster: Json = next((at(e, "cluster") for e in items_at(config, "clusters") if e.get("name") == name), {})
    server = str(cluster.get("server") or "")
    if not server:
        raise CliError(f"{path}: names no cluster with a server: write a complete kubeconfig with a current-context")
    if cluster.get("certificate-authority-data"):
        return server, str(cluster["certificate-authority-data"])
    if cluster.get("certificate-authority"):
        file = Path(path).parent / str(cluster["certificate-authority"])
        try:
            return server, base64.b64encode(file.read_bytes()).decode()
        except OSError as error:
            raise CliError(f"{file}: {error.strerror}: the cluster's certificate-authority is needed") from error
    raise CliError(f"{path}: has no certificate-authority: Kerf connects to no cluster that it cannot verify")
