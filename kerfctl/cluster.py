"""Reading a live cluster, with one sentence for what cannot be read."""

import argparse
from pathlib import Path

from kerf.kube.client import Kube, connect
from kerf.kube.errors import KubeError, NotFound
from kerf.wire.json import Json
from kerfctl.errors import CliError


def connect_to(args: argparse.Namespace) -> Kube:
    """A client for the arguments' cluster. Raises CliError."""
    try:
        return connect(args.kubeconfig or str(Path("~/.kube/config").expanduser()), timeout_s=30.0)
    except KubeError as error:
        raise CliError(str(error)) from error


def list_all(kube: Kube, path: str, kind: str) -> list[Json]:
    """All objects of a kind that every cluster serves. Raises CliError."""
    found = list_or_none(kube, path, kind)
    if found is None:
        raise CliError(f"{kind}s cannot be read: {path} is not served; is --kubeconfig the right cluster's?")
    return found


def list_or_none(kube: Kube, path: str, kind: str, **query: str) -> list[Json] | None:
    """All objects, each with its kind, which lists leave out; None where it is not served. Raises CliError."""
    try:
        return [{"kind": kind, **item} for item in kube.list(path, query or None)[0]]
    except NotFound:
        return None
    except KubeError as error:
        raise CliError(f"{kind}s cannot be read: {error}") from error
