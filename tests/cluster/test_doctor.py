"""`kerf doctor` on a real control plane: it finds nothing, then things are broken one by one and it finds each."""

import json
import subprocess
import sys
from typing import Any

import pytest

from kerf.testing.builders import a_grant, a_pod, cards_of
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.inventory import KEY, render_inventory
from sandbox import Api, ControlPlane, FakeNode, await_until
from sandbox.stack import WEBHOOK, start_stack
from tests.chart.helm import NAMESPACE, one, render

pytestmark = pytest.mark.cluster

NOBODY = "nobody-scheduler"
NODE, PODS = "doctored", "/api/v1/namespaces/default/pods"
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kerf"
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
SERVICE = f"{NAMESPACE}/kerf-webhook"
CARDS = cards_of(NODE, 2)


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Api:
    note = {KEY: render_inventory(CARDS)}
    control_plane.add_fake_nodes([FakeNode(NODE, allocatable={"nvidia.com/gpu": "20"}, annotations=note)])
    start_stack(control_plane)
    spec = {"schedulerName": NOBODY, "containers": [{"name": "main", "image": "app"}]}
    alone = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alone"}, "spec": spec}
    control_plane.api.post(PODS, alone)  # it waits while the other tests run
    return control_plane.api


def kerf(*words: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-c", "import sys; from kerfctl.main import main; sys.exit(main())", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def doctor(cp: ControlPlane, *words: str) -> tuple[int, dict[str, list[str]]]:
    """The exit status, and what is wrong by check."""
    done = kerf("doctor", "--json", "--kubeconfig", str(cp.kubeconfig), *words)
    assert done.stdout, done.stderr
    checks = json.loads(done.stdout)["checks"]
    return done.returncode, {
        name: words
        for name, findings in checks.items()
        if (words := [each["what"] for each in findings if each["level"] == "wrong"])
    }


def sent(name: str, **changes: Any) -> dict[str, Any]:
    pod = a_pod(name, **changes)
    pod["metadata"] = {key: value for key, value in pod["metadata"].items() if key in {"name", "annotations", "labels"}}
    del pod["status"]
    return pod


def test_it_is_content_with_a_cluster_that_is_well(api: Api, control_plane: ControlPlane) -> None:
    api.post(PODS, sent("placed"))
    await_until(lambda: api.get(f"{PODS}/placed")["spec"].get("nodeName") == NODE, "the pod to be placed")

    assert doctor(control_plane) == (0, {})


def test_it_names_an_inventory_that_somebody_broke(api: Api, control_plane: ControlPlane) -> None:
    api.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {KEY: '{"v":1,"cards":7}'}}})
    status, wrong = doctor(control_plane)
    api.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {KEY: render_inventory(CARDS)}}})

    assert status == 1
    assert wrong["inventories"][0].startswith(f"node {NODE}: its inventory cannot be read")


def test_it_names_a_kubelet_that_counts_otherwise_and_cards_that_nobody_registered(
    api: Api, control_plane: ControlPlane
) -> None:
    api.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {KEY: render_inventory(CARDS[:1])}}})
    control_plane.add_fake_nodes([FakeNode("silent", allocatable={"nvidia.com/gpu": "8"})])
    _, wrong = doctor(control_plane)
    api.delete("/api/v1/nodes/silent")
    api.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {KEY: render_inventory(CARDS)}}})

    assert wrong["allocatable"] == [f"node {NODE}: the kubelet counts 20 nvidia.com/gpu, the inventory has 10 slots"]
    assert wrong["inventories"] == ["node silent has cards and no kerf.dev/inventory: nothing is placed there"]


def test_it_names_grants_that_are_missing_and_cards_that_are_granted_twice(
    api: Api, control_plane: ControlPlane
) -> None:
    target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
    twice = {name: {GRANT: render_grant(a_grant(CARDS[1].id, 81_000, 60))} for name in ("greedy", "greedier")}
    control_plane.kill("kube-scheduler")  # another scheduler binds here
    for name, notes in {"bare": {}, **twice}.items():
        api.post(PODS, sent(name))
        api.post(f"{PODS}/{name}/binding", {"metadata": {"name": name, "annotations": notes}, "target": target})
    _, wrong = doctor(control_plane)
    for name in ("bare", *twice):
        api.delete(f"{PODS}/{name}", grace_seconds=0)
    control_plane.restart("kube-scheduler")

    assert wrong == {
        "over-commitment": [
            f"node {NODE}, card 1 ({CARDS[1].id}): granted 162,000 MiB of 81,559 MiB and 120 of 100 % of the cores"
        ],
        "grants": [f"pod default/bare is on {NODE} and asks for cards, but has no {GRANT}: it cannot start"],
        "strangers": [f"pod default/bare holds 1 cards of node {NODE} without a grant: nothing is placed there"],
    }


