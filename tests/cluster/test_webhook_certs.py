"""The webhook's own certificates behind the real API server: two replicas, one Secret, rotation under load."""

import base64
import contextlib
import http.client
import ssl
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kerf.http.pki import Certificate
from kerf.testing.builders import a_pod
from sandbox import Api, Command, ControlPlane, Webhook, await_until, free_ports
from sandbox.documents import render_webhook

pytestmark = pytest.mark.cluster

NAMESPACE, CONFIGURATION = "certified", "certs-under-test"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/kerf-webhook-cert"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CHECK_S, CERTIFICATE_S, AUTHORITY_S = 0.5, 12.0, 36.0
REPLICAS = ("certs-one", "certs-two")


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    """A configuration without a bundle, and two replicas of the webhook that start at the same moment."""
    api = control_plane.api
    api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": {"certs": "on"}}})
    ports = free_ports(2)
    document = render_webhook(Webhook(CONFIGURATION, f"https://127.0.0.1:{ports[0]}/mutate", b"", "Fail", 10))
    (hook,) = document["webhooks"]
    hook["namespaceSelector"] = {"matchLabels": {"certs": "on"}}
    del hook["clientConfig"]["caBundle"]
    # The API server calls both replicas for every pod, so that the test notices an error in either.
    other = {**hook, "name": "other.kerf.dev", "clientConfig": {"url": f"https://127.0.0.1:{ports[1]}/mutate"}}
    document["webhooks"] = [hook, other]
    api.post(CONFIGURATIONS, document)
    starting = [
        threading.Thread(target=start, args=(control_plane, *pair)) for pair in zip(REPLICAS, ports, strict=True)
    ]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    yield api
    api.delete(f"{CONFIGURATIONS}/{CONFIGURATION}")
    for name in REPLICAS:
        control_plane.kill(name)


def start(cp: ControlPlane, name: str, port: int) -> None:
    flags = {
        "bind": f"127.0.0.1:{port}",
        "kubeconfig": str(cp.kubeconfig_for(name)),
        "namespace": NAMESPACE,
        "webhook-configuration": CONFIGURATION,
        "cert-host": "127.0.0.1",
        "cert-hours": str(CERTIFICATE_S / 3600),
        "authority-hours": str(AUTHORITY_S / 3600),
        "cert-check-seconds": str(CHECK_S),
    }
    words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
    command = (sys.executable, "-m", "webhook", "--manage-certs", *words)
    cp.supervisor.start(Command(name, command, ready=lambda: is_ready(port)))


def is_ready(port: int) -> bool:
    """Like a kubelet's probe: over TLS, without checking the issuer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
    with contextlib.suppress(OSError), contextlib.closing(connection):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def data(api: Api) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in api.get(SECRET)["data"].items()}


def bundles(api: Api) -> list[bytes]:
    hooks = api.get(f"{CONFIGURATIONS}/{CONFIGURATION}")["webhooks"]
    return [base64.b64decode(hook["clientConfig"].get("caBundle", "")) for hook in hooks]


def admitted(api: Api) -> str:
    """The scheduler name that a pod with cards gets, in a dry run that calls both replicas."""
    pod = a_pod("x", namespace=NAMESPACE)
    body = {"metadata": {"generateName": "x-"}, "spec": pod["spec"]}
    return str(api.post(f"{PODS}?dryRun=All", body)["spec"]["schedulerName"])


def test_replicas_that_start_at_once_share_one_certificate_that_the_api_server_trusts(
    api: Api, control_plane: ControlPlane
) -> None:
    assert admitted(api) == "kerf-scheduler"
    writes = [
        write for write in control_plane.writes_by() if (write.resource, write.namespace) == ("secrets", NAMESPACE)
    ]
    assert len([write for write in writes if write.verb == "create" and write.code < 300]) == 1
    assert set(bundles(api)) == {data(api)["ca.crt"]}


def test_certificates_and_authorities_rotate_under_a_stream_of_pods_and_no_request_fails(api: Api) -> None:
    stop, problems, answers = threading.Event(), [], []

    def stream() -> None:
        while not stop.is_set():
            try:
                answers.append(admitted(api))
            except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
                problems.append(str(error))

    senders = [threading.Thread(target=stream) for _ in range(2)]
    certificates, authorities = set(), set()

    def rotated() -> bool:
        now = data(api)
        certificates.add(now["tls.crt"])
        authorities.update(each.pem for each in Certificate.parse_all(now["ca.crt"]))
        return len(certificates) >= 5 and len(authorities) >= 3

    for thread in senders:
        thread.start()
    try:
        await_until(rotated, "five certificates of three authorities")
    finally:
        stop.set()
        for thread in senders:
            thread.join()

    assert problems == []
    assert set(answers) == {"kerf-scheduler"}
    assert len(answers) > 100


def test_a_bundle_that_somebody_resets_comes_back(api: Api) -> None:
    path = f"{CONFIGURATIONS}/{CONFIGURATION}"
    document: dict[str, Any] = api.get(path)
    for hook in document["webhooks"]:
        hook["clientConfig"]["caBundle"] = ""
    api.patch(path, {"webhooks": document["webhooks"]})

    await_until(lambda: set(bundles(api)) == {data(api)["ca.crt"]}, "the bundle to be injected again")
    await_until(lambda: is_admitted(api), "the API server to trust the webhook again")


def is_admitted(api: Api) -> bool:
    try:
        return admitted(api) == "kerf-scheduler"
    except Exception:  # noqa: BLE001 (asked again)
        return False
