"""The webhook behind the real API server: what users send, what is stored, what is refused."""

import copy
import http.client
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kerf.testing.builders import a_container, a_grant, a_pod
from kerf.wire.annotations import GRANT, render_grant
from kerfctl.main import main
from sandbox import Api, ApiError, Command, ControlPlane, FakeNode, Webhook, await_until, free_ports
from sandbox.commands import answers
from sandbox.documents import render_webhook

pytestmark = pytest.mark.cluster

NAMESPACE, NODE, TRUSTED = "admitted", "webhook-node", "the-scheduler"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
PROCESS = "webhook-under-test"
HELD, FORGED = render_grant(a_grant(memory_mib=8000)), render_grant(a_grant(memory_mib=1))


@dataclass(frozen=True)
class Served:
    """The webhook's process and files."""

    port: int
    certificate: Path
    key: Path
    trust: ssl.SSLContext


@pytest.fixture(scope="module")
def served(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    (port,) = free_ports(1)
    files = control_plane.authority.issue("webhook").write(tmp_path_factory.mktemp("tls"), "tls")
    served = Served(port, *files, ssl.create_default_context(cafile=control_plane.ca))
    flags = ("--bind", f"127.0.0.1:{port}", "--tls-cert", str(files[0]), "--tls-key", str(files[1]))
    command = Command(
        PROCESS,
        (sys.executable, "-m", "webhook", *flags, "--trusted-user", TRUSTED),
        ready=lambda: answers(f"https://127.0.0.1:{port}/readyz", served.trust),
    )
    control_plane.supervisor.start(command)
    yield served
    control_plane.supervisor.kill(PROCESS)


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane, served: Served) -> Iterator[Api]:
    """A cluster whose API server calls the webhook for the pods of one namespace."""
    api = control_plane.api
    control_plane.add_fake_nodes([FakeNode(NODE, allocatable={"nvidia.com/gpu": "80"})])
    api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": {"kerf": "on"}}})
    selector = {"matchLabels": {"kerf": "on"}}
    webhook = Webhook(
        PROCESS, f"https://127.0.0.1:{served.port}/mutate", control_plane.ca.read_bytes(), "Fail", 10, selector
    )
    document = render_webhook(webhook)
    document["webhooks"][0]["rules"][0]["operations"] = ["CREATE", "UPDATE"]
    api.post(CONFIGURATION, document)
    probe = a_cpu_pod("probe", annotations={GRANT: FORGED})
    await_until(lambda: GRANT not in notes(api.post(f"{PODS}?dryRun=All", probe)), "the API server to call the webhook")
    yield api
    api.delete(f"{CONFIGURATION}/{PROCESS}")


def sent(pod: dict[str, Any]) -> dict[str, Any]:
    """A builder's pod as a user would send it."""
    pod = copy.deepcopy(pod)
    pod["metadata"] = {key: value for key, value in pod["metadata"].items() if key in {"name", "labels", "annotations"}}
    del pod["status"]
    return pod


def a_sliced_pod(name: str, **changes: Any) -> dict[str, Any]:
    return sent(a_pod(name, namespace=NAMESPACE, **changes))


def a_cpu_pod(name: str, **changes: Any) -> dict[str, Any]:
    return a_sliced_pod(name, gpu=0, mem=None, cores=None, **changes)


def notes(pod: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = pod["metadata"].get("annotations", {})
    return found


def bind(api: Api, name: str) -> None:
    """Bind and write the grant in one call, as the scheduler does."""
    target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
    api.post(f"{PODS}/{name}/binding", {"metadata": {"name": name, "annotations": {GRANT: HELD}}, "target": target})


def test_what_is_stored_says_what_will_be_charged(api: Api) -> None:
    pod = a_sliced_pod(
        "filled",
        init=[{"name": "fetch", "image": "app", "resources": {"requests": {"nvidia.com/gpumem": "100"}}}],
        containers=[a_container("main", gpu=0, mem=8000, cores=30), a_container("whole", gpu=1, mem=None, cores=None)],
    )

    spec = api.post(PODS, pod)["spec"]

    stored = [each["resources"] for each in (*spec["initContainers"], *spec["containers"])]
    fetch = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "100"}
    main = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "8k", "nvidia.com/gpucores": "30"}  # 8000, as it is stored
    whole = {"nvidia.com/gpu": "1", "nvidia.com/gpucores": "100"}
    assert stored == [{"limits": each, "requests": each} for each in (fetch, main, whole)]
    assert spec["schedulerName"] == "kerf-scheduler"


