"""Which pods move together."""

from typing import Any

import pytest

from kerf.testing.builders import a_pod
from scheduler.recovery.breaker import pause_of
from scheduler.recovery.groups import CASCADING, group_of
from scheduler.recovery.hints import controller_path
from tests.scheduler.recovery.world import World, lost, owned, with_owner

LWS = {"leaderworkerset.sigs.k8s.io/name": "serve", "leaderworkerset.sigs.k8s.io/group-index": "1"}
JOBSET = {"jobset.sigs.k8s.io/jobset-name": "js"}
RAY = {"ray.io/cluster": "ray", "ray.io/node-type": "worker"}
GROUP = ",".join(f"{key}={value}" for key, value in LWS.items())
JOB = {"batch.kubernetes.io/job-name": "train"}
INDEXED = {**JOB, "batch.kubernetes.io/job-completion-index": "3"}


@pytest.mark.parametrize(
    ("labels", "spec", "expected"),
    [
        pytest.param({}, {}, None, id="a pod of a Deployment"),
        pytest.param(
            LWS, {}, ("serve/1", ",".join(f"{k}={v}" for k, v in LWS.items())), id="a LeaderWorkerSet's group"
        ),
        pytest.param(
            {"jobset.sigs.k8s.io/jobset-name": "js", **JOB},
            {},
            ("js", "jobset.sigs.k8s.io/jobset-name=js"),
            id="JobSet",
        ),
        pytest.param(
            {"training.kubeflow.org/job-name": "t"}, {}, ("t", "training.kubeflow.org/job-name=t"), id="PyTorchJob"
        ),
        pytest.param(RAY, {}, None, id="a worker of a RayCluster"),
        pytest.param({**RAY, "ray.io/node-type": "head"}, {}, ("ray", "ray.io/cluster=ray"), id="its head"),
        pytest.param(JOB, {}, None, id="an independent pod of a Job"),
        pytest.param(INDEXED, {}, None, id="an indexed one"),
        pytest.param(
            INDEXED, {"subdomain": "train"}, ("train", "batch.kubernetes.io/job-name=train"), id="one that has peers"
        ),
        pytest.param(
            {**JOB, CASCADING: "true"}, {}, ("train", "batch.kubernetes.io/job-name=train"), id="a Job that cascades"
        ),
        pytest.param({**RAY, CASCADING: "true"}, {}, ("ray", "ray.io/cluster=ray"), id="a worker that cascades"),
        pytest.param({"training.kubeflow.org/job-name": "t", CASCADING: "false"}, {}, None, id="one that does not"),
        pytest.param({"kerf.dev/gang": "g"}, {}, ("default/g", ""), id="a gang"),
    ],
)
def test_a_group_is_what_its_controller_calls_one(labels: dict[str, str], spec: dict[str, Any], expected: Any):
    group = group_of(a_pod(labels=labels, spec=spec))

    assert (None if group is None else (group.name, group.selector)) == expected
    assert group is None or group.holds(a_pod("other", labels=labels, spec=spec))
    assert group is None or not group.holds(a_pod("stranger"))


def test_pods_of_a_controller_without_labels_cascade_by_their_owner():
    pod = with_owner(a_pod(labels={CASCADING: "true"}), owned("rs-1"))
    group = group_of(pod)

    assert group is not None
    assert group.holds(with_owner(a_pod("b"), owned("rs-1")))
    assert not group.holds(with_owner(a_pod("c"), owned("rs-2")))


@pytest.mark.parametrize(
    ("kind", "api", "path"),
    [
        ("Job", "batch/v1", "/apis/batch/v1/namespaces/default/jobs/owner"),
        ("PyTorchJob", "kubeflow.org/v1", "/apis/kubeflow.org/v1/namespaces/default/pytorchjobs/owner"),
        ("ReplicaSet", "apps/v1", ""),
        ("Job", "example.com/v1", ""),
    ],
)
def test_hints_are_kept_on_controllers_of_groups_alone(kind: str, api: str, path: str):
    assert controller_path(with_owner(a_pod(), owned("u", kind, api))) == path


@pytest.mark.parametrize(
    ("failed", "opens"),
    [
        pytest.param([("a", 0)], False, id="one card"),
        pytest.param([("a", 0), ("a", 1), ("a", 2)], False, id="three cards of one node"),
        pytest.param([("a", 0), ("b", 0)], True, id="one card of every node"),
        pytest.param([("a", 0), ("a", 1), ("a", 2), ("a", 3)], True, id="all cards of one of two nodes"),
    ],
)
def test_the_breaker_opens_at_half_and_at_least_two_nodes_or_four_cards(failed: list[tuple[str, int]], opens: bool):
    world = World().node("a").node("b")
    for name, index in failed:
        world.fail(name, index, lost())

    assert (pause_of(world.store.desk.nodes(), world.policy.recovery.breaker, world.now) is not None) == opens


def test_faults_of_different_times_are_no_common_event():
    world = World().node("a").node("b")
    world.fail("a", 0, lost(int(world.now)))
    world.fail("b", 0, lost(int(world.now) + 301))

    assert pause_of(world.store.desk.nodes(), world.policy.recovery.breaker, world.now + 301) is None
