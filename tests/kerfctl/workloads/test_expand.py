"""Objects to the pods that their controllers make: how many, called what, with what labels; and what is not read."""

from typing import Any

import pytest

from kerf.testing.builders import a_container, a_node, a_pod
from kerf.wire.json import at
from kerfctl.errors import CliError
from kerfctl.workloads.expand import Expanded, expand

TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [a_container()]}}


def an_object(kind: str, spec: dict[str, Any], version: str = "apps/v1", **more: Any) -> dict[str, Any]:
    meta = {"name": more.pop("name", "work"), **more.pop("meta", {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec, **more}


def made(*items: dict[str, Any], nodes: tuple[dict[str, Any], ...] = ()) -> Expanded:
    return expand([("file", item) for item in items], nodes)


def names(found: Expanded) -> list[str]:
    return [pod["metadata"]["name"] for pod in found.pods]


def job(**spec: Any) -> dict[str, Any]:
    return {"template": TEMPLATE, **spec}


@pytest.mark.parametrize(
    ("item", "count"),
    [
        (an_object("Deployment", {"replicas": 3, "template": TEMPLATE}), 3),
        (an_object("Deployment", {"template": TEMPLATE}), 1),
        (an_object("StatefulSet", {"replicas": 2, "template": TEMPLATE}), 2),
        (an_object("ReplicationController", {"replicas": 2, "template": TEMPLATE}, "v1"), 2),
        (an_object("Job", job(), "batch/v1"), 1),
        (an_object("Job", job(parallelism=4), "batch/v1"), 4),
        (an_object("Job", job(completions=3), "batch/v1"), 1),
        (an_object("Job", job(parallelism=4, completions=3), "batch/v1"), 3),
        (an_object("Job", job(parallelism=4, completions=10), "batch/v1", status={"succeeded": 8}), 2),
        (an_object("Job", job(parallelism=4), "batch/v1", status={"succeeded": 1}), 0),
        (an_object("CronJob", {"jobTemplate": {"spec": job(parallelism=2)}}, "batch/v1"), 2),
    ],
)
def test_kubernetes_own_controllers(item: dict[str, Any], count: int) -> None:
    assert names(made(item)) == [f"work-{i}" for i in range(count)]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (an_object("Job", job(suspend=True), "batch/v1"), "Job: it is suspended and makes no pods"),
        (an_object("CronJob", {"suspend": True}, "batch/v1"), "CronJob: it is suspended and makes no pods"),
        (
            an_object("JobSet", {"suspend": True}, "jobset.x-k8s.io/v1alpha2"),
            "JobSet: it is suspended and makes no pods",
        ),
        (
            an_object("PyTorchJob", {"runPolicy": {"suspend": True}}, "kubeflow.org/v1"),
            "PyTorchJob: it is suspended and makes no pods",
        ),
        (an_object("RayCluster", {"suspend": True}, "ray.io/v1"), "RayCluster: it is suspended and makes no pods"),
        (
            an_object("Job", job(), "batch/v1", status={"conditions": [{"type": "Complete", "status": "True"}]}),
            "Job: it has ended",
        ),
    ],
)
def test_what_makes_no_pods_now_says_so(item: dict[str, Any], reason: str) -> None:
    found = made(item)

    assert (found.pods, found.idle, found.left_out) == ([], [("default", "work", reason)], [])


def test_a_daemon_set_has_a_pod_on_every_node_that_its_template_allows() -> None:
    nodes = [a_node(name, 1) for name in ("plain", "cordoned", "tainted", "other")]
    nodes[1]["spec"] = {
        "unschedulable": True,
        "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
    }
    nodes[2]["spec"] = {"taints": [{"key": "team", "effect": "NoSchedule"}]}
    for node in nodes[:3]:
        node["metadata"]["labels"] = {"gpu": "on"}
    template = {"spec": {"nodeSelector": {"gpu": "on"}, "containers": [a_container()]}}

    found = made(an_object("DaemonSet", {"template": template}), nodes=tuple(nodes))

    assert names(found) == ["work-plain", "work-cordoned"]


