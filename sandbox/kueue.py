"""A real Kueue manager beside a control plane of the sandbox.

The manager runs as its own service account with only the RBAC that Kueue ships. Its webhooks listen on loopback. It
requires a certificate at a fixed path below /etc, which it finds in its own mount namespace. So several Kueues, each
with its own control plane, run on one machine.
"""

import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kerf.http.pki import KeyPair
from sandbox.api import Api, ApiError
from sandbox.build import locate, module_dir
from sandbox.commands import answers
from sandbox.controlplane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.kueuedocs import (
    GROUPS,
    NAMESPACE,
    USER,
    Binds,
    Endpoint,
    path_of,
    render_configuration,
    render_crd,
    render_rbac,
    render_webhooks,
    scoped_webhooks,
)
from sandbox.layout import free_ports
from sandbox.processes import Command, await_until

KUEUE = "kueue"
"""The name of Kueue's process."""
GARBAGE_COLLECTOR = "kube-controller-manager"
"""Kueue looks for new kinds every 30 s; until then the workload of a deleted Job would keep its quota."""
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
COMPONENTS = "config/components"
METRICS_CERTS = "kueue/metrics/certs"
"""Below /etc; fixed in Kueue's code."""
JOB_KINDS = {
    "sigs.k8s.io/jobset": "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml",
    "sigs.k8s.io/lws": "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml",
}
"""Modules that Kueue itself requires, and the CustomResourceDefinition of each."""

_ETC = Path(__file__).with_name("etc.py")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # Workloads alone are 1.4 MB


@dataclass(frozen=True, slots=True)
class Kueue:
    """A running manager. Its process is named ``kueue`` in the control plane's supervisor.

    It read `configuration` when it started (a change needs a restart). `metrics_url` is https and requires a token or
    a client certificate of the cluster.
    """

    configuration: Mapping[str, Any]
    webhook_url: str
    metrics_url: str


def start_kueue(cp: ControlPlane, *, configuration: Mapping[str, Any] | None = None) -> Kueue:
    """Install Kueue's API, start its manager, and register its webhooks once they answer.

    `configuration` is merged into Kerf's own (see `render_configuration`), ``{"multiKueue": {"dispatcherName": …}}``.
    The program is the control plane's part ``kueue``, or an earlier build. Raises SandboxError.
    """
    program = cp.parts.get(KUEUE) or locate(KUEUE)
    if program is None:
        raise SandboxError("kueue is not built: ensure(('kueue',)) first, or set KUEUE_BIN to a kueue 0.19 manager")
    home = cp.run_dir / KUEUE
    serving = cp.authority.issue("kueue-webhook-service", hosts=("127.0.0.1",))
    health, metrics, webhook = free_ports(3)
    endpoint = Endpoint(f"https://127.0.0.1:{webhook}", cp.authority.certificate)
    binds = Binds(health, metrics, webhook, str(_write_certificate(serving, home / "webhook")))
    _write_certificate(serving, home / "etc" / METRICS_CERTS)
    source = module_dir(KUEUE, "sigs.k8s.io/kueue") / COMPONENTS

    _install(cp, source, endpoint)
    rendered = render_configuration(binds, _crd_names(cp), configuration)
    config = home / "configuration.yaml"
    config.write_text(yaml.safe_dump(rendered))
    cp.supervisor.start(
        Command(
            KUEUE,
            (sys.executable, "-I", "-S", str(_ETC), str(home / "etc"), str(program), f"--config={config}"),
            env={"KUBECONFIG": str(cp.kubeconfig_for(USER, GROUPS))},
            ready=lambda: answers(f"http://127.0.0.1:{health}/readyz") and _listens(webhook),
        )
    )
    _register_webhooks(cp, source, endpoint)
    cp.supervisor.await_until(lambda: _is_asked(cp), "the API server to ask Kueue's webhooks", KUEUE)
    return Kueue(rendered, endpoint.url, f"https://127.0.0.1:{metrics}/metrics")


