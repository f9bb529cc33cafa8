"""Several replicas of Kerf's extender on one control plane, each alone or with its own kube-scheduler."""

import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from sandbox import ApiError, ControlPlane, Extender, await_until, free_ports
from sandbox.commands import scheduler_command
from sandbox.scheduling import render_scheduler_configuration
from sandbox.stack import start_extender

NAMESPACE, LEASE = "kube-system", "kerf-scheduler"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
ELECTION = {"leaderElect": True, "leaseDuration": "4s", "renewDeadline": "3s", "retryPeriod": "1s"}
ELECTION |= {"resourceNamespace": NAMESPACE, "resourceName": "kerf-kube-scheduler"}


@dataclass
class Replicas:
    """Extenders by name. The process has the same name, its kube-scheduler is `kube-scheduler-NAME`."""

    cp: ControlPlane
    arguments: tuple[str, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start a replica and wait until it has read the cluster."""
        (self.ports[name],) = free_ports(1)
        flags = ("--lease-namespace", NAMESPACE, "--identity", name, *self.arguments)
        start_extender(self.cp, self.ports[name], flags, name)

    def start_scheduler(self, name: str) -> None:
        """Start the leader-elected kube-scheduler that asks this replica."""
        layout, process = self.cp.layout, f"kube-scheduler-{name}"
        ports = replace(layout.ports, scheduler=free_ports(1)[0])
        extender = Extender(f"http://127.0.0.1:{self.ports[name]}")
        kubeconfig = str(self.cp.kubeconfig_for("system:kube-scheduler"))
        document = {**render_scheduler_configuration(kubeconfig, extender), "leaderElection": ELECTION}
        path = layout.config / f"{process}.json"
        path.write_text(json.dumps(document))
        command = scheduler_command(replace(layout, ports=ports), self.cp.parts["kube-scheduler"], path)
        self.cp.supervisor.start(replace(command, name=process))

    def leader(self) -> str:
        """The replica that the Lease names; empty if none."""
        try:
            lease = self.cp.api.get(f"{LEASES}/{LEASE}")
        except ApiError:
            return ""
        return str(lease["spec"].get("holderIdentity") or "").partition("_")[0]

    def leads(self, name: str) -> bool:
        """Whether a replica reports that it leads and has caught up."""
        return "kerf_scheduler_leader 1.0" in self.metrics(name)

    def metrics(self, name: str) -> str:
        """Its counters; empty while it does not answer."""
        try:
            return self.call(name, "GET", "/metrics", None, 1.0)[1].decode()
        except (OSError, http.client.HTTPException):
            return ""

    def await_leader(self, *among: str) -> str:
        """The replica that leads, once one does."""
        names = among or tuple(self.ports)
        await_until(lambda: any(self.leads(name) for name in names), f"one of {names} to lead")
        return next(name for name in names if self.leads(name))

    def bind(self, name: str, pod: dict, node: str, seconds: float = 10.0) -> str:
        """Bind a pod at one replica, as kube-scheduler does. Returns the replica's error, or ours."""
        meta = pod["metadata"]
        query = {"PodNamespace": meta["namespace"], "PodName": meta["name"], "PodUID": meta["uid"], "Node": node}
        try:
            status, content = self.call(name, "POST", "/bind", json.dumps(query).encode(), seconds)
        except (OSError, http.client.HTTPException) as error:
            return f"no answer: {error or type(error).__name__}"
        return json.loads(content)["Error"] if status == 200 else f"{status} {content.decode()}"

    def call(self, name: str, method: str, path: str, body: bytes | None, seconds: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name], timeout=seconds)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop_all(self) -> None:
        for name in self.ports:
            for process in (f"kube-scheduler-{name}", name):
                if self.cp.supervisor.alive(process):
                    self.cp.supervisor.kill(process, signal.SIGCONT)
                    self.cp.supervisor.stop(process)


@contextmanager
def replicas(
    cp: ControlPlane, *names: str, arguments: tuple[str, ...] = (), schedulers: bool = False
) -> Iterator[Replicas]:
    """Replicas, the first of which leads."""
    made = Replicas(cp, arguments)
    try:
        for name in names:
            made.start(name)
            made.await_leader(names[0])
        for name in names if schedulers else ():
            made.start_scheduler(name)
        yield made
    finally:
        made.stop_all()
