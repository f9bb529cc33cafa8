"""The live page with a real API server: tokens, rights, the key in its Secret, and `kerf ui`'s way to a token."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from kerf.kube.client import connect
from kerfctl.errors import CliError
from kerfctl.ui.credential import token_of
from sandbox import ControlPlane, FakeNode, await_until, free_ports
from sandbox.stack import start_extender
from scheduler.page.keys import SECRET, PageKeys
from tests.cluster.gpu_pods import a_gpu_pod
from tests.scheduler.page.page_world import Browser, picture_of

pytestmark = pytest.mark.cluster
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def port(control_plane: ControlPlane) -> int:
    """A scheduler with a page; two namespaces with a pod that waits in each, and three accounts."""
    cp = control_plane
    for name in ("kerf-system", "team-a", "team-b"):
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
    extender, page = free_ports(2)
    lease = ("--lease-namespace", "kerf-system")
    start_extender(cp, extender, ("--page", f"127.0.0.1:{page}", *lease))
    return page


def bind(cp: ControlPlane, path: str, account: str) -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "page-list"}
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": "team-a"}]
    cp.api.post(path, {"metadata": {"name": f"page-{account}"}, "roleRef": role, "subjects": subjects})


def token(cp: ControlPlane, account: str) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = f"/api/v1/namespaces/team-a/serviceaccounts/{account}/token"
    return str(cp.api.post(path, body)["status"]["token"])


@contextmanager
def seen_by(cp: ControlPlane, port: int, account: str) -> Iterator[dict[str, dict[str, Any]]]:
    """What an account sees once it has signed in."""
    browser = Browser(SimpleNamespace(page=SimpleNamespace(port=port)))  # type: ignore[arg-type]
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
    browser = Browser(SimpleNamespace(page=SimpleNamespace(port=port)))  # type: ignore[arg-type]

    assert browser.sign_in(token(control_plane, "all")[:-6] + "AAAAAA") == 401


def test_the_leader_has_made_one_key_that_every_replica_reads(control_plane: ControlPlane, port: int):
    kube = connect(str(control_plane.kubeconfig))
    path = f"/api/v1/namespaces/kerf-system/secrets/{SECRET}"
    await_until(lambda: control_plane.api.get(path)["data"].get("current"), "a key")
    follower, other = (PageKeys(kube, "kerf-system", lambda: False) for _ in range(2))
    follower.run_once()
    other.run_once()

    assert follower.keys == other.keys
    assert len(follower.keys[0]) == 32


def test_somebody_with_a_certificate_gets_a_token_only_as_far_as_their_rights_go(control_plane: ControlPlane):
    admin = connect(str(control_plane.kubeconfig))
    nobody = connect(str(control_plane.kubeconfig_for("somebody", ())))

    assert token_of(admin, "", "kerf-system", "team-a/of-a").count(".") == 2
    for account in (None, "team-a/all"):
        with pytest.raises(CliError):
            token_of(nobody, "", "kerf-system", account)
