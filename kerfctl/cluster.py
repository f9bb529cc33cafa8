"""Reading a live cluster, with one sentence for what cannot be read."""

import argparse
from pathlib import Path

from kerf.kube.client import Kube, connect
from kerf.kube.errors import KubeError, NotFound
from kerf.wire.json import Json, at
from kerfctl.errors import CliError

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


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


def may(kube: Kube, verb: str, group: str, resource: str) -> bool:
    """Whether the client's user may do this everywhere in the cluster. Raises KubeError."""
    attributes = {"verb": verb, "group": group, "resource": resource}
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    answer = kube.create(_REVIEWS, {**kind, "spec": {"resourceAttributes": attributes}})
    return bool(at(answer, "status").get("allowed"))
