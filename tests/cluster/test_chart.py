"""Install, upgrade and uninstall with the real helm on the real API server; kwok sets the pods to Running."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sandbox import ControlPlane, FakeNode, await_until, run_directory
from tests.chart.helm import CHART
from tests.cluster.chart_release import NAMESPACE, NAMESPACES, Release, a_control_plane, await_gone, every_object
from tests.upgrade import released

pytestmark = pytest.mark.cluster
WAIT = ("--wait", "--timeout", "120s")


@pytest.fixture(scope="module")
def plane(parts: Mapping[str, Path]) -> Iterator[ControlPlane]:
    with run_directory() as run_dir, a_control_plane(run_dir, parts) as cp:
        cp.add_fake_nodes(
            [FakeNode("gpu-1", labels={"gpu": "on"}), FakeNode("gpu-2", labels={"gpu": "on"}), FakeNode("cpu-1")]
        )
        cp.api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        await_until(lambda: bool(cp.api.get(f"{NAMESPACES}/configmaps")["items"]), "the namespace's own objects")
        await_until(lambda: bool(cp.api.get(f"{NAMESPACES}/serviceaccounts")["items"]), "the default account")
        yield cp


def test_a_bare_install_comes_up_is_upgraded_without_a_gap_and_leaves_nothing(plane: ControlPlane) -> None:
    before = every_object(plane.api)
    release = Release(plane)

    notes = release.install({}, *WAIT)
    assert "kubectl label node NODE gpu=on" in notes
    assert len(release.pods("scheduler")) == 2
    assert sorted(p["spec"]["nodeName"] for p in release.pods("deviceplugin")) == ["gpu-1", "gpu-2"]
    assert no_warnings(plane) == {}

    old = {p["metadata"]["uid"] for p in release.pods("scheduler")}
    release.upgrade({"scheduler": {"kubeScheduler": {"maxBackoffSeconds": 2}}}, *WAIT)
    fresh = {p["metadata"]["uid"] for p in release.pods("scheduler") if "deletionTimestamp" not in p["metadata"]}
    assert len(fresh) == 2, "one more pod than asked for while upgrading, never one less"
    assert not fresh & old, "kube-scheduler reads its configuration once, so its pods were replaced"
    config = plane.api.get(f"{NAMESPACES}/configmaps/kerf-kube-scheduler")["data"]["config.yaml"]
    assert "podMaxBackoffSeconds: 2" in config

    release.uninstall()
    await_gone(plane.api, before)


def test_an_upgrade_keeps_what_the_webhook_and_the_leaders_wrote(plane: ControlPlane) -> None:
    """The chart owns the Secret, the Leases and the webhook's configuration, but not what the daemons write there."""
    configuration = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kerf-webhook"
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/kerf-scheduler"
    release = Release(plane)
    release.install({}, *WAIT)
    written = plane.api.get(configuration)
    written["webhooks"][0]["clientConfig"]["caBundle"] = "bXkgY2E="
    plane.api.patch(configuration, {"webhooks": written["webhooks"]})
    plane.api.patch(f"{NAMESPACES}/secrets/kerf-webhook-cert", {"data": {"tls.crt": "Y2VydA=="}})
    plane.api.patch(lease, {"spec": {"holderIdentity": "me"}})

    release.upgrade({"webhook": {"timeoutSeconds": 7}}, *WAIT)

    (hook,) = plane.api.get(configuration)["webhooks"]
    assert hook["timeoutSeconds"] == 7
    assert hook["clientConfig"].get("caBundle") == "bXkgY2E="
    assert plane.api.get(f"{NAMESPACES}/secrets/kerf-webhook-cert")["data"] == {"tls.crt": "Y2VydA=="}
    assert plane.api.get(lease)["spec"]["holderIdentity"] == "me"
    release.uninstall()


def test_the_chart_of_the_version_before_is_upgraded_and_rolled_back_with_its_own_values(plane: ControlPlane) -> None:
    """Values that were valid stay valid, and no selector or other immutable field has changed."""
    before = every_object(plane.api)
    values = {"quota": {"enabled": True}, "devicePlugin": {"pools": [{"name": "a", "nodeSelector": {"gpu": "on"}}]}}
    release = Release(plane, chart=released.tree() / "charts" / "kerf")
    release.install(values, *WAIT)
    workloads = {pod["metadata"]["name"].rsplit("-", 2)[0] for pod in release.pods("scheduler")}

    release.chart = CHART
    release.upgrade(values, *WAIT)
    assert len(no_warnings(plane)) == 0
    assert {pod["metadata"]["name"].rsplit("-", 2)[0] for pod in release.pods("scheduler")} == workloads

    release.roll_back("1", *WAIT)
    await_until(lambda: len(kerfs_policies(plane)) == 4, "the newer policies to be gone")
    release.uninstall()
    await_gone(plane.api, before)


def kerfs_policies(plane: ControlPlane) -> list[dict[str, object]]:
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    return [item for item in plane.api.get(path)["items"] if item["metadata"]["name"].startswith("kerf-")]


def no_warnings(plane: ControlPlane) -> dict[str, object]:
    """The API server's type check of Kerf's policies, by policy."""
    await_until(
        lambda: all("typeChecking" in item.get("status", {}) for item in kerfs_policies(plane)), "the type check"
    )
    assert len(kerfs_policies(plane)) == 6
    return {
        item["metadata"]["name"]: item["status"]["typeChecking"]
        for item in kerfs_policies(plane)
        if item["status"]["typeChecking"]
    }