def test_a_pod_that_names_a_model_is_stored_with_its_slice_and_arguments(api: Api) -> None:
    server = {"name": "server", "image": "vllm/vllm-openai:v0.33.0", "command": ["vllm", "serve"]}
    asked = {"kerf.dev/model": "qwen3-0.6b;max-len=8192;concurrency=4"}

    stored = api.post(PODS, a_sliced_pod("model", annotations=asked, containers=[server]))

    (container,) = stored["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "6208"}
    assert container["args"][:3] == ["Qwen/Qwen3-0.6B", "--max-model-len", "8192"]
    assert stored["spec"]["schedulerName"] == "kerf-scheduler"


def test_a_model_is_deployed_with_its_service(api: Api, control_plane: ControlPlane) -> None:
    where = ["--namespace", NAMESPACE, "--kubeconfig", str(control_plane.kubeconfig)]

    deployed = main(["model", "deploy", "qwen3-0.6b", "--name", "qwen", "--max-len", "8192", "--no-wait", *where])

    stored = api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/qwen")["spec"]["template"]["spec"]
    assert (deployed, stored["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) == (0, "1")
    assert api.get(f"/api/v1/namespaces/{NAMESPACE}/services/qwen")["spec"]["ports"][0]["port"] == 8000


def test_a_pod_without_cards_is_stored_as_it_was_sent(api: Api) -> None:
    spec = api.post(PODS, a_cpu_pod("plain"))["spec"]

    assert (spec["schedulerName"], spec["containers"][0]["resources"]) == ("default-scheduler", {})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"mem": "3Gi"},
            "[nvidia.com/gpumem]: '3Gi': write a whole number from 0 to 16777216 (the unit is MiB, so 3072",
        ),
        ({"spec": {"schedulerName": "volcano"}}, "spec.schedulerName: 'volcano': it cannot divide cards: drop it, or"),
        ({"node": NODE}, f"spec.nodeName: '{NODE}': drop it, it bypasses the scheduler"),
        (
            {"annotations": {"hami.io/gpu-scheduler-policy": "best"}},
            "metadata.annotations[hami.io/gpu-scheduler-policy]: 'best': write a chain of binpack,",
        ),
    ],
    ids=["bytes", "a foreign scheduler", "a node", "a policy"],
)
def test_an_impossible_pod_is_refused_with_the_fix(api: Api, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiError) as caught:
        api.post(PODS, a_sliced_pod("impossible", **changes))

    assert caught.value.status == 403
    assert sentence in str(caught.value)


@pytest.mark.parametrize("labels", [{}, {"kerf.dev/webhook": "ignore"}], ids=["a pod", "a pod that opted out"])
def test_forgeries_are_never_stored(api: Api, labels: dict[str, str]) -> None:
    forged = {GRANT: FORGED, "hami.io/vgpu-node": NODE, "hami.io/vgpu-devices-allocated": "GPU-1,NVIDIA,1,1:;"}
    build = a_cpu_pod if labels else a_sliced_pod  # with the label it may ask for no card
    pod = build(
        f"forger-{len(labels)}", annotations={**forged, "mine": "kept"}, labels={**labels, "hami.io/vgpu-node": NODE}
    )

    meta = api.post(PODS, pod)["metadata"]

    assert (meta["annotations"], meta.get("labels", {})) == ({"mine": "kept"}, labels)