def install_job_kinds(cp: ControlPlane) -> None:
    """Serve JobSets and LeaderWorkerSets, so that a Kueue started afterwards manages them.

    No controller acts on them here: Kueue counts and admits them, but nothing creates their pods.
    """
    documents = [module_dir(KUEUE, module) / file for module, file in JOB_KINDS.items()]
    _apply(cp, (document for file in documents for document in _documents(file)))
    _await_discovered(cp)


def _install(cp: ControlPlane, source: Path, endpoint: Endpoint) -> None:
    _apply(cp, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    crds, patches = _listed(source / "crd", "resources"), _listed(source / "crd", "patches")
    converted = frozenset(patch["metadata"]["name"] for patch in patches)
    _apply(cp, (render_crd(crd, converted, endpoint) for crd in crds))
    _apply(cp, (render_rbac(document) for document in _listed(source / "rbac", "resources")))
    _apply(cp, _documents(source / "map/manifests.yaml"))
    _await_discovered(cp)
    if cp.supervisor.alive(GARBAGE_COLLECTOR):
        cp.restart(GARBAGE_COLLECTOR)


def _register_webhooks(cp: ControlPlane, source: Path, endpoint: Endpoint) -> None:
    (kustomization,) = _documents(source / "webhook/kustomization.yaml")
    scoped = scoped_webhooks(kustomization)
    manifests = _documents(source / "webhook/manifests.yaml")
    _apply(cp, (render_webhooks(manifest, scoped, endpoint) for manifest in manifests))


def _is_asked(cp: ControlPlane) -> bool:
    """Kueue suspends the Job of a queue; until its webhooks are known, and while it is away, it does not."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "app"}]}}
    meta = {"name": "probe", "labels": {"kueue.x-k8s.io/queue-name": "probe"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": template}}
    try:
        stored = cp.api.post("/apis/batch/v1/namespaces/default/jobs?dryRun=All", job)
    except ApiError:
        return False
    return bool(stored["spec"].get("suspend"))


def _apply(cp: ControlPlane, documents: Iterable[dict[str, Any]]) -> None:
    for document in documents:
        cp.api.apply(path_of(document), document)


def _await_discovered(cp: ControlPlane) -> None:
    """The manager exits if a kind that it needs is not discovered: that may be later than Established."""
    missing = {
        (f"/apis/{spec['group']}/{version['name']}", spec["names"]["plural"])
        for spec in (crd["spec"] for crd in cp.api.get(CRDS)["items"])
        for version in spec["versions"]
        if version["served"]
    }

    def discovered() -> bool:
        for path in sorted({path for path, _ in missing}):
            missing.difference_update({(path, plural) for plural in _discovered(cp.api, path)})
        return not missing

    await_until(discovered, "the CustomResourceDefinitions to be discovered")


def _discovered(api: Api, path: str) -> list[str]:
    """The resources that clients find in a group's version."""
    try:
        return [resource["name"] for resource in api.get(path)["resources"]]
    except ApiError:
        return []


def _crd_names(cp: ControlPlane) -> Iterator[str]:
    return (crd["metadata"]["name"] for crd in cp.api.get(CRDS)["items"])


def _listed(directory: Path, key: str) -> list[dict[str, Any]]:
    """The contents of the files that a kustomization lists under `key`, in its order."""
    (kustomization,) = _documents(directory / "kustomization.yaml")
    files = (each if isinstance(each, str) else each["path"] for each in kustomization[key])
    return [document for file in files for document in _documents(directory / file)]


def _documents(file: Path) -> list[dict[str, Any]]:
    with file.open("rb") as stream:
        return [document for document in yaml.load_all(stream, _LOADER) if document]


def _write_certificate(pair: KeyPair, directory: Path) -> Path:
    pair.write(directory, "tls")
    return directory


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False
