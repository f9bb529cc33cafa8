"""Every field that a tenant may write, tried as a way to cards that no quota counts."""

from typing import Any

import pytest

from kerf.testing.builders import a_container, a_pod
from kerf.values.policy import QuotaEngine
from kerf.values.quota import Amount, Bound
from kerf.wire.admission import Answer
from tests.webhook.core.test_templates import MAKERS, a_template, at
from tests.webhook.json_patch import apply
from tests.webhook.tenants import a_book, a_class_book, answer_to, settings_of

FULL = settings_of([a_book(a_class_book(limit=Bound(10_000, 100, 1), used=Amount(10_000, 0, 1)), enforced=True)])
KUEUE = settings_of([a_book()], QuotaEngine.KUEUE)
TOTALS = {"quota.kerf.dev/nvidia-mib": "8000", "quota.kerf.dev/nvidia-cores": "30", "quota.kerf.dev/nvidia-cards": "1"}
FORGED = {"quota.kerf.dev/nvidia-mib": "0", "quota.kerf.dev/nvidia-cards": "0"}
REQUESTED = {"name": "main", "resources": {"requests": {"nvidia.com/gpumem": "8000", "nvidia.com/gpucores": "30"}}}


def with_resources(**resources: dict[str, str]) -> dict[str, Any]:
    return a_pod(containers=[{**a_container(), "resources": {**a_container()["resources"], **resources}}])


def owned() -> dict[str, Any]:
    pod = a_pod()
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "queued", "uid": "u", "controller": True}
    pod["metadata"]["ownerReferences"] = [owner]
    return pod


def with_meta(**meta: Any) -> dict[str, Any]:
    pod = a_pod()
    pod["metadata"].update(meta)
    return pod


def totals(pod: dict[str, Any]) -> dict[str, str]:
    resources = pod["spec"]["containers"][0]["resources"]
    assert resources["limits"].items() >= resources["requests"].items() - {("cpu", "")}
    return {key: value for key, value in resources["limits"].items() if key.startswith("quota.kerf.dev/")}


PATHS = {
    "as it is": a_pod(),
    "a grant of its own": a_pod(annotations={"kerf.dev/grant": '{"v":1,"containers":[]}'}),
    "hami's record": a_pod(
        annotations={"hami.io/vgpu-node": "n", "hami.io/vgpu-devices-allocated": "GPU-0,NVIDIA,1,1:;"}
    ),
    "totals of its own": with_resources(limits={**a_container()["resources"]["limits"], **FORGED}, requests=FORGED),
    "requests alone": a_pod(containers=[REQUESTED]),
    "an admission that it did not get": a_pod(annotations={"kerf.dev/admission": "uid"}),
    "opted out, with Kerf's scheduler": a_pod(
        labels={"kerf.dev/webhook": "ignore"}, spec={"schedulerName": "kerf-scheduler"}
    ),
    "a queue of its own": a_pod(labels={"kueue.x-k8s.io/queue-name": "other"}),
    "unmanaged": a_pod(labels={"kueue.x-k8s.io/managed": "false"}),
    "a priority class": a_pod(spec={"priorityClassName": "system-node-critical"}),
    "scheduling gates": a_pod(spec={"schedulingGates": [{"name": "example.com/mine"}]}),
    "a group of Kueue's": a_pod(labels={"kueue.x-k8s.io/pod-group-name": "g"}),
    "a priority of Kueue's": a_pod(labels={"kueue.x-k8s.io/priority-class": "kerf-high"}),
    "an overhead": a_pod(spec={"overhead": {"nvidia.com/gpumem": "-8000"}}),
    "an ephemeral container": a_pod(spec={"ephemeralContainers": [a_container("debug")]}),
    "a long farewell": a_pod(spec={"terminationGracePeriodSeconds": 86_400}),
    "a finalizer and a generated name": with_meta(finalizers=["example.com/mine"], generateName="p-"),
    "HAMi's own name for memory": a_pod(annotations={"hami.io/gpu-memory": "1"}),
    "a gang": a_pod(labels={"kerf.dev/gang": "g"}, annotations={"kerf.dev/gang-size": "2"}),
}


@pytest.mark.parametrize("pod", PATHS.values(), ids=list(PATHS))
def test_no_field_leads_past_a_quota_that_is_used_up(pod: dict[str, Any]) -> None:
    answer = answer_to(pod, FULL)

    assert not answer.allowed
    assert answer.message.startswith("quota: tenant team-a")


