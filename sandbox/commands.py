"""The command lines of the control plane's parts. Pure, except for their readiness probes."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from sandbox.api import Api
from sandbox.layout import Layout
from sandbox.processes import Command

SERVICE_RANGE = "10.0.0.0/24"


def etcd_command(layout: Layout, program: Path) -> Command:
    """One etcd member, without fsync: killing the process loses nothing; only losing the machine would."""
    client, peer = (f"https://127.0.0.1:{port}" for port in (layout.ports.etcd, layout.ports.etcd_peer))
    health = f"http://127.0.0.1:{layout.ports.etcd_health}"
    tls: dict[str, object] = {"cert-file": layout.pki / "server.crt", "key-file": layout.pki / "server.key"}
    tls |= {"trusted-ca-file": layout.pki / "ca.crt", "client-cert-auth": True}
    flags = {
        "name": "sandbox",
        "data-dir": layout.run_dir / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"sandbox={peer}",
        "listen-metrics-urls": health,
        "unsafe-no-fsync": True,
        "log-level": "warn",
        **tls,
        **{f"peer-{name}": value for name, value in tls.items()},
    }
    return Command("etcd", (str(program), *_flags(flags)), ready=lambda: answers(f"{health}/health"))


def apiserver_command(layout: Layout, program: Path, api: Api, *, audit: bool, without: tuple[str, ...]) -> Command:
    """The API server: static admin token, client certificates, RBAC. `without` names admission plugins to leave out."""
    pki = layout.pki
    flags = {
        **_client_of_etcd(layout),
        "bind-address": "127.0.0.1",
        "secure-port": layout.ports.apiserver,
        "advertise-address": "127.0.0.1",  # otherwise it looks for a default route
        "cert-dir": pki,
        "tls-cert-file": pki / "server.crt",
        "tls-private-key-file": pki / "server.key",
        "client-ca-file": pki / "ca.crt",
        "token-auth-file": pki / "tokens.csv",
        "authorization-mode": "Node,RBAC",
        "service-account-issuer": layout.url,
        "service-account-key-file": pki / "service-account.key",
        "service-account-signing-key-file": pki / "service-account.key",
        "service-cluster-ip-range": SERVICE_RANGE,
        "endpoint-reconciler-type": "none",  # endpoints may not be loopback addresses
        "disable-admission-plugins": ",".join(without),
        "allow-privileged": True,
        "kubelet-certificate-authority": pki / "ca.crt",
        "kubelet-client-certificate": pki / "server.crt",
        "kubelet-client-key": pki / "server.key",
        "kubelet-preferred-address-types": "InternalIP",
        **(_audited(layout) if audit else {}),
    }
    return Command("kube-apiserver", (str(program), *_flags(flags)), ready=api.is_ready)


def controller_manager_command(layout: Layout, program: Path, kubeconfig: Path) -> Command:
    """The controller manager, all default controllers."""
    flags = {
        "kubeconfig": kubeconfig,
        "leader-elect": False,
        "service-account-private-key-file": layout.pki / "service-account.key",
        "root-ca-file": layout.pki / "ca.crt",
        "kube-api-qps": 1000,  # it lifts the not-ready taint of each new node
        "kube-api-burst": 1000,
        "horizontal-pod-autoscaler-sync-period": "2s",
        **_served(layout, layout.ports.controller_manager),
    }
    ready = _healthy(layout, layout.ports.controller_manager, "/healthz")
    return Command("kube-controller-manager", (str(program), *_flags(flags)), ready=ready)


def scheduler_command(layout: Layout, program: Path, configuration: Path) -> Command:
    """kube-scheduler with a rendered KubeSchedulerConfiguration."""
    flags = {"config": configuration, **_served(layout, layout.ports.scheduler)}
    ready = _healthy(layout, layout.ports.scheduler, "/readyz")
    return Command("kube-scheduler", (str(program), *_flags(flags)), ready=ready)


def kwok_command(layout: Layout, program: Path, kubeconfig: Path, stages: Path) -> Command:
    """A kwok for the nodes that carry its annotation."""
    address = f"127.0.0.1:{layout.ports.kwok}"
    flags = {
        "kubeconfig": kubeconfig,
        "config": stages,
        "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
        "node-ip": "127.0.0.1",
        "node-lease-duration-seconds": 60,  # renewed every 15 s; the controller manager waits for 50 s
        "server-address": address,
    }
    return Command("kwok", (str(program), *_flags(flags)), ready=lambda: answers(f"http://{address}/healthz"))


def answers(url: str, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a GET returns 200."""
    try:
        with _direct(tls).open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _direct(tls: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    """A client that uses no proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))


def _client_of_etcd(layout: Layout) -> dict[str, object]:
    return {
        "etcd-servers": f"https://127.0.0.1:{layout.ports.etcd}",
        "etcd-cafile": layout.pki / "ca.crt",
        "etcd-certfile": layout.pki / "server.crt",
        "etcd-keyfile": layout.pki / "server.key",
    }


def _audited(layout: Layout) -> dict[str, object]:
    return {
        "audit-policy-file": layout.config / "audit-policy.json",
        "audit-log-path": layout.audit_log,
        "audit-log-mode": "blocking",  # a write appears in the log at about the time of its response
    }


def _served(layout: Layout, port: int) -> dict[str, object]:
    return {
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "tls-cert-file": layout.pki / "server.crt",
        "tls-private-key-file": layout.pki / "server.key",
        "authentication-skip-lookup": True,
    }


def _healthy(layout: Layout, port: int, path: str) -> Callable[[], bool]:
    tls = ssl.create_default_context(cafile=layout.pki / "ca.crt")
    return lambda: answers(f"https://127.0.0.1:{port}{path}", tls)


def _flags(flags: Mapping[str, object]) -> tuple[str, ...]:
    values = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in flags.items()}
    return tuple(f"--{name}={value}" for name, value in values.items())
