"""Another vendor's cards on a real kubelet, served by a stand-in of its plugin, and pods that accept several kinds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kerf.kube.client import connect
from kerf.wire.accepts import ACCEPTS, CHOSEN
from kerf.wire.annotations import GRANT, parse_grant
from sandbox import SLEEPER, ControlPlane, Node, await_until, parse_report
from sandbox.stack import EXTENDER, PLUGIN, start_stack, stop_stack
from tests.cluster.ascend_plugin import RESOURCE, TO_ALLOCATE, AscendPlugin
from tests.cluster.gpu_pods import PODS, a_fake_node, pods, remove_pods

pytestmark = pytest.mark.cluster
HOPPER = "hopper"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
BOTH = f"nvidia.com/gpu:H100;memory=75000, {RESOURCE};memory=32768"
POLICY = """
apiVersion: kerf.dev/v1alpha1
kind: SchedulingPolicy
spec: {accepts: {explainAfterSeconds: 2}}
"""


@dataclass
class World:
    cp: ControlPlane
    node: Node
    plugin: AscendPlugin

    def pod(self, name: str) -> dict[str, Any]:
        return self.cp.api.get(f"{PODS}/{name}")

    def await_phase(self, *names: str) -> None:
        def running() -> bool:
            return all(self.pod(name)["status"].get("phase") == "Running" for name in names)

        await_until(running, f"{', '.join(names)} to run")

    def environment(self, name: str) -> dict[str, str]:
        await_until(lambda: parse_report(self.node.output("default", name, "main")).complete, f"{name}'s report")
        return dict(parse_report(self.node.output("default", name, "main")).environment)


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A real node with two Ascend cards, and a kwok node with one H100."""
    policy: Path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    start_stack(control_plane, policy=policy)
    control_plane.add_fake_nodes([a_fake_node(HOPPER, 1)])
    kube = connect(str(control_plane.kubeconfig_for(PLUGIN)))  # one of the chart's pluginUsers
    plugin = AscendPlugin(kube, node.name, Path(node.device_plugin_dir), cards=2).start()

    def counted() -> bool:
        status = control_plane.api.get(f"/api/v1/nodes/{node.name}")["status"]
        return int(status.get("allocatable", {}).get(RESOURCE, "0")) == 8

    await_until(counted, "the kubelet to count the cards")
    yield World(control_plane, node, plugin)
    plugin.stop()
    stop_stack(control_plane)
    control_plane.api.delete(f"/api/v1/nodes/{HOPPER}")


@pytest.fixture(autouse=True)
def no_pods_left(world: World) -> Iterator[None]:
    yield
    for item in world.cp.api.get(DEPLOYMENTS)["items"]:
        world.cp.api.delete(f"{DEPLOYMENTS}/{item['metadata']['name']}", 0)
    remove_pods(world.cp)


def a_spec(limits: dict[str, str] | None = None) -> dict[str, Any]:
    main = {"name": "main", "image": SLEEPER, "imagePullPolicy": "Never", "resources": {"limits": limits or {}}}
    return {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [main]}


def a_choosing_pod(name: str, accepts: str = BOTH, **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {ACCEPTS: accepts}, **meta}, "spec": a_spec()}


def chosen(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pod["metadata"]["annotations"][CHOSEN])
    return found


def test_a_pod_of_another_vendor_starts_with_the_cards_of_its_grant(world: World) -> None:
    limits = {RESOURCE: "1", f"{RESOURCE}-memory": "20000"}
    for name in ("npu-a", "npu-b"):
        world.cp.api.post(PODS, {"metadata": {"name": name}, "spec": a_spec(limits)})
    world.await_phase("npu-a", "npu-b")

    for name in ("npu-a", "npu-b"):
        grant = parse_grant(world.pod(name)["metadata"]["annotations"][GRANT])
        (piece,) = grant.of("main")
        seen = world.environment(name)
        assert (seen["ASCEND_VISIBLE_DEVICES"], seen["ASCEND_MIB"]) == (piece.card, "32768")
        assert world.pod(name)["metadata"]["annotations"][TO_ALLOCATE] == ";"
    notes = world.cp.api.get(f"/api/v1/nodes/{world.node.name}")["metadata"]["annotations"]
    assert "hami.io/mutex.lock" not in notes


def test_pods_of_a_deployment_are_each_given_a_kind_and_the_template_stays(world: World) -> None:
    template = {"metadata": {"labels": {"app": "chat"}, "annotations": {ACCEPTS: BOTH}}, "spec": a_spec()}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "chat"}}, "template": template}
    world.cp.api.post(DEPLOYMENTS, {"metadata": {"name": "chat"}, "spec": spec})

    await_until(lambda: len(pods(world.cp)) == 3, "the deployment's pods")
    names = [pod["metadata"]["name"] for pod in pods(world.cp)]
    world.await_phase(*names)

    kinds = sorted((chosen(pod)["kind"], pod["spec"]["nodeName"]) for pod in pods(world.cp))
    assert kinds == [(RESOURCE, world.node.name)] * 2 + [("nvidia.com/gpu:H100", HOPPER)]
    stored = world.cp.api.get(f"{DEPLOYMENTS}/chat")["spec"]["template"]
    assert stored["metadata"]["annotations"] == {ACCEPTS: BOTH}
    assert not stored["spec"]["containers"][0]["resources"].get("limits")


def test_while_the_scheduler_is_away_pods_are_admitted_with_their_first_kind(world: World) -> None:
    world.cp.supervisor.kill(EXTENDER)
    try:
        pod = world.cp.api.post(PODS, a_choosing_pod("early", f"{RESOURCE};memory=32768, nvidia.com/gpu"))
    finally:
        world.cp.supervisor.restart(EXTENDER)

    assert chosen(pod)["kind"] == RESOURCE
    assert chosen(pod)["why"].startswith("the first kind that it may have: the scheduler gave no answer")
    world.await_phase("early")


def test_a_pod_that_waits_for_its_kind_is_explained_by_an_event(world: World) -> None:
    full = f"{RESOURCE};memory=65536, nvidia.com/gpu:H100;memory=75000"
    for number in range(3):
        world.cp.api.post(PODS, a_choosing_pod(f"full-{number}", full))
    world.await_phase(*(f"full-{number}" for number in range(3)))
    pod = world.cp.api.post(PODS, a_choosing_pod("waits", full))
    assert chosen(pod)["why"].startswith(f"fits nowhere now, so it waits for {RESOURCE}: ")

    def events() -> list[str]:
        found = world.cp.api.get("/api/v1/namespaces/default/events")["items"]
        ours = [each for each in found if each["involvedObject"]["name"] == "waits"]
        return [each["message"] for each in ours if each["reason"] == "WaitsForItsKind"]

    await_until(lambda: bool(events()), "the event")
    (message,) = events()
    assert message.startswith(f"it waits for {RESOURCE} for ")
    assert message.endswith("it also accepts nvidia.com/gpu:H100: make it again to have that")
