"""The device plugins that are asked for their records."""

from typing import Any

from kerf.testing.builders import a_pod
from kerf.testing.fake_kube import FakeKube
from scheduler.metering.noderecords import plugin_addresses

LABELS = {"app.kubernetes.io/name": "kerf", "app.kubernetes.io/component": "deviceplugin"}


def a_plugin(name: str, address: str, namespace: str = "kerf-system", **changes: Any) -> dict[str, Any]:
    pod = a_pod(name, namespace=namespace, labels=LABELS, node="node-1", phase=changes.pop("phase", "Running"))
    pod["spec"]["containers"] = [{"name": "p", "ports": [{"name": "metrics", "containerPort": 9394}]}]
    pod["status"]["podIP"] = address
    pod["metadata"] |= changes
    return pod


def test_a_pod_of_another_namespace_with_the_plugins_labels_is_not_believed():
    kube = FakeKube(a_plugin("real", "10.0.0.1"), a_plugin("forged", "10.6.6.6", "team"))

    assert plugin_addresses(kube, "kerf-system") == {"node-1": "10.0.0.1:9394"}


def test_of_several_pods_of_a_node_the_one_that_stays_is_asked():
    going = a_plugin("z-going", "10.0.0.2", deletionTimestamp="2026-01-01T00:00:00Z")
    kube = FakeKube(a_plugin("b", "10.0.0.1"), going, a_plugin("z-failed", "10.0.0.3", phase="Failed"))

    assert plugin_addresses(kube, "kerf-system") == {"node-1": "10.0.0.1:9394"}
