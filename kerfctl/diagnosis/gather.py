"""Reads of a cluster what the checks look at. A list that may not be read is left out and said to be."""

import base64
import binascii
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import Forbidden, KubeError, NotFound
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import ResourceNames, Vendor
from kerf.wire.json import Json, at
from kerf.wire.resourceslices import SLICES
from kerfctl.cluster import may
from kerfctl.diagnosis.dump import Dump, hooks_of, kerfs_own

ADMISSION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
T = TypeVar("T")
_RIGHTS = (
    ("list", "", "nodes"),
    ("list", "", "pods"),
    ("list", "", "events"),
    ("list", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("list", "admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("list", "resource.k8s.io", "deviceclasses"),
    ("list", "resource.k8s.io", "resourceslices"),
    ("list", "apiextensions.k8s.io", "customresourcedefinitions"),
    ("list", "coordination.k8s.io", "leases"),
    ("create", "", "pods"),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which installation to look at, and with what."""

    vendors: tuple[Vendor, ...]
    policy: SchedulingPolicy
    scheduler: str
    secret: str
    namespace: str | None


class Reader:
    """Reads lists, and keeps the API server's words for those that it does not give."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.unread: dict[str, str] = {}

    def list(self, path: str, **query: str) -> tuple[Json, ...]:
        """Every item; empty where the kind does not exist or may not be read."""
        return self._tried(path.rpartition("/")[2], lambda: tuple(self._kube.list(path, query)[0])) or ()

    def get(self, what: str, path: str) -> Json | None:
        """One object, None where there is none."""
        return self._tried(what, lambda: self._kube.get(path))

    def _tried(self, what: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except NotFound:
            return None
        except Forbidden as error:
            self.unread[what] = error.message
            return None


def gather(kube: Kube, wanted: Wanted) -> Dump:
    """One look at a cluster. Raises KubeError where there is no API server to ask."""
    from sandbox.crds import read_crds

    version = str(kube.get("/version").get("gitVersion", ""))
    reader = Reader(kube)
    webhooks, validating = reader.list(ADMISSION), reader.list(VALIDATING)
    named = _named(kerfs_own((*webhooks, *validating)))
    home = wanted.namespace or next((namespace for namespace, _ in named), None)
    nodes, pods, crds = reader.list(paths.NODES), reader.list(paths.PODS), reader.list(CRDS)
    leases = reader.list(f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases") if home else ()
    return Dump(
        wanted.vendors,
        now=time.time(),
        version=version,
        scheduler=wanted.scheduler,
        namespace=home or "",
        nodes=nodes,
        pods=pods,
        webhooks=webhooks,
        validating=validating,
        services=tuple(found for each in named if (found := reader.get("services", _service(*each)))),
        endpoints=tuple(found for each in named for found in _endpoints(reader, *each)),
        device_classes=reader.list(CLASSES),
        resource_slices=reader.list(SLICES),
        secret=_certificate(reader.get("secrets", f"/api/v1/namespaces/{home}/secrets/{wanted.secret}"))
        if home
        else None,
        leases=tuple(each for each in leases if each["metadata"]["name"] == wanted.scheduler),
        events=reader.list("/api/v1/events", fieldSelector="involvedObject.kind=Pod"),
        definitions=crds,
        shipped=read_crds(),
        admission=admit(kube, wanted.vendors[0].words),
        denied=tuple(denied(kube)),
        unread=reader.unread,
        policy=wanted.policy,
    )


def admit(kube: Kube, names: ResourceNames) -> str | None:
    """Send a pod with cards, not to be kept; the scheduler that it got, `error: …`, or None where that is forbidden."""
    limits = {names.count: "1", names.memory: "1"}
    container = {"name": "main", "image": "none", "resources": {"limits": limits}}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "kerf-doctor-", "namespace": "default"},
        "spec": {"containers": [container]},
    }
    try:
        pod = kube.create("/api/v1/namespaces/default/pods", body, {"dryRun": "All"})
    except KubeError as error:
        no_right = isinstance(error, Forbidden) and "cannot create resource" in error.message
        return None if no_right else f"error: {error.message}"
    return str(at(pod, "spec").get("schedulerName", ""))


def denied(kube: Kube) -> list[str]:
    """What the caller may not do of what the checks need."""
    return [
        f"{verb} {resource}{'.' if group else ''}{group}"
        for verb, group, resource in _RIGHTS
        if not may(kube, verb, group, resource)
    ]


def _named(configurations: list[Json]) -> list[tuple[str, str]]:
    """Namespace and name of the Services that are called."""
    services = [at(hook, "clientConfig", "service") for each in configurations for hook in hooks_of(each)]
    pairs = ((str(service.get("namespace", "")), str(service.get("name", ""))) for service in services)
    return [pair for pair in dict.fromkeys(pairs) if all(pair)]


def _service(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/services/{name}"


def _endpoints(reader: Reader, namespace: str, service: str) -> tuple[Json, ...]:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    return reader.list(path, labelSelector=f"kubernetes.io/service-name={service}")


def _certificate(secret: Json | None) -> Json | None:
    """The public part of a Secret."""
    if secret is None:
        return None
    try:
        return {"tls.crt": base64.b64decode(at(secret, "data").get("tls.crt") or "").decode()}
    except (binascii.Error, UnicodeDecodeError):
        return {"tls.crt": ""}
