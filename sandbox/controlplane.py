"""A real control plane on loopback: etcd, the API server and, on request, the other components."""

import json
import secrets
import signal
import ssl
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kerf.http.pki import Authority, generate_key
from sandbox import commands
from sandbox.api import Api
from sandbox.audit import POLICY, Call, Write, read_calls, read_writes
from sandbox.build import module_dir
from sandbox.documents import Webhook, render_kubeconfig, render_webhook
from sandbox.errors import SandboxError
from sandbox.fakenodes import FakeNode, read_stages, render_fake_node
from sandbox.layout import Layout, Ports
from sandbox.processes import Supervisor, await_until
from sandbox.scheduling import Extender, render_scheduler_configuration

ADMINS = ("system:masters",)


class ControlPlane:
    """A running control plane. Leaving the context stops it.

    Its processes are named ``etcd``, ``kube-apiserver``, ``kube-controller-manager``, ``kube-scheduler`` and
    ``kwok``. `supervisor` kills and restarts each of them, and runs everything else of the sandbox. `kubeconfig` and
    `token` belong to an administrator, `ca` is the PEM file to trust, `api` is a client for tests.
    """

    def __init__(self, run_dir: Path, parts: Mapping[str, Path]) -> None:
        """Prepare keys and files below `run_dir`. `start` starts the processes."""
        self.run_dir = run_dir
        self.parts = parts
        self.layout = Layout(run_dir, Ports.free())
        self.authority = Authority()
        self.supervisor = Supervisor(run_dir)
        self.url = self.layout.url
        self.token = secrets.token_hex(16)
        self.ca = self.layout.pki / "ca.crt"
        self._write_pki()
        self.kubeconfig = self._write("admin.kubeconfig", render_kubeconfig(self.url, self.ca, {"token": self.token}))
        self._closing = ExitStack()
        self.api = Api(self.url, self.token, ssl.create_default_context(cafile=self.ca))
        self._closing.callback(self.api.close)

    @classmethod
    def start(
        cls,
        run_dir: Path,
        parts: Mapping[str, Path],
        *,
        controller_manager: bool = True,
        audit: bool = False,
        service_accounts: bool = False,
    ) -> Self:
        """Start etcd, the API server and, by default, the controller manager.

        With `service_accounts` every pod must have one and gets its token, as in any user's cluster.
        `run_dir` is a new directory, `parts` is the result of `sandbox.ensure`. Raises SandboxError.
        """
        plane = cls(run_dir, parts)
        try:
            left_out = (
                *(() if service_accounts else ("ServiceAccount",)),
                *(
                    () if controller_manager else ("TaintNodesByCondition",)
                ),  # only a controller manager removes this taint
            )
            plane._start(audit=audit, controller_manager=controller_manager, without=left_out)
        except BaseException:
            plane.stop()
            raise
        return plane

    def start_scheduler(
        self, extender: Extender | None = None, *, configuration: Mapping[str, Any] | None = None
    ) -> None:
        """Start kube-scheduler with Kerf's own configuration and this extender, or with the given `configuration`."""
        kubeconfig = self.kubeconfig_for("system:kube-scheduler")
        chosen = configuration or render_scheduler_configuration(str(kubeconfig), extender)
        path = self._write("scheduler.json", chosen)
        self.supervisor.start(commands.scheduler_command(self.layout, self._program("kube-scheduler"), path))

    def start_kwok(self) -> None:
        """Start kwok, which keeps fake nodes Ready and their pods Running. Its stages come from Go's module cache."""
        stages = self.layout.config / "kwok.yaml"
        stages.write_text(read_stages(module_dir("kwok", "sigs.k8s.io/kwok")))
        kubeconfig = self.kubeconfig_for("kwok")
        self.supervisor.start(commands.kwok_command(self.layout, self._program("kwok"), kubeconfig, stages))

    def add_fake_nodes(self, nodes: Iterable[FakeNode], seconds: float = 120.0) -> None:
        """Create nodes for kwok and wait until every one of them is Ready."""
        waiting = {self.api.post("/api/v1/nodes", render_fake_node(node))["metadata"]["name"] for node in nodes}
        await_until(lambda: waiting <= self.ready_nodes(), f"{len(waiting)} kwok nodes to become Ready", seconds)

    def ready_nodes(self) -> set[str]:
        """The names of the nodes that are Ready and carry no not-ready taint."""
        return {node["metadata"]["name"] for node in self.api.get("/api/v1/nodes")["items"] if _is_ready(node)}

    def kubeconfig_for(self, user: str, groups: tuple[str, ...] = ADMINS) -> Path:
        """A kubeconfig for a user with its own client certificate. `groups` decide what RBAC allows."""
        name = _file_name(user)
        certificate, key = self._issue(user, groups)
        identity = {"client-certificate": str(certificate), "client-key": str(key)}
        return self._write(f"{name}.kubeconfig", render_kubeconfig(self.url, self.ca, identity))

    def api_as(self, user: str, groups: tuple[str, ...] = ADMINS) -> Api:
        """A client for a user with its own client certificate."""
        tls = ssl.create_default_context(cafile=self.ca)
        tls.load_cert_chain(*self._issue(user, groups))
        api = Api(self.url, "", tls)
        self._closing.callback(api.close)
        return api

    def service_account(self, namespace: str, name: str, pod: str | None = None) -> Path:
        """A kubeconfig with a service account's token, bound to the named pod if any, like the tokens of kubelets."""
        spec: dict[str, Any] = {"expirationSeconds": 3600}
        if pod:
            meta = self.api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")["metadata"]
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": meta["uid"]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", body)
        token = {"token": answer["status"]["token"]}
        return self._write(f"{namespace}-{name}-{pod}.kubeconfig", render_kubeconfig(self.url, self.ca, token))

    def register_webhook(self, webhook: Webhook) -> None:
        """Register a mutating webhook for every new pod."""
        self.api.post("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", render_webhook(webhook))

    def writes_by(self, user: str | None = None) -> tuple[Write, ...]:
        """The writes of a user (or of all) so far, oldest first. Needs ``audit=True``."""
        return read_writes(self.layout.audit_log, user)

    def calls_by(self, user: str) -> frozenset[Call]:
        """The allowed requests of a user so far, reads included. Needs ``audit=True``."""
        return read_calls(self.layout.audit_log, user)

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        """Send a signal to one process by name. After SIGKILL, wait until it is gone."""
        self.supervisor.kill(name, signum)

    def restart(self, name: str) -> None:
        """Restart one process, killed or not, with its old port and data, and wait until it is ready."""
        if name == "kwok":
            self.supervisor.stop(name)
            self._drop_leases_of_kwok()
        self.supervisor.restart(name)

    def restart_controllers(self) -> None:
        """Restart what runs of kube-controller-manager, kube-scheduler, kwok and Kueue, for instance after an outage.

        A controller of client-go that lives through an outage watches again after up to a minute: it waits for
        30 seconds, and for as much again by chance.
        """
        for name in ("kube-controller-manager", "kube-scheduler", "kwok", "kueue"):
            if name in self.supervisor.names():
                self.restart(name)

    def stop(self) -> None:
        """Stop every process, the last one started first."""
        self._closing.close()
        self.supervisor.stop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, *, audit: bool, controller_manager: bool, without: tuple[str, ...]) -> None:
        if audit:
            self._write("audit-policy.json", POLICY)
        layout, supervisor = self.layout, self.supervisor
        supervisor.start(commands.etcd_command(layout, self._program("etcd")))
        apiserver = self._program("kube-apiserver")
        supervisor.start(commands.apiserver_command(layout, apiserver, self.api, audit=audit, without=without))
        if controller_manager:
            kubeconfig = self.kubeconfig_for("system:kube-controller-manager")
            program = self._program("kube-controller-manager")
            supervisor.start(commands.controller_manager_command(layout, program, kubeconfig))

    def _drop_leases_of_kwok(self) -> None:
        """Each kwok has another identity, and leaves a node alone until the lease of the one before has ended."""
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        for lease in self.api.get(leases)["items"]:
            name = lease["metadata"]["name"]
            if lease["spec"].get("holderIdentity") != name:  # a kubelet's lease has the name of its node
                self.api.remove(f"{leases}/{name}")

    def _issue(self, user: str, groups: tuple[str, ...]) -> tuple[Path, Path]:
        return self.authority.issue(user, groups).write(self.layout.pki, f"client-{_file_name(user)}")

    def _write_pki(self) -> None:
        server = self.authority.issue("kube-apiserver", ADMINS, ("127.0.0.1", "localhost", "kubernetes", "10.0.0.1"))
        server.write(self.layout.pki, "server")
        self.ca.write_bytes(self.authority.certificate)
        for name, content in (
            ("service-account.key", generate_key().decode()),
            ("tokens.csv", f'{self.token},admin,admin,"{",".join(ADMINS)}"\n'),
        ):
            path = self.layout.pki / name
            path.touch(mode=0o600)
            path.write_text(content)

    def _write(self, name: str, document: Mapping[str, Any]) -> Path:
        """Write each document as JSON, which is also YAML, readable only by its owner."""
        self.layout.config.mkdir(exist_ok=True)
        path = self.layout.config / name
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=1))
        return path

    def _program(self, name: str) -> Path:
        try:
            return self.parts[name]
        except KeyError:
            raise SandboxError(f"{name} is not among the given parts: ensure(({name!r}, …)) first") from None


def _file_name(user: str) -> str:
    return user.replace(":", "-").replace("/", "-")


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", ())
    tainted = any(taint["key"] == "node.kubernetes.io/not-ready" for taint in node["spec"].get("taints", ()))
    return not tainted and any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)
