"""Who may bind: the real kube-scheduler shows its certificate, replicas show theirs, and nobody else is answered."""

import http.client
import ssl
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kerf.http.pki import Authority
from sandbox import Command, ControlPlane, Extender, await_until, free_ports
from sandbox.commands import answers
from tests.cluster.gpu_pods import a_fake_node, a_gpu_pod, await_bound, create, remove_pods

pytestmark = pytest.mark.cluster
LEASE = ("--lease-namespace", "kube-system", "--lease-name", "kerf-certificates")


@pytest.fixture
def ports(control_plane: ControlPlane, tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two replicas with certificates, of which the first leads; kube-scheduler asks the second."""
    cp, (first, second) = control_plane, free_ports(2)
    authority = Authority("kerf-webhook")
    ca, _ = authority.pair.write(tmp_path, "ca")
    cert, key = authority.issue("kerf-webhook").write(tmp_path, "tls")
    cp.add_fake_nodes([a_fake_node("gpu-1")])
    tls = ssl.create_default_context(cafile=ca)
    files = ("--tls-cert", str(cert), "--tls-key", str(key), "--client-ca", str(ca))
    for name, port in (("first", first), ("second", second)):
        where = ("--kubeconfig", str(cp.kubeconfig_for("kerf-scheduler")), "--bind", f"127.0.0.1:{port}")
        command = (sys.executable, "-m", "scheduler", *where, *files, *LEASE, "--identity", name)
        cp.supervisor.start(Command(name, command, ready=partial(answers, f"https://127.0.0.1:{port}/readyz", tls)))
        await_until(lambda: b"kerf_scheduler_leader 1.0" in get(first, tls), "the first replica to lead")
    cp.start_scheduler(Extender(f"https://127.0.0.1:{second}", str(ca), (str(cert), str(key))))
    yield first, second
    for name in ("kube-scheduler", "second", "first"):
        cp.supervisor.stop(name)
    remove_pods(cp)
    cp.api.delete("/api/v1/nodes/gpu-1")


def get(port: int, tls: ssl.SSLContext) -> bytes:
    return ask(port, tls, "GET", "/metrics")[1]


def ask(port: int, tls: ssl.SSLContext, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=tls, timeout=10)
    try:
        connection.request(method, path, b"{}" if method == "POST" else None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_kube_scheduler_and_replicas_show_certificates_and_others_are_refused(
    control_plane: ControlPlane, ports: tuple[int, int], tmp_path: Path
) -> None:
    create(control_plane, a_gpu_pod("known", mem=1000))
    await_bound(control_plane, "known")

    stranger = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    for port in ports:
        for verb in ("filter", "prioritize", "preempt", "bind", "kinds"):
            status, said = ask(port, stranger, "POST", f"/{verb}")
            assert (status, said.strip()) == (403, b"this port answers clients with a certificate alone: show one")
        assert ask(port, stranger, "GET", "/readyz")[0] == 200
    passed_on = 'kerf_scheduler_forwarded_total{outcome="answered",verb="bind"} 1.0'
    assert passed_on.encode() in get(ports[1], stranger)
