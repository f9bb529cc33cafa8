"""The live page with a real API server: tokens, rights, the key in its Secret, and `kerf ui`'s way to a token."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kerf.kube.client import connect
from kerfctl.errors import CliError
from kerfctl.ui.credential import token_of
from sandbox import ControlPlane, FakeNode, Node, await_until, free_ports
from sandbox.stack import EXTENDER, start_extender
from scheduler.page.keys import SECRET, PageKeys
from tests.cluster.gpu_pods import a_gpu_pod
from tests.cluster.page_visit import visit
from tests.cluster.sandbox_pods import a_sleeper
from tests.scheduler.page.page_world import Browser, SecureBrowser, at_port, picture_of

pytestmark = pytest.mark.cluster
NAMESPACE = "kerf-system"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def extender(control_plane: ControlPlane) -> tuple[str, ...]:
    """What the scheduler with the page is started with."""
    (page,) = free_ports(1)
    return "--page", f"127.0.0.1:{page}", "--lease-namespace", NAMESPACE


@pytest.fixture(scope="module")
def port(control_plane: ControlPlane, extender: tuple[str, ...]) -> int:
    """A scheduler with a page; two namespaces with a pod that waits in each, and three accounts."""
    cp = control_plane
    for name in (NAMESPACE, "team-a", "team-b"):
        cp.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    for name in ("all", "of-a", "none"):
        cp.api.post("/api/v1/namespaces/team-a/serviceaccounts", {"metadata": {"name": name}})
    rules = [{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["list"]}]
    cp.api.post(f"{RBAC}/clusterroles", {"metadata": {"name": "page-list"}, "rules": rules})
    bind(cp, f"{RBAC}/clusterrolebindings", "all")
    bind(cp, f"{RBAC}/namespaces/team-a/rolebindings", "of-a")
    cp.add_fake_nodes([FakeNode("gpu-1")])
    for name in ("team-a", "team-b"):
        cp.api.post(f"/api/v1/namespaces/{name}/pods", a_gpu_pod(f"waits-{name}") | {"metadata": {"name": "waits"}})
    start_extender(cp, free_ports(1)[0], (*extender, "--identity", "kerf-scheduler-0"))
    return int(extender[1].rpartition(":")[2])


def bind(cp: ControlPlane, path: str, account: str, namespace: str = "team-a") -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "page-list"}
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    cp.api.post(path, {"metadata": {"name": f"page-{account}"}, "roleRef": role, "subjects": subjects})


def token(cp: ControlPlane, account: str) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = f"/api/v1/namespaces/team-a/serviceaccounts/{account}/token"
    return str(cp.api.post(path, body)["status"]["token"])


@contextmanager
def seen_by(cp: ControlPlane, port: int, account: str) -> Iterator[dict[str, dict[str, Any]]]:
    """What an account sees once it has signed in."""
    browser = Browser(at_port(port))
    await_until(lambda: browser.sign_in(token(cp, account)) == 200, "somebody to get in")
    with browser.events() as events:
        yield picture_of(events)


def test_an_account_sees_what_the_api_server_lets_it_list(control_plane: ControlPlane, port: int):
    with seen_by(control_plane, port, "all") as seen:
        assert {row["ns"] for row in seen["waiting"].values()} == {"team-a", "team-b"}
        assert set(seen["nodes"]) == {"gpu-1"}
    with seen_by(control_plane, port, "of-a") as seen:
        assert {row["ns"] for row in seen["waiting"].values()} == {"team-a"}
        assert "team-b" not in str(seen)
    with seen_by(control_plane, port, "none") as seen:
        assert seen == {}


def test_a_token_that_the_api_server_does_not_know_lets_nobody_in(control_plane: ControlPlane, port: int):
    browser = Browser(at_port(port))

    assert browser.sign_in(token(control_plane, "all")[:-6] + "AAAAAA") == 401


def test_the_leader_has_made_one_key_that_every_replica_reads(control_plane: ControlPlane, port: int):
    kube = connect(str(control_plane.kubeconfig))
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/{SECRET}"
    await_until(lambda: control_plane.api.get(path)["data"].get("current"), "a key")
    follower, other = (PageKeys(kube, NAMESPACE, lambda: False) for _ in range(2))
    follower.run_once()
    other.run_once()

    assert follower.keys == other.keys
    assert len(follower.keys[0]) == 32


def test_somebody_with_a_certificate_gets_a_token_only_as_far_as_their_rights_go(control_plane: ControlPlane):
    admin = connect(str(control_plane.kubeconfig))
    nobody = connect(str(control_plane.kubeconfig_for("somebody", ())))

    assert token_of(admin, "", NAMESPACE, "team-a/of-a").count(".") == 2
    for account in (None, "team-a/all"):
        with pytest.raises(CliError):
            token_of(nobody, "", NAMESPACE, account)


def a_pod_of_the_scheduler(cp: ControlPlane, node: Node, name: str) -> None:
    """A pod on the real node's own network, so that its 127.0.0.1 is where the scheduler's process listens."""
    pod = a_sleeper(name, hostNetwork=True, nodeName=node.name, automountServiceAccountToken=False)
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    cp.api.post(pods, {**pod, "metadata": {"name": name, "namespace": NAMESPACE}})
    await_until(lambda: cp.api.get(f"{pods}/{name}")["status"].get("phase") == "Running", f"{name} to run")


def test_kerf_ui_reaches_the_leader_through_the_kubelet_and_the_next_one_too(
    control_plane: ControlPlane, node: Node, port: int, extender: tuple[str, ...], tmp_path: Path
):
    """The port-forward is the API server's, the kubelet's and containerd's; the session outlives its scheduler."""
    cp = control_plane
    cp.api.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": "kerf-page-viewer"}})
    bind(cp, f"{RBAC}/clusterrolebindings", "kerf-page-viewer", NAMESPACE)
    a_pod_of_the_scheduler(cp, node, "kerf-scheduler-0")
    with visit(cp, tmp_path, port) as person:
        assert person.session()[1]["user"] == f"system:serviceaccount:{NAMESPACE}:kerf-page-viewer"
        assert "<title>Kerf</title>" in person.browser.ask("GET", "/")[1]
        with ExitStack() as open_pages:
            streams = [open_pages.enter_context(person.browser.events()) for _ in range(8)]
            assert [set(picture_of(each)["nodes"]) for each in streams] == [{"gpu-1", node.name}] * 8

        cp.supervisor.stop(EXTENDER)
        cp.api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/kerf-scheduler-0", 0)
        a_pod_of_the_scheduler(cp, node, "kerf-scheduler-1")
        start_extender(cp, free_ports(1)[0], (*extender, "--identity", "kerf-scheduler-1"))
        await_until(lambda: person.session()[0] == 200, "the next leader to know the session")
        assert set(person.picture()["nodes"]) == {"gpu-1", node.name}