def test_it_names_a_bundle_that_was_reset(api: Api, control_plane: ControlPlane) -> None:
    hooks = api.get(CONFIGURATION)["webhooks"]
    broken = [{**hook, "clientConfig": {**hook["clientConfig"], "caBundle": ""}} for hook in hooks]
    api.patch(CONFIGURATION, {"webhooks": broken})
    _, wrong = doctor(control_plane)
    api.patch(CONFIGURATION, {"webhooks": hooks})

    assert [hook["name"] for hook in hooks] == ["kerf.kerf.dev", "more.kerf.kerf.dev"]
    empty = "caBundle is empty or no certificate, API servers cannot call the webhook"
    assert wrong["certificates"] == [f"kerf, kerf.kerf.dev and 1 more of its webhooks: {empty}"]


def test_it_names_what_keeps_claims_from_being_counted(api: Api, control_plane: ControlPlane) -> None:
    rendered = render("dra.enabled=true", "quota.enabled=true")
    configuration = one(rendered, "ValidatingWebhookConfiguration", "kerf-webhook")
    configuration["webhooks"][0] |= {"failurePolicy": "Ignore", "namespaceSelector": {"matchLabels": {"a": "b"}}}
    api.post(VALIDATING, configuration)
    _, wrong = doctor(control_plane)
    api.delete(f"{VALIDATING}/kerf-webhook")

    where = "kerf-webhook, claims.kerf.dev"
    assert wrong == {
        "certificates": [f"{where}: caBundle is empty or no certificate, API servers cannot call the webhook"],
        "claims": [
            f"{where}: failurePolicy is Ignore: while the webhook does not answer, claims are allocated uncounted",
            f"{where}: its namespaceSelector leaves claims out, which are then not counted",
        ],
        "services": [f"there is no Service {SERVICE}, which kerf-webhook names: API servers cannot call the webhook"],
    }


def test_it_names_a_webhook_that_is_away_and_one_too_many(api: Api, control_plane: ControlPlane) -> None:
    hook = api.get(CONFIGURATION)["webhooks"][0]
    theirs = {**hook, "name": "vgpu.hami.io", "failurePolicy": "Ignore"}
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    api.post(CONFIGURATION.rpartition("/")[0], {**kind, "metadata": {"name": "hami"}, "webhooks": [theirs]})
    control_plane.kill(WEBHOOK)
    await_until(lambda: "webhook" in doctor(control_plane)[1], "doctor to see that the webhook is away")
    _, wrong = doctor(control_plane)
    api.delete(f"{CONFIGURATION.rpartition('/')[0]}/hami")
    control_plane.restart(WEBHOOK)

    assert wrong["other-webhooks"] == ["MutatingWebhookConfiguration hami of HAMi fills the same pods as Kerf's"]
    assert "failed calling webhook" in wrong["webhook"][0]


def test_it_says_what_it_may_not_look_at(api: Api, control_plane: ControlPlane) -> None:
    kubeconfig = str(control_plane.kubeconfig_for("nobody-special", ()))
    done = kerf("doctor", "--json", "--kubeconfig", kubeconfig)

    said = [each["what"] for each in json.loads(done.stdout)["checks"]["rights"]]
    assert "you may not list nodes: what needs it was not checked" in said
    assert "you may not create pods: what needs it was not checked" in said
    assert done.returncode == 1, "what was not looked at may be wrong"


def test_without_an_api_server_it_is_one_line(control_plane: ControlPlane, tmp_path: Any) -> None:
    away = tmp_path / "away"
    away.write_text(control_plane.kubeconfig.read_text().replace(control_plane.url, "https://127.0.0.1:1"))
    done = kerf("doctor", "--kubeconfig", str(away))

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the API server cannot be asked" in done.stderr


def test_it_names_a_pod_that_no_scheduler_has_looked_at(control_plane: ControlPlane) -> None:
    def looked() -> list[str]:
        return doctor(control_plane, "--scheduler-name", NOBODY)[1].get("scheduling", [])

    await_until(lambda: bool(looked()), "the pod to have waited for a minute")

    assert looked() == ["pod default/alone has waited for over a minute and no scheduler has looked at it"]