def test_a_job_set_multiplies_its_jobs() -> None:
    parts = [
        {"name": "driver", "template": {"spec": job()}},
        {"name": "workers", "replicas": 2, "template": {"spec": job(parallelism=2, completions=2)}},
    ]

    found = made(an_object("JobSet", {"replicatedJobs": parts}, "jobset.x-k8s.io/v1alpha2"))

    assert names(found) == [
        "work-driver-0-0", "work-workers-0-0", "work-workers-0-1", "work-workers-1-0", "work-workers-1-1",
    ]  # fmt: skip


def test_a_leader_worker_set_has_groups_with_a_leader() -> None:
    leader = {"spec": {"containers": [a_container("leader")]}}
    parts = {"size": 2, "leaderTemplate": leader, "workerTemplate": TEMPLATE}

    found = made(
        an_object("LeaderWorkerSet", {"replicas": 2, "leaderWorkerTemplate": parts}, "leaderworkerset.x-k8s.io/v1")
    )

    assert names(found) == ["work-0", "work-0-1", "work-1", "work-1-1"]
    assert [pod["spec"]["containers"][0]["name"] for pod in found.pods] == ["leader", "main", "leader", "main"]
    label = "leaderworkerset.sigs.k8s.io/group-index"
    assert [at(pod, "metadata", "labels")[label] for pod in found.pods] == ["0", "0", "1", "1"]


def test_ray_counts_the_head_and_workers_within_their_bounds_on_every_host() -> None:
    groups = [
        {"groupName": "a", "replicas": 9, "maxReplicas": 2, "template": TEMPLATE},
        {"groupName": "b", "minReplicas": 1, "numOfHosts": 2, "template": TEMPLATE},
        {"groupName": "c", "replicas": 5, "suspend": True, "template": TEMPLATE},
    ]
    cluster = {"headGroupSpec": {"template": TEMPLATE}, "workerGroupSpecs": groups}
    wanted = ["work-head", "work-a-worker-0", "work-a-worker-1", "work-b-worker-0", "work-b-worker-1"]

    for kind, spec in (
        ("RayCluster", cluster),
        ("RayJob", {"rayClusterSpec": cluster}),
        ("RayService", {"rayClusterConfig": cluster}),
    ):
        assert names(made(an_object(kind, spec, "ray.io/v1"))) == wanted, kind


def test_a_training_job_has_replicas_by_kind() -> None:
    parts = {"Master": {"template": TEMPLATE}, "Worker": {"replicas": 2, "template": TEMPLATE}}

    found = made(an_object("PyTorchJob", {"pytorchReplicaSpecs": parts}, "kubeflow.org/v1"))

    assert names(found) == ["work-master-0", "work-worker-0", "work-worker-1"]


def test_an_inference_service_puts_its_model_into_the_main_container() -> None:
    limits = {"nvidia.com/gpumem": 8000}
    predictor = {
        "minReplicas": 2,
        "nodeSelector": {"gpu": "on"},
        "model": {"modelFormat": {"name": "huggingface"}, "resources": {"limits": limits}},
        "containers": [{"name": "kserve-container", "image": "own"}, {"name": "side"}],
    }

    found = made(an_object("InferenceService", {"predictor": predictor}, "serving.kserve.io/v1beta1"))

    assert names(found) == ["work-predictor-0", "work-predictor-1"]
    spec = found.pods[0]["spec"]
    assert spec["nodeSelector"] == {"gpu": "on"}
    assert [c["name"] for c in spec["containers"]] == ["kserve-container", "side"]
    assert (spec["containers"][0]["image"], spec["containers"][0]["resources"]) == ("own", {"limits": limits})


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (an_object("Workflow", {}, "argoproj.io/v1alpha1"), "not read: Workflow work"),
        (an_object("Job", {"tasks": []}, "batch.volcano.sh/v1alpha1"), "not read: Job work"),
        (an_object("HorizontalPodAutoscaler", {}, "autoscaling/v2"), "not read: HorizontalPodAutoscaler work"),
        (an_object("LimitRange", {}, "v1"), "not read: LimitRange work"),
        (an_object("Deployment", {}, "example.com/v1"), "not read: Deployment work"),
        (an_object("Mystery", {}, ""), "not read: Mystery work"),
        (
            an_object("InferenceService", {"predictor": {"workerSpec": {"size": 2}}}, "serving.kserve.io/v1beta1"),
            "not read: InferenceService work: the pods of spec.predictor.workerSpec are not counted",
        ),
    ],
)
def test_what_is_not_read_is_named(item: dict[str, Any], line: str) -> None:
    assert made(item).left_out == [line]


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("ConfigMap", "v1"), ("Service", "v1"), ("ResourceQuota", "v1"), ("TenantQuota", "kerf.dev/v1alpha1"),
        ("PodDisruptionBudget", "policy/v1"), ("ClusterRole", "rbac.authorization.k8s.io/v1"),
        ("ClusterQueue", "kueue.x-k8s.io/v1beta2"), ("ResourceQuota", ""), ("PodDisruptionBudget", ""),
    ],
)  # fmt: skip
def test_what_has_nothing_to_do_with_pods_is_passed_over(kind: str, version: str) -> None:
    assert made(an_object(kind, {}, version)) == Expanded()