@pytest.mark.parametrize("pod", PATHS.values(), ids=list(PATHS))
def test_no_field_changes_what_kueue_counts(pod: dict[str, Any]) -> None:
    answer = answer_to(pod, KUEUE)

    assert answer.allowed, answer.message
    stored = apply(pod, answer.patch)
    assert totals(stored) == TOTALS
    assert stored["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] in {"kerf", "other"}
    assert "kerf.dev/grant" not in stored["metadata"].get("annotations", {})


SHAPES = {
    "an init container": a_pod(containers=[{"name": "main"}], init=[a_container("init")]),
    "a sidecar": a_pod(containers=[{"name": "main"}], init=[a_container("side", restartPolicy="Always")]),
    "a second container": a_pod(containers=[{"name": "main"}, a_container("second")]),
    "cores alone": a_pod(containers=[a_container(gpu=0, mem=None)]),
    "cards alone": a_pod(containers=[a_container(mem=None, cores=None)]),
    "a percentage": a_pod(containers=[{"name": "m", "resources": {"limits": {"nvidia.com/gpumem-percentage": "50"}}}]),
    "several kinds of cards": a_pod(annotations={"kerf.dev/accepts": "H100 | H100;memory=4000"}),
}


@pytest.mark.parametrize("pod", SHAPES.values(), ids=list(SHAPES))
def test_no_shape_of_a_pod_leads_past_a_quota_that_is_used_up(pod: dict[str, Any]) -> None:
    assert not answer_to(pod, FULL).allowed


@pytest.mark.parametrize("user", ["joe", "system:serviceaccount:kube-system:replicaset-controller", "kuberay"])
@pytest.mark.parametrize("kind", ["RayCluster", "PyTorchJob", "InferenceService", "Workflow", "ReplicaSet"])
def test_pods_of_kinds_whose_templates_nobody_reads_are_counted_when_they_are_made(user: str, kind: str) -> None:
    pod = with_meta(ownerReferences=[{"apiVersion": "v1", "kind": kind, "name": "o", "uid": "u", "controller": True}])

    assert answer_to(pod, FULL, user=user).message.startswith("quota: tenant team-a")


@pytest.mark.parametrize(("make", "path", "field"), MAKERS)
@pytest.mark.parametrize("more", [{}, {"suspend": True}], ids=["as it is", "suspended"])
def test_no_template_says_by_itself_what_kueue_counts(make: Any, path: Any, field: str, more: dict[str, Any]) -> None:
    template = a_template(
        containers=with_resources(limits={**a_container()["resources"]["limits"], **FORGED})["spec"]["containers"]
    )
    item = make(template)
    item["spec"].update(more)

    answer = answer_to(item, KUEUE)
    assert answer.allowed, answer.message
    assert totals(at(apply(item, answer.patch), *path)) == TOTALS


def test_a_pod_that_says_that_kueue_gates_it_is_counted_all_the_same() -> None:
    pod = a_pod(annotations={"kueue.x-k8s.io/pod-suspending-parent": "statefulset"})

    assert totals(apply(pod, answer_to(pod, KUEUE).patch)) == TOTALS
    assert not answer_to(pod, FULL).allowed


REFUSED = {
    "less than nothing": a_pod(containers=[a_container(mem="-8000")]),
    "more than a number holds": a_pod(containers=[a_container(mem="9223372036854775808")]),
    "another scheduler": a_pod(spec={"schedulerName": "default-scheduler-2"}),
    "a node of its choice": a_pod(node="node-1"),
    "cards of the pod": a_pod(
        spec={"resources": {"limits": {"nvidia.com/gpu": "1"}}}, containers=[{"name": "main", "resources": {}}]
    ),
    "opted out": a_pod(labels={"hami.io/webhook": "ignore"}),
    "a request below the limit": with_resources(requests={"nvidia.com/gpumem": "1"}),
    "a fraction of a card": a_pod(containers=[a_container(mem="0.5")]),
    "cards of another tenant's class": a_pod(annotations={"nvidia.com/use-gputype": "B200"}),
    "no card and its memory": a_pod(
        containers=[{"name": "m", "resources": {"limits": {"nvidia.com/gpu": "0", "nvidia.com/gpumem": "8000"}}}]
    ),
    "an owner that Kueue counts instead": owned(),
}


@pytest.mark.parametrize("pod", REFUSED.values(), ids=list(REFUSED))
def test_what_could_not_be_counted_is_refused(pod: dict[str, Any]) -> None:
    assert not answer_to(pod, KUEUE).allowed


def test_an_owner_that_a_user_writes_on_a_live_pod_is_refused() -> None:
    refused = answer_to(owned(), KUEUE, a_pod())
    by_a_controller = answer_to(owned(), KUEUE, a_pod(), user="system:kube-controller-manager")

    assert refused.message.startswith("metadata.ownerReferences: 'Job queued': only a controller writes it")
    assert by_a_controller == answer_to(a_pod(), KUEUE, owned()) == Answer(allowed=True)
