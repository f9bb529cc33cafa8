"""The process: `python -m webhook` from its flags to its end."""

import base64
import contextlib
import http.client
import json
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from kerf.http.pki import Authority
from kerf.testing.builders import a_pod
from sandbox.documents import render_kubeconfig
from sandbox.processes import await_until
from webhook.main import main


@dataclass
class Running:
    process: "subprocess.Popen[str]"
    port: int
    messages: "queue.Queue[str]"

    def post(self, body: bytes, tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        if tls:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=20, context=tls
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/mutate", body)
            response = connection.getresponse()
            return response.status, response.read()

    def await_message(self, message: str) -> None:
        while self.messages.get(timeout=10) != message:
            pass

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


def collect(stream: IO[str], messages: "queue.Queue[str]") -> None:
    """Every line is read as it comes: a full pipe must not stop the process."""
    with contextlib.suppress(ValueError):  # closed while it was read
        for line in stream:
            messages.put(json.loads(line)["message"])


@contextlib.contextmanager
def a_webhook(*flags: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "webhook", "--bind", "127.0.0.1:0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            messages: queue.Queue[str] = queue.Queue()
            threading.Thread(target=collect, args=(process.stderr, messages), daemon=True).start()
            yield Running(process, int(messages.get(timeout=30).rpartition(":")[2]), messages)
        finally:
            process.kill()


def a_review(pod: dict[str, Any]) -> bytes:
    request = {"uid": "u-1", "kind": {"kind": "Pod"}, "operation": "CREATE", "object": pod}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "request": request}).encode()


def test_it_answers_and_stops_cleanly_on_sigterm() -> None:
    with a_webhook() as webhook:
        status, body = webhook.post(a_review(a_pod(mem="3Gi")))

        assert (status, json.loads(body)["response"]["allowed"]) == (200, False)
        assert webhook.stop() == 0


def test_a_request_in_flight_is_answered_after_sigterm() -> None:
    body = a_review(a_pod())
    with a_webhook() as webhook, socket.create_connection(("127.0.0.1", webhook.port), 20) as connection:
        head = f"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100")  # it waits for the body now

        webhook.process.send_signal(signal.SIGTERM)
        webhook.await_message("draining")
        connection.sendall(body)

        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert webhook.process.wait(10) == 0