def test_pods_that_are_there_take_replicas_places() -> None:
    there = a_pod("work-7d9-abc")
    there["metadata"]["labels"] = {"pod-template-hash": "7d9"}
    there["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "work-7d9", "controller": True}]
    ended = a_pod("work-7d9-old", phase="Failed")
    ended["metadata"] |= {key: there["metadata"][key] for key in ("labels", "ownerReferences")}

    found = made(an_object("Deployment", {"replicas": 2, "template": TEMPLATE}), there, ended)

    assert names(found) == ["work-1", "work-7d9-abc", "work-7d9-old"]


def test_an_object_that_owns_another_is_counted_by_what_it_owns() -> None:
    owner = {"ownerReferences": [{"kind": "Deployment", "name": "work", "controller": True}]}
    replicas = an_object("ReplicaSet", {"replicas": 2, "template": TEMPLATE}, name="work-7d9", meta=owner)

    found = made(an_object("Deployment", {"replicas": 5, "template": TEMPLATE}), replicas)

    assert names(found) == ["work-7d9-0", "work-7d9-1"]


def test_a_workers_pod_stands_for_a_worker_and_not_for_the_head() -> None:
    worker = a_pod("w", labels={"ray.io/cluster": "work", "ray.io/node-type": "worker", "ray.io/group": "a"})
    cluster = {
        "headGroupSpec": {"template": TEMPLATE},
        "workerGroupSpecs": [{"groupName": "a", "replicas": 1, "template": TEMPLATE}],
    }

    assert names(made(an_object("RayCluster", cluster, "ray.io/v1"), worker)) == ["work-head", "w"]


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (an_object("Deployment", {"replicas": "3", "template": TEMPLATE}), "spec.replicas: '3': write a number from 0"),
        (an_object("Deployment", {"replicas": -1, "template": TEMPLATE}), "spec.replicas: '-1'"),
        (an_object("Deployment", {"replicas": 10**9, "template": TEMPLATE}), "from 0 to 10000"),
        (an_object("Deployment", {"replicas": True, "template": TEMPLATE}), "spec.replicas"),
        (an_object("Deployment", {}), "spec.template: 'None': write a pod template"),
        (an_object("CronJob", {"jobTemplate": {"spec": {}}}, "batch/v1"), "spec.jobTemplate.spec.template"),
        (an_object("PyTorchJob", {}, "kubeflow.org/v1"), "spec.pytorchReplicaSpecs"),
        (
            an_object("JobSet", {"replicatedJobs": [{"replicas": 9999, "template": {"spec": job(parallelism=2)}}]},
                      "jobset.x-k8s.io/v1alpha2"),
            "makes 19998 pods: write at most 10000",
        ),
    ],
)  # fmt: skip
def test_a_mistake_names_file_object_and_field(item: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CliError) as error:
        made(item)

    assert str(error.value).startswith(f"file: {item['kind']} work")
    assert sentence in str(error.value)
