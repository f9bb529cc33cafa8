"""The harness itself: a real control plane, a real node, fake nodes, and what tests do to them."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox import ControlPlane, Extender, FakeNode, Node, Webhook, Write, await_until
from tests.cluster.sandbox_pods import PODS, a_sleeper, await_report, await_running

pytestmark = pytest.mark.cluster


@contextmanager
def a_service(answer, authority=None) -> Iterator[str]:
    """An HTTP server on loopback that answers every POST with ``answer(path, body)``; its URL."""

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = json.dumps(answer(self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if authority:
            server.socket = authority.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"{'https' if authority else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_a_pod_runs_on_the_real_kubelet_with_an_address_of_its_own(control_plane: ControlPlane, node: Node):
    control_plane.api.post(PODS, a_sleeper("real", "--list", "/", nodeName=node.name))

    pod = await_running(control_plane, "real")

    assert pod["status"]["podIP"].startswith(node.address.removesuffix("1"))
    assert await_report(node, "real").listings == {"/": ("dev", "etc", "proc", "sleeper", "sys")}


def test_the_kubelet_puts_right_that_a_running_pod_is_scheduled(control_plane: ControlPlane, node: Node):
    """kube-scheduler may write late that it failed to schedule a pod that another scheduler has bound."""
    control_plane.api.post(PODS, a_sleeper("late", nodeName=node.name))
    await_running(control_plane, "late")

    def scheduled() -> dict[str, str]:
        conditions = control_plane.api.get(f"{PODS}/late")["status"]["conditions"]
        return next(each for each in conditions if each["type"] == "PodScheduled")

    wrong = {"type": "PodScheduled", "status": "False", "reason": "SchedulerError", "message": "late"}
    written = control_plane.api.patch(f"{PODS}/late/status", {"status": {"conditions": [wrong]}})
    assert any(each.get("message") == "late" for each in written["status"]["conditions"])

    await_until(lambda: scheduled()["status"] == "True", "the kubelet to write PodScheduled again")


def test_a_container_reports_its_environment_and_the_files_of_its_image(control_plane: ControlPlane, node: Node):
    sleeper = control_plane.parts["sleeper"].read_bytes()
    node.import_image("kerf.dev/test:1", {"/sleeper": sleeper, "/data/word": b"kerf\n"}, ("/sleeper",))
    pod = a_sleeper("report", "--cat", "/data/word", "--cat", "/none", nodeName=node.name)
    pod["spec"]["containers"][0] |= {"image": "kerf.dev/test:1", "env": [{"name": "SLICE", "value": "30"}]}
    control_plane.api.post(PODS, pod)

    await_running(control_plane, "report")
    report = await_report(node, "report")

    assert report.environment["SLICE"] == "30"
    assert report.files == {"/data/word": b"kerf\n"}
    assert report.errors == {"/none": "open /none: no such file or directory"}


def test_a_program_can_be_run_inside_a_container(control_plane: ControlPlane, node: Node):
    control_plane.api.post(PODS, a_sleeper("inside", nodeName=node.name))
    await_running(control_plane, "inside")

    told = node.execute("default", "inside", "main", "/sleeper", "--exit", "0", "--cat", "/etc/hostname")

    assert "file:/etc/hostname=aW5zaWRlCg==" in told.splitlines()  # "inside\n"


def test_logs_reach_the_user_through_the_api_server(control_plane: ControlPlane, node: Node):
    control_plane.api.post(PODS, a_sleeper("logs", nodeName=node.name))
    await_running(control_plane, "logs")
    await_report(node, "logs")

    assert control_plane.api.text(f"{PODS}/logs/log") == node.output("default", "logs", "main")


def test_a_failed_container_is_restarted_and_its_latest_run_is_read(control_plane: ControlPlane, node: Node):
    control_plane.api.post(PODS, a_sleeper("again", "--exit", "3", "--sleep", "1s", nodeName=node.name))

    def restarts() -> int:
        return sum(
            each["restartCount"]
            for each in control_plane.api.get(f"{PODS}/again")["status"].get("containerStatuses", ())
        )

    await_until(lambda: restarts() >= 2, "two restarts")
    assert await_report(node, "again").complete


def test_restarting_the_kubelet_keeps_the_pods(control_plane: ControlPlane, node: Node):
    control_plane.api.post(PODS, a_sleeper("kept", nodeName=node.name))
    before = await_running(control_plane, "kept")["status"]["containerStatuses"][0]

    control_plane.kill(node.kubelet)
    node.restart_kubelet()
    control_plane.api.post(PODS, a_sleeper("later", nodeName=node.name))

    await_running(control_plane, "later")  # the new kubelet has taken over
    after = await_running(control_plane, "kept")["status"]["containerStatuses"][0]
    assert after["containerID"] == before["containerID"]
    assert after["restartCount"] == 0


def test_a_killed_containerd_comes_back_to_its_containers(control_plane: ControlPlane, node: Node):
    control_plane.api.post(PODS, a_sleeper("survivor", nodeName=node.name))
    await_running(control_plane, "survivor")

    control_plane.kill(node.containerd)
    control_plane.restart(node.containerd)

    told = node.execute("default", "survivor", "main", "/sleeper", "--exit", "0")
    assert "HOSTNAME=survivor" in told.splitlines()


def test_fifty_fake_nodes_become_ready_and_keep_what_they_were_given(control_plane: ControlPlane):
    names = [f"fifty-{number:02}" for number in range(50)]

    control_plane.add_fake_nodes(
        FakeNode(name, annotations={"kerf.dev/card": name}, allocatable={"nvidia.com/gpu": "80"}) for name in names
    )

    nodes = {each["metadata"]["name"]: each for each in control_plane.api.get("/api/v1/nodes")["items"]}
    kept = {
        name: (
            nodes[name]["metadata"]["annotations"]["kerf.dev/card"],
            nodes[name]["status"]["allocatable"]["nvidia.com/gpu"],
        )
        for name in names
    }
    assert kept == {name: (name, "80") for name in names}


@pytest.mark.parametrize("name", ["kube-apiserver", "etcd", "kube-controller-manager", "kwok"])
def test_a_killed_process_comes_back_with_its_state(control_plane: ControlPlane, name: str):
    namespace = control_plane.api.post("/api/v1/namespaces", {"metadata": {"generateName": "kept-"}})["metadata"][
        "name"
    ]
    pid = control_plane.supervisor.pid(name)

    control_plane.kill(name)
    assert not control_plane.supervisor.alive(name)
    control_plane.restart(name)
    await_until(control_plane.api.is_ready, "the API server to find etcd again")

    assert control_plane.supervisor.pid(name) != pid
    assert control_plane.api.get(f"/api/v1/namespaces/{namespace}")["metadata"]["name"] == namespace


def test_a_restarted_kwok_goes_on_with_its_nodes_at_once(control_plane: ControlPlane):
    """The leases of the one before last for a minute, from which at most a renewal's 15 seconds have passed."""
    control_plane.add_fake_nodes([FakeNode("resumed")])
    before_they_end_s = 30

    control_plane.kill("kwok")
    control_plane.restart("kwok")
    control_plane.api.post(PODS, a_sleeper("resumed", nodeName="resumed"))
    phase = lambda: control_plane.api.get(f"{PODS}/resumed")["status"]["phase"]  # noqa: E731
    await_until(lambda: phase() == "Running", "kwok to run the pod", before_they_end_s)

    control_plane.api.delete(f"{PODS}/resumed")
    await_until(
        lambda: all(pod["metadata"]["name"] != "resumed" for pod in control_plane.api.get(PODS)["items"]),
        "kwok to let the deleted pod go",
    )