def test_a_page_that_cannot_be_reached_is_an_error_with_the_reason(
    control_plane: ControlPlane, node: Node, port: int, tmp_path: Path
):
    reason = r"the page does not answer \(.+is page\.enabled set in the chart"
    with pytest.raises(AssertionError, match=reason), visit(control_plane, tmp_path, free_ports(1)[0]):
        """It does not come to this."""


def test_a_follower_passes_on_to_the_leader_over_https(control_plane: ControlPlane, port: int):
    """Two processes with addresses of their own, the flags that the chart sets, and a Lease of theirs."""
    cp = control_plane
    hosts, (https,) = ("127.0.0.2", "127.0.0.3"), free_ports(1)
    cert, key = cp.authority.issue("kerf-page", hosts=hosts).write(cp.layout.pki, "kerf-page")
    for host in hosts:
        (own,) = free_ports(1)
        flags = ("--page", f"{host}:{https}", "--page-tls-cert", str(cert), "--page-tls-key", str(key))
        flags += ("--peer-ca", str(cp.ca), "--lease-namespace", NAMESPACE, "--lease-name", "kerf-page-test")
        start_extender(cp, own, (*flags, "--identity", host, "--advertise", f"{host}:{own}"), f"page-{host}")
    follower = SecureBrowser(hosts[1], https, ssl.create_default_context(cafile=str(cp.ca)))

    def leads() -> bool:
        return bool(follower.picture()["about"]["scheduler"]["leads"])

    await_until(lambda: follower.sign_in(token(cp, "all")) == 200, "the follower to let somebody in")
    await_until(leads, "the leader's picture at the follower")
    cp.supervisor.stop(f"page-{hosts[0]}")
    await_until(leads, "the follower to lead and to show its own picture")
    assert follower.ask("GET", "/api/session")[1]["user"] == "system:serviceaccount:team-a:all"
    cp.supervisor.stop(f"page-{hosts[1]}")
