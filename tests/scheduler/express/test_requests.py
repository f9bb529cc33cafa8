"""What a pod takes of a node, by kube-scheduler's own rules."""

from typing import Any

import pytest

from scheduler.express.requests import PODS, UNREADABLE, allocatable_of, requests_of


def asks(cpu: str, name: str = "main", **more: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": {"cpu": cpu}}, **more}


def runs(cpu: str, name: str = "main", allocated: str = "0") -> dict[str, Any]:
    return {"name": name, "resources": {"requests": {"cpu": cpu}}, "allocatedResources": {"cpu": allocated}}


SIDECAR = {"restartPolicy": "Always"}
PENDING = {"type": "PodResizePending", "status": "True"}


@pytest.mark.parametrize(
    ("spec", "status", "cpu"),
    [
        ({"containers": [asks("100m"), asks("0.2")]}, {}, 300),
        ({"containers": [asks("0.1m")]}, {}, 1),
        ({"containers": [asks("1")], "initContainers": [asks("2"), asks("3")]}, {}, 3000),
        ({"containers": [asks("1")], "initContainers": [asks("1", **SIDECAR)]}, {}, 2000),
        ({"containers": [asks("1")], "initContainers": [asks("1", **SIDECAR), asks("3")]}, {}, 4000),
        ({"containers": [asks("1")], "initContainers": [asks("3"), asks("1", **SIDECAR)]}, {}, 3000),
        ({"containers": [asks("1")], "overhead": {"cpu": "250m"}}, {}, 1250),
        ({"containers": [asks("1")], "resources": {"requests": {"cpu": "4"}}, "overhead": {"cpu": "1"}}, {}, 5000),
        # resized in place: the larger of what is wanted, in effect and set aside by the kubelet
        ({"containers": [asks("1")]}, {"containerStatuses": [runs("2")]}, 2000),
        ({"containers": [asks("3")]}, {"containerStatuses": [runs("2")]}, 3000),
        ({"containers": [asks("1")]}, {"containerStatuses": [runs("1", allocated="4")]}, 4000),
        (
            {"containers": [asks("9")]},
            {"containerStatuses": [runs("2")], "conditions": [{**PENDING, "reason": "Infeasible"}]},
            2000,
        ),
        (
            {"containers": [asks("9")]},
            {"containerStatuses": [runs("2")], "conditions": [{**PENDING, "reason": "Deferred"}]},
            9000,
        ),
        (
            {"containers": [asks("1")], "initContainers": [asks("1", "side", **SIDECAR)]},
            {"initContainerStatuses": [runs("5", "side")]},
            6000,
        ),
        (
            {"containers": [asks("1")], "resources": {"requests": {"cpu": "4"}}},
            {"resources": {"requests": {"cpu": "6"}}, "allocatedResources": {"cpu": "5"}},
            6000,
        ),
    ],
)
def test_cpu_is_counted_as_kube_scheduler_counts_it(spec: dict[str, Any], status: dict[str, Any], cpu: int) -> None:
    assert requests_of({"spec": spec, "status": status}) == {"cpu": cpu, PODS: 1}


def test_every_resource_counts_and_limits_alone_do_not() -> None:
    resources = {
        "requests": {"memory": "1.5Ki", "ephemeral-storage": "1G", "hugepages-2Mi": "4Mi", "example.com/fpga": 2},
        "limits": {"cpu": "8"},
    }

    assert requests_of({"spec": {"containers": [{"name": "main", "resources": resources}]}}) == {
        "memory": 1536,
        "ephemeral-storage": 10**9,
        "hugepages-2Mi": 4 * 2**20,
        "example.com/fpga": 2,
        PODS: 1,
    }


def test_a_pod_that_cannot_be_counted_leaves_no_room_on_its_node() -> None:
    assert requests_of({"spec": {"containers": [asks("many")]}}) == UNREADABLE


def test_a_node_has_what_it_says_rounded_down_and_nothing_of_what_cannot_be_read() -> None:
    said = {"cpu": "3.9999", "memory": "1.5", "pods": 110, "example.com/fpga": "two", "example.com/odd": "-9E"}

    assert allocatable_of({"status": {"allocatable": said}}) == {
        "cpu": 3999,
        "memory": 1,
        "pods": 110,
        **dict.fromkeys(("example.com/fpga", "example.com/odd"), 0),
    }
    assert allocatable_of({}) == {}
