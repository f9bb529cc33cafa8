"""A join waits until the API server has taken the new rights up."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.kube.errors import Forbidden
from kerf.testing.fake_kube import FakeKube
from kerf.wire.json import Json
from kerfctl.errors import CliError
from kerfctl.fleet.connect import server_of
from kerfctl.fleet.join import IDENTITY, await_rights, identity_of, plugin_is_off

RULES = ({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "patch"]},)


class Authorizer(FakeKube):
    """Answers reviews; it knows a right once it has been asked for it often enough."""

    def __init__(self, refusals: int, unknown_token: int = 0) -> None:
        super().__init__()
        self.refusals, self.unknown_token = refusals, unknown_token
        self.asked: list[tuple[str, str, str]] = []

    def create(self, path: str, body: object, query: Any = None) -> Json:
        assert isinstance(body, dict)
        if self.unknown_token:
            self.unknown_token -= 1
            raise Forbidden(401, "Unauthorized", "no such token")
        asked = body["spec"]["resourceAttributes"]
        self.asked.append((asked["verb"], asked["group"], asked["resource"]))
        self.refusals -= 1
        return {"status": {"allowed": self.refusals < 0}}


def test_a_join_asks_until_the_credential_may_do_all_that_the_manager_does() -> None:
    member = Authorizer(refusals=3, unknown_token=1)

    assert await_rights(member, RULES) == "the credential works"

    assert member.asked[-2:] == [("list", "apps", "deployments"), ("patch", "apps", "deployments")]
    assert set(member.asked) == {("list", "apps", "deployments"), ("patch", "apps", "deployments")}


def test_a_right_that_never_comes_is_named() -> None:
    with pytest.raises(CliError, match=r"kerf-fleet may not list deployments\.apps after 0 s"):
        await_rights(Authorizer(refusals=99), RULES, seconds=0.0)


def a_kubeconfig(tmp_path: Path, **cluster: Any) -> str:
    path = tmp_path / "kubeconfig"
    contexts = [{"name": n, "context": {"cluster": n, "user": "u"}} for n in ("a", "b")]
    clusters = [{"name": "a", "cluster": {"server": "https://a.example"}}, {"name": "b", "cluster": cluster}]
    path.write_text(yaml.safe_dump({"contexts": contexts, "clusters": clusters, "current-context": "a"}))
    return str(path)


def test_what_the_manager_needs_to_reach_a_cluster_is_kept(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"CA")
    reach = {"server": "https://b.example", "proxy-url": "http://proxy:3128", "tls-server-name": "b"}
    path = a_kubeconfig(tmp_path, **reach, **{"certificate-authority": "ca.crt"})

    assert server_of(path, "b") == {**reach, "certificate-authority-data": "Q0E="}
    assert server_of(path) == {"server": "https://a.example"}  # the system's CAs verify it


@pytest.mark.parametrize(
    ("cluster", "context", "says"),
    [
        ({}, "c", "has no context c; --context takes: a, b"),
        ({}, "b", "names no cluster with a server"),
        ({"server": "http://b.example"}, "b", "whose certificate it may not verify"),
        ({"server": "https://b.example", "insecure-skip-tls-verify": True}, "b", "whose certificate it may not verify"),
        ({"server": "https://b.example", "certificate-authority": "gone"}, "b", "gone: No such file"),
    ],
)
def test_a_kubeconfig_that_cannot_be_kept_is_refused(
    tmp_path: Path, cluster: dict[str, Any], context: str, says: str
) -> None:
    with pytest.raises(CliError, match=says):
        server_of(a_kubeconfig(tmp_path, **cluster), context)


def a_member(uid: str | None) -> FakeKube:
    kube = FakeKube()
    if uid is not None:
        kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}})
    return kube


def a_cluster(name: str, uid: str | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {IDENTITY: uid} if uid else {}}}


@pytest.mark.parametrize(
    ("name", "uid", "says"),
    [
        ("east", "a", "joined as north: use that name, or kerf cluster remove north first"),
        ("north", "b", "the fleet's north is another cluster"),
    ],
)
def test_one_cluster_has_one_name_and_one_name_is_one_cluster(name: str, uid: str, says: str) -> None:
    with pytest.raises(CliError, match=says):
        identity_of(a_member(uid), name, [a_cluster("south"), a_cluster("north", "a")])


@pytest.mark.parametrize(
    ("name", "uid", "found"), [("north", "a", "a"), ("east", "b", "b"), ("south", "c", "c"), ("east", None, "")]
)
def test_a_cluster_that_joins_again_or_that_shows_no_uid_is_let_in(name: str, uid: str | None, found: str) -> None:
    fleet = [a_cluster("south"), a_cluster("north", "a")]

    assert identity_of(a_member(uid), name, fleet) == found


def an_operator(**plugin: Any) -> FakeKube:
    kube = FakeKube()
    meta = {"name": "cluster-policy"}
    body = {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": meta, "spec": {"devicePlugin": plugin}}
    kube.patch("/apis/nvidia.com/v1/clusterpolicies/cluster-policy", body, "apply")
    return kube


def test_a_gpu_operator_that_keeps_its_device_plugin_is_refused() -> None:
    """The chart of v1.11.1 writes no `enabled` at all, whatever its values say."""
    plugin_is_off(an_operator(enabled=False))
    plugin_is_off(FakeKube())

    for plugin in ({"repository": "nvcr.io/nvidia"}, {"enabled": True}):
        with pytest.raises(CliError, match="ClusterPolicy cluster-policy: this GPU Operator's chart does not turn"):
            plugin_is_off(an_operator(**plugin))