def test_writes_are_counted_per_user_and_reads_are_not(control_plane: ControlPlane):
    alice = control_plane.api_as("alice")
    path = "/api/v1/namespaces/default/configmaps"

    alice.post(path, {"metadata": {"name": "counted"}})
    alice.patch(f"{path}/counted", {"data": {"a": "b"}})
    alice.get(f"{path}/counted")
    alice.delete(f"{path}/counted")

    await_until(lambda: len(control_plane.writes_by("alice")) >= 3, "the audit log")
    assert control_plane.writes_by("alice") == (
        Write("alice", "create", "configmaps", "default", "counted", 201),
        Write("alice", "patch", "configmaps", "default", "counted", 200),
        Write("alice", "delete", "configmaps", "default", "counted", 200),
    )


def test_a_user_without_groups_may_write_nothing(control_plane: ControlPlane):
    nobody = control_plane.api_as("nobody", groups=())

    with pytest.raises(Exception, match=r'403 .*User "nobody" cannot create resource "configmaps"'):
        nobody.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "refused"}})


def test_a_registered_webhook_changes_pods_before_they_are_stored(control_plane: ControlPlane, tmp_path: Path):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*control_plane.authority.issue("webhook").write(tmp_path, "webhook"))

    def answer(path, review):
        operation = {"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}
        patch = base64.b64encode(json.dumps([operation]).encode()).decode()
        response = {"uid": review["request"]["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}

    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/test"
    with a_service(answer, tls) as url:
        webhook = Webhook("test", f"{url}/mutate", control_plane.authority.certificate, condition="true")
        control_plane.register_webhook(webhook)
        try:
            dry = f"{PODS}?dryRun=All"
            pod = a_sleeper("mutated")

            def seen() -> bool:
                return control_plane.api.post(dry, pod)["metadata"].get("labels") == {"seen": "yes"}

            await_until(seen, "the API server to call the webhook")
        finally:
            control_plane.api.delete(path)


def test_kube_scheduler_asks_the_extender_and_leaves_the_binding_to_it(control_plane: ControlPlane):
    control_plane.add_fake_nodes([FakeNode("extended", allocatable={"nvidia.com/gpu": "80"})])
    calls = []

    def answer(path, body):
        calls.append(path)
        match path:
            case "/filter":
                return {"NodeNames": [name for name in body["NodeNames"] if name == "extended"]}
            case "/prioritize":
                return [{"Host": name, "Score": 10} for name in body["NodeNames"]]
        target = {"apiVersion": "v1", "kind": "Node", "name": body["Node"]}
        binding = {"metadata": {"name": body["PodName"]}, "target": target}
        control_plane.api.post(f"{PODS}/{body['PodName']}/binding", binding)
        return {}

    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "8000", "nvidia.com/gpucores": "30"}
    pod = a_sleeper("sliced", schedulerName="kerf-scheduler")
    pod["spec"]["containers"][0]["resources"] = {"limits": limits}
    with a_service(answer) as url:
        control_plane.start_scheduler(Extender(url))
        try:
            control_plane.api.post(PODS, pod)
            running = await_running(control_plane, "sliced")
        finally:
            control_plane.supervisor.stop("kube-scheduler")

    assert running["spec"]["nodeName"] == "extended"
    assert calls[0] == "/filter"
    assert calls[-1] == "/bind"