def test_a_pod_that_opted_out_goes_to_the_default_scheduler_without_cards(api: Api) -> None:
    labels = {"hami.io/webhook": "ignore"}

    assert api.post(PODS, a_cpu_pod("opted-out", labels=labels))["spec"]["schedulerName"] == "default-scheduler"
    with pytest.raises(ApiError, match="drop the label, or nvidia"):
        api.post(PODS, a_sliced_pod("opted-out-with-cards", labels=labels))


def test_the_binding_writes_the_grant_and_no_user_can_change_it(api: Api, control_plane: ControlPlane) -> None:
    api.post(PODS, a_sliced_pod("bound"))
    bind(api, "bound")
    path = f"{PODS}/bound"

    changed = api.patch(path, {"metadata": {"annotations": {GRANT: FORGED, "mine": "new"}}})
    removed = api.patch(path, {"metadata": {"annotations": {GRANT: None}}})
    emptied = api.patch(path, {"metadata": {"annotations": None}})

    assert [notes(pod).get(GRANT) for pod in (changed, removed, emptied)] == [HELD, HELD, HELD]
    assert (notes(changed).get("mine"), notes(emptied).get("mine")) == ("new", None)

    trusted = control_plane.api_as(TRUSTED)
    assert notes(trusted.patch(path, {"metadata": {"annotations": {GRANT: FORGED}}}))[GRANT] == FORGED


def test_a_user_cannot_give_a_live_pod_a_grant(api: Api) -> None:
    api.post(PODS, a_cpu_pod("greedy"))

    pod = api.patch(
        f"{PODS}/greedy", {"metadata": {"annotations": {GRANT: FORGED}, "labels": {"hami.io/vgpu-node": NODE}}}
    )

    assert (notes(pod), pod["metadata"].get("labels", {})) == ({}, {})


def test_pods_of_a_deployment_are_filled_like_any_other(api: Api) -> None:
    template = {"metadata": {"labels": {"app": "d"}}, "spec": a_sliced_pod("x", gpu=0, mem=100, cores=None)["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "d"}}, "template": template}
    api.post(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", {"metadata": {"name": "d"}, "spec": spec})

    selected = f"{PODS}?labelSelector=app%3Dd"
    await_until(lambda: bool(api.get(selected)["items"]), "the deployment's pod")

    (pod,) = api.get(selected)["items"]
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "100"}


def test_a_hundred_megabytes_do_not_keep_others_from_being_admitted(api: Api, served: Served) -> None:
    connection = http.client.HTTPSConnection("127.0.0.1", served.port, context=served.trust)
    connection.putrequest("POST", "/mutate")
    connection.putheader("Content-Length", str(100 * 1024 * 1024))
    connection.endheaders()
    for _ in range(2):
        connection.send(b" " * 1024 * 1024)
    status = connection.getresponse().status  # it does not wait for the other 98
    connection.close()

    assert status == 413
    assert api.post(f"{PODS}?dryRun=All", a_sliced_pod("after"))["spec"]["schedulerName"] == "kerf-scheduler"


def test_a_rotated_certificate_goes_unnoticed(api: Api, control_plane: ControlPlane, served: Served) -> None:
    before = ssl.get_server_certificate(("127.0.0.1", served.port))
    control_plane.authority.issue("webhook").write(served.certificate.parent, "tls")
    await_until(
        lambda: ssl.get_server_certificate(("127.0.0.1", served.port)) != before, "the new certificate to be served"
    )

    assert api.post(f"{PODS}?dryRun=All", a_sliced_pod("after"))["spec"]["schedulerName"] == "kerf-scheduler"


def test_while_the_webhook_is_away_pods_wait_at_the_door_and_pass_when_it_is_back(
    api: Api, control_plane: ControlPlane
) -> None:
    control_plane.supervisor.kill(PROCESS)
    with pytest.raises(ApiError) as caught:
        api.post(f"{PODS}?dryRun=All", a_sliced_pod("early"))
    control_plane.supervisor.restart(PROCESS)

    assert caught.value.status == 500
    assert "failed calling webhook" in str(caught.value)
    assert api.post(f"{PODS}?dryRun=All", a_sliced_pod("late"))["spec"]["schedulerName"] == "kerf-scheduler"