def test_a_hundred_megabytes_are_refused_and_the_service_goes_on() -> None:
    with a_webhook() as webhook:
        with socket.create_connection(("127.0.0.1", webhook.port), 20) as connection:
            size = 100 * 1024 * 1024
            connection.sendall(f"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):  # it may close while we still send
                for _ in range(100):
                    connection.sendall(b" " * 1024 * 1024)
            assert connection.recv(100).startswith(b"HTTP/1.1 413")

        assert webhook.post(a_review(a_pod()))[0] == 200
        peak_kib = int(Path(f"/proc/{webhook.process.pid}/status").read_text().split("VmHWM:")[1].split()[0])
        assert peak_kib < 100 * 1024


def test_flags_and_policy_reach_the_rules_and_without_quota_no_tenants_are_awaited(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    spec = '{defaults: {memoryMiB: 4000, cores: 10}, quota: {engine: "off"}}'
    policy.write_text(f"apiVersion: kerf.dev/v1alpha1\nkind: SchedulingPolicy\nspec: {spec}\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an API server that never answers
        kubeconfig = a_kubeconfig(tmp_path / "kubeconfig", silent.getsockname()[1])
        flags = ("--config", str(policy), "--scheduler-name", "mine", "--runtime-class", "kata")
        with a_webhook(*flags, "--kubeconfig", str(kubeconfig)) as webhook:
            status, body = webhook.post(a_review(a_pod(mem=None, cores=None)))
    answer = json.loads(body)

    assert status == 200

    values = {op["path"]: op["value"] for op in json.loads(base64.b64decode(answer["response"]["patch"]))}
    assert values == {
        "/spec/schedulerName": "mine",
        "/spec/runtimeClassName": "kata",
        "/spec/containers/0/resources/limits/nvidia.com~1gpumem": "4000",
        "/spec/containers/0/resources/limits/nvidia.com~1gpucores": "10",
        "/spec/containers/0/resources/requests": {
            "nvidia.com/gpu": "1",
            "nvidia.com/gpumem": "4000",
            "nvidia.com/gpucores": "10",
        },
    }


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Starts a webhook that cannot serve, in this process: its exit status and what it wrote to standard error."""
    monkeypatch.setattr("webhook.main.start_logging", lambda level: None)  # pytest's own handlers stay
    return lambda *flags: (main(flags), capsys.readouterr().err)


def test_a_cluster_that_cannot_be_used_is_reported_at_the_start(start: Callable[..., tuple[int, str]]) -> None:
    status, said = start("--bind", "127.0.0.1:0", "--kubeconfig", "/nowhere")

    assert (status, said.count("\n")) == (1, 1)
    assert "/nowhere cannot be used" in said


def a_kubeconfig(path: Path, port: int) -> Path:
    path.write_text(json.dumps(render_kubeconfig(f"http://127.0.0.1:{port}", path, {"token": "t"})))
    return path


def test_reviews_wait_until_the_tenants_are_read(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an API server that never answers
        kubeconfig = a_kubeconfig(tmp_path / "kubeconfig", silent.getsockname()[1])
        with a_webhook("--kubeconfig", str(kubeconfig)) as webhook:
            assert webhook.post(a_review(a_pod()))[0] == 503


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.certificate.decode())


def test_a_rotated_certificate_is_served_and_a_broken_one_is_not(tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    cert, key = old.issue("webhook").write(tmp_path, "tls")
    with a_webhook("--tls-cert", str(cert), "--tls-key", str(key)) as webhook:
        review = a_review(a_pod())
        assert webhook.post(review, trusting(old))[0] == 200

        fresh = new.issue("webhook")
        cert.write_bytes(fresh.certificate)  # the key still is the old one's
        for _ in range(3):
            assert webhook.post(review, trusting(old))[0] == 200
        key.write_bytes(fresh.key)

        def rotated() -> bool:
            try:
                return webhook.post(review, trusting(new))[0] == 200
            except ssl.SSLCertVerificationError:
                return False

        await_until(rotated, "the new certificate")
        assert webhook.stop() == 0


def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue("webhook").write(tmp_path, "tls")
    with a_webhook("--tls-cert", str(cert), "--tls-key", str(key)) as webhook:
        old = trusting(authority)
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        assert webhook.post(a_review(a_pod()), old)[0] == 200
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="is deprecated"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="is deprecated"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1

        with pytest.raises(ssl.SSLError):
            webhook.post(b"", context)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--bind", "nowhere"], "webhook: --bind: 'nowhere': write HOST:PORT, for example 127.0.0.1:8443\n"),
        (
            ["--bind", "127.0.0.1:0", "--tls-cert", "x"],
            "webhook: --tls-cert, --tls-key: 'x': give both files, or neither\n",
        ),
        (["--bind", "127.0.0.1:0", "--config", "/nowhere"], None),
        (["--bind", "127.0.0.1:0", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"], None),
    ],
    ids=["no port", "half a pair", "no such policy", "no such certificate"],
)
def test_a_users_mistake_is_one_line_and_a_status(
    start: Callable[..., tuple[int, str]], flags: list[str], sentence: str | None
) -> None:
    status, said = start(*flags)

    assert (status, said.count("\n")) == (1, 1)
    assert sentence in {None, said}


def test_a_taken_port_is_one_line_and_a_status(start: Callable[..., tuple[int, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        status, said = start("--bind", f"127.0.0.1:{port}")

    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith(f"webhook: cannot listen on 127.0.0.1:{port}: ")
