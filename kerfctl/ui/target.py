"""Where the page is: at an address, or behind a port-forward to the pod of the replica that leads."""

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.kube.lease import lease_path, parse_lease
from kerf.kube.tunnel import PodTunnel
from kerfctl.errors import CliError

LEASE = "kerf-scheduler"
DEPLOYMENT = "app.kubernetes.io/component=scheduler,app.kubernetes.io/name=kerf"


@dataclass(frozen=True, slots=True)
class Address:
    """A page that is reached directly."""

    host: str
    port: int

    def open(self) -> socket.socket:
        """A connected socket. Raises OSError."""
        connected = socket.create_connection((self.host, self.port), timeout=10.0)
        connected.settimeout(None)
        return connected


@dataclass(frozen=True, slots=True)
class Leader:
    """The page of the replica that leads, whichever that is when a connection is opened."""

    kube: Kube
    tunnel: PodTunnel
    namespace: str
    port: int

    def open(self) -> socket.socket:
        """A connected socket. Raises OSError."""
        try:
            return self.tunnel.open(self.namespace, self._pod(), self.port)
        except KubeError as error:
            raise OSError(str(error)) from error

    def _pod(self) -> str:
        """The leader's name in the Lease is its pod's and something of its own; alone, there is no Lease."""
        try:
            holder = parse_lease(self.kube.get(lease_path(self.namespace, LEASE))).holder
        except NotFound:
            holder = ""
        if holder:
            return holder.rpartition("_")[0]
        pods, _ = self.kube.list(paths.pods(self.namespace), {"labelSelector": DEPLOYMENT})
        names = sorted(pod["metadata"]["name"] for pod in pods if pod.get("status", {}).get("phase") == "Running")
        if not names:
            raise OSError(f"no replica of the scheduler runs in namespace {self.namespace}; name it with --namespace")
        return str(names[0])


Target = Address | Leader


def parse_url(text: str) -> Address:
    """`http://HOST:PORT`. Raises CliError."""
    try:
        where = urlsplit(text)
        host, port, plain = where.hostname, where.port, where.scheme == "http" and where.path in {"", "/"}
    except ValueError:
        host, port, plain = None, None, False
    if not host or not port or not plain:
        raise CliError(f"--url {text}: write http://HOST:PORT; open an https address in the browser itself")
    return Address(host, port)
