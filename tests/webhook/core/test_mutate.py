"""The whole answer to a review: placement, refusals, forgeries, opting out."""

from typing import Any

import pytest

from kerf.testing.builders import a_container, a_grant, a_pod
from kerf.values.vendor import fixed_keys, written_keys
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Answer, PatchOp, Review
from kerf.wire.annotations import GRANT, HAMI_STATE, render_grant
from tests.webhook.json_patch import apply
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

SCHEDULER = "system:serviceaccount:kerf:scheduler"
MINE, THEIRS = render_grant(a_grant(memory_mib=8000)), render_grant(a_grant(memory_mib=1))

PLAIN = Settings(VENDORS)


def create(pod: dict[str, Any], settings: Settings = PLAIN) -> Answer:
    return mutate(Review("u", "CREATE", "Pod", "default", "joe", pod, {}), settings)


def update(new: dict[str, Any], old: dict[str, Any], user: str = "joe") -> Answer:
    return mutate(
        Review("u", "UPDATE", "Pod", "default", user, new, old), Settings(VENDORS, trusted=frozenset({SCHEDULER}))
    )


def a_cpu_pod(**changes: Any) -> dict[str, Any]:
    return a_pod(gpu=0, mem=None, cores=None, **changes)


def a_complete_pod(**changes: Any) -> dict[str, Any]:
    """A sliced pod that needs nothing from the webhook."""
    container = a_container()
    container["resources"]["requests"] = dict(container["resources"]["limits"])
    spec = {"schedulerName": "kerf-scheduler", **changes.pop("spec", {})}
    return a_pod(containers=[container], spec=spec, **changes)


def test_a_pod_without_cards_is_not_touched() -> None:
    assert create(a_cpu_pod()) == Answer(allowed=True)


def test_a_complete_pod_is_not_touched() -> None:
    assert create(a_complete_pod()) == Answer(allowed=True)


@pytest.mark.parametrize(
    ("spec", "operations"),
    [
        pytest.param({}, (PatchOp("add", "/spec/schedulerName", "kerf-scheduler"),), id="none"),
        pytest.param(
            {"schedulerName": ""}, (PatchOp("replace", "/spec/schedulerName", "kerf-scheduler"),), id="an empty one"
        ),
        pytest.param(
            {"schedulerName": "default-scheduler"},
            (PatchOp("replace", "/spec/schedulerName", "kerf-scheduler"),),
            id="the default one",
        ),
    ],
)
def test_a_pod_for_no_particular_scheduler_is_given_kerfs(
    spec: dict[str, Any], operations: tuple[PatchOp, ...]
) -> None:
    pod = a_complete_pod()
    del pod["spec"]["schedulerName"]
    pod["spec"] |= spec

    assert create(pod) == Answer(allowed=True, patch=operations)


def test_a_foreign_scheduler_is_refused() -> None:
    assert create(a_complete_pod(spec={"schedulerName": "volcano"})) == Answer(
        allowed=False,
        message="spec.schedulerName: 'volcano': it cannot divide cards: drop it, or write kerf-scheduler",
    )


def test_a_scheduler_that_was_allowed_is_left() -> None:
    settings = Settings(VENDORS, allowed_schedulers=frozenset({"hami-scheduler"}))

    assert create(a_complete_pod(spec={"schedulerName": "hami-scheduler"}), settings) == Answer(allowed=True)
    assert create(a_complete_pod(spec={"schedulerName": "volcano"}), settings).allowed is False


def test_a_pod_without_cards_may_have_any_scheduler() -> None:
    assert create(a_cpu_pod(spec={"schedulerName": "volcano"})) == Answer(allowed=True)


@pytest.mark.parametrize(
    ("spec", "stored"),
    [({}, "kerf"), ({"runtimeClassName": None}, "kerf"), ({"runtimeClassName": "kata"}, "kata")],
    ids=["none", "null", "the user's"],
)
def test_a_runtime_class_is_set_where_one_is_configured_and_none_is_named(spec: dict[str, Any], stored: str) -> None:
    pod = a_complete_pod(spec=spec)

    answer = create(pod, Settings(VENDORS, runtime_classes={"nvidia": "kerf"}))

    assert apply(pod, answer.patch)["spec"]["runtimeClassName"] == stored


CLASSES = Settings(VENDORS, runtime_classes={"nvidia": "nvidia", "ascend910b3": "ascend"})
NPU, DCU = {"huawei.com/Ascend910B3": "1"}, {"hygon.com/dcunum": "1"}


@pytest.mark.parametrize(
    ("limits", "stored"),
    [
        ([NPU], "ascend"),
        ([NPU, DCU], "ascend"),
        ([NPU | {"nvidia.com/gpu": "0"}], "ascend"),
        ([NPU | {"nvidia.com/priority": "1"}], "ascend"),
        ([{"nvidia.com/gpumem": "0"}], "nvidia"),
        ([DCU], None),
    ],
    ids=[
        "Ascend",
        "Ascend beside a vendor without a class",
        "no card of NVIDIA's",
        "a priority alone",
        "a card of which only an amount of zero is said",
        "a vendor without a class",
    ],
)
def test_each_vendors_cards_have_their_own_runtime_class(limits: list[dict[str, str]], stored: str | None) -> None:
    pod = a_pod(containers=[{"name": f"c{i}", "resources": {"limits": each}} for i, each in enumerate(limits)])

    answer = create(pod, CLASSES)

    assert answer.allowed, answer.message
    assert apply(pod, answer.patch)["spec"].get("runtimeClassName") == stored


def test_cards_that_need_two_runtime_classes_are_refused_unless_the_pod_names_one() -> None:
    both = [{"name": f"c{i}", "resources": {"limits": each}} for i, each in enumerate([NPU, {"nvidia.com/gpu": "1"}])]

    answer = create(a_pod(containers=both), CLASSES)

    assert answer.allowed is False
    assert "nvidia's cards need nvidia and ascend910b3's cards need ascend, and a pod has one class" in answer.message
    assert create(a_pod(containers=both, spec={"runtimeClassName": "any"}), CLASSES).allowed


LIMITS = "spec.containers[main].resources.limits"


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        pytest.param(
            a_pod(mem="3Gi"),
            f"{LIMITS}[nvidia.com/gpumem]: '3Gi': write a whole number from 0 to 16777216 "
            "(the unit is MiB, so 3072; 3Gi is outside 0..16777216)",
            id="bytes where MiB are meant",
        ),
        pytest.param(
            a_pod(mem="500Mi"),
            f"{LIMITS}[nvidia.com/gpumem]: '500Mi': write a whole number from 0 to 16777216 "
            "(the unit is MiB, so 500; 500Mi is outside 0..16777216)",
            id="bytes that would pass for very many MiB",
        ),
        pytest.param(
            a_pod(mem="1.5"),
            f"{LIMITS}[nvidia.com/gpumem]: '1.5': write a whole number from 0 to 16777216 (1.5 is not a whole number)",
            id="a part of a MiB",
        ),
        pytest.param(
            a_pod(cores=-1),
            f"{LIMITS}[nvidia.com/gpucores]: '-1': write a whole number from 0 to 2147483647 "
            "(-1 is outside 0..2147483647)",
            id="negative cores",
        ),
        pytest.param(
            a_pod(containers=[{"name": "main", "resources": {"limits": {"nvidia.com/gpumem-percentage": "101"}}}]),
            f"{LIMITS}[nvidia.com/gpumem-percentage]: '101': write a whole number from 0 to 100 "
            "(101 is outside 0..100)",
            id="more than all of a card",
        ),
        pytest.param(
            a_pod(
                containers=[
                    {"name": "main", "resources": {"limits": {"nvidia.com/gpu": "0", "nvidia.com/gpumem": "1"}}}
                ]
            ),
            f"{LIMITS}[nvidia.com/gpu]: '0': "
            "ask for at least one card, or drop nvidia.com/gpumem and nvidia.com/gpucores",
            id="memory of no card",
        ),
        pytest.param(
            a_pod(gpu=65),
            f"{LIMITS}[nvidia.com/gpu]: '65': write a whole number from 0 to 64 (65 is outside 0..64)",
            id="more cards than any machine has",
        ),
        pytest.param(
            a_pod(
                containers=[
                    {
                        "name": "main",
                        "resources": {"limits": {"nvidia.com/gpumem": "8k"}, "requests": {"nvidia.com/gpumem": "9k"}},
                    }
                ]
            ),
            f"{LIMITS}[nvidia.com/gpumem]: '8k': the request says '9k': write the same in both, or drop the request",
            id="limits and requests that differ",
        ),
        pytest.param(
            a_pod(init=[a_container("fetch", mem="x")]),
            "spec.initContainers[fetch].resources.limits[nvidia.com/gpumem]: 'x': "
            "write a whole number from 0 to 16777216 (not a quantity: 'x')",
            id="an init container",
        ),
        pytest.param(
            a_pod(node="node-1"),
            "spec.nodeName: 'node-1': drop it, it bypasses the scheduler that divides the cards; "
            "select the node by kubernetes.io/hostname",
            id="a node chosen beforehand",
        ),
        pytest.param(
            a_pod(spec={"resources": {"limits": {"nvidia.com/gpu": "1"}}}),
            "spec.resources.limits[nvidia.com/gpu]: '1': write it on the container that uses it",
            id="cards of the pod as a whole",
        ),
        pytest.param(
            a_pod(annotations={"hami.io/node-scheduler-policy": "best"}),
            "metadata.annotations[hami.io/node-scheduler-policy]: 'best': use one of binpack, spread, fragmentation",
            id="an unknown node policy",
        ),
        pytest.param(
            a_pod(annotations={"hami.io/gpu-scheduler-policy": "mutex,best"}),
            "metadata.annotations[hami.io/gpu-scheduler-policy]: 'mutex,best': "
            "write a chain of binpack, spread, numa, mutex, topology, topology-aware",
            id="an unknown card policy",
        ),
        pytest.param(
            a_pod(annotations={"hami.io/device-scoring-weights": "slot=1,core=1"}),
            "metadata.annotations[hami.io/device-scoring-weights]: 'slot=1,core=1': "
            'write all three as whole numbers, one of them positive: "slot=1,core=1,memory=3"',
            id="weights that lack one",
        ),
        pytest.param(
            a_pod(annotations={"nvidia.com/vgpu-mode": "vgpu"}),
            "metadata.annotations[nvidia.com/vgpu-mode]: 'vgpu': use one of hami-core, preload, mig, mps, shared",
            id="an unknown mode",
        ),
        pytest.param(
            a_pod(annotations={"nvidia.com/numa-bind": "yes"}),
            'metadata.annotations[nvidia.com/numa-bind]: \'yes\': write "true" or "false"',
            id="a word that is neither true nor false",
        ),
        pytest.param(
            a_pod(annotations={"kerf.dev/gang-size": "few"}, labels={"kerf.dev/gang": "g"}),
            "metadata.annotations[kerf.dev/gang-size]: 'few': write the number of pods in the gang",
            id="a gang of unknown size",
        ),
    ],
)
def test_an_impossible_pod_is_refused_with_field_value_and_fix(pod: dict[str, Any], message: str) -> None:
    assert create(pod) == Answer(allowed=False, message=message)


def test_words_that_are_bent_are_shown_to_the_user() -> None:
    limits = {
        "nvidia.com/gpu": "1",
        "nvidia.com/gpumem": "8000",
        "nvidia.com/gpumem-percentage": "50",
        "nvidia.com/gpucores": "150",
    }
    answer = create(a_pod(containers=[{"name": "main", "resources": {"limits": limits}}]))

    assert answer.warnings == (
        f"{LIMITS}: nvidia.com/gpumem wins over nvidia.com/gpumem-percentage, which was dropped",
        f"{LIMITS}[nvidia.com/gpucores]: a card has 100, so 100 was written for 150",
    )


def test_a_bad_annotation_of_a_pod_without_cards_does_not_matter() -> None:
    assert create(a_cpu_pod(annotations={"hami.io/gpu-scheduler-policy": "best"}, node="n")) == Answer(allowed=True)


@pytest.mark.parametrize("key", sorted({GRANT, *HAMI_STATE, *written_keys(VENDORS), "kerf.dev/plan"}))
def test_a_forged_annotation_is_stripped_from_a_new_pod(key: str) -> None:
    for pod in (a_complete_pod(annotations={key: "x", "mine": "y"}), a_cpu_pod(annotations={key: "x", "mine": "y"})):
        answer = create(pod)

        assert apply(pod, answer.patch)["metadata"]["annotations"] == {"mine": "y"}
        assert answer.warnings == (f"metadata.annotations[{key!r}] is written by the scheduler alone; it was removed",)


def test_a_forged_label_is_stripped_from_a_new_pod() -> None:
    pod = a_cpu_pod(labels={"hami.io/vgpu-node": "n", "app": "web"})

    assert apply(pod, create(pod).patch)["metadata"]["labels"] == {"app": "web"}


STRIPPED = Answer(
    allowed=True,
    patch=(PatchOp("remove", "/metadata/annotations/kerf.dev~1grant"),),
    warnings=("metadata.annotations['kerf.dev/grant'] is written by the scheduler alone; it was removed",),
)


@pytest.mark.parametrize("label", ["kerf.dev/webhook", "hami.io/webhook"])
@pytest.mark.parametrize(
    ("pod", "settings"),
    [
        (a_cpu_pod(node="node-1", spec={"schedulerName": "volcano"}), PLAIN),
        (a_pod(mem="3Gi", spec={"schedulerName": "kerf-scheduler"}), PLAIN),
        (a_pod(mem="3Gi", node="node-1"), Settings(VENDORS, opted_out_cards=True)),
    ],
    ids=["no cards", "Kerf's own scheduler", "where others offer cards too"],
)
def test_a_pod_that_opted_out_keeps_its_words_but_no_forgery(
    label: str, pod: dict[str, Any], settings: Settings
) -> None:
    meta = {**pod["metadata"], "labels": {label: "ignore"}, "annotations": {GRANT: MINE}}

    assert create({**pod, "metadata": meta}, settings) == STRIPPED


@pytest.mark.parametrize("scheduler", ["", "default-scheduler", "volcano"])
def test_a_pod_that_opted_out_takes_no_slots_past_the_scheduler(scheduler: str) -> None:
    pod = a_pod(labels={"hami.io/webhook": "ignore"}, spec={"schedulerName": scheduler})

    assert create(pod) == Answer(
        allowed=False,
        message="metadata.labels[kerf.dev/webhook or hami.io/webhook]: 'ignore': drop the label, or nvidia.com/gpu, "
        "or write spec.schedulerName: kerf-scheduler; no other gives a card",
    )


def test_a_pod_that_opted_out_may_not_preset_its_node_under_kerfs_scheduler() -> None:
    pod = a_pod(labels={"kerf.dev/webhook": "ignore"}, node="node-1", gpu=80, spec={"schedulerName": "kerf-scheduler"})

    assert create(pod).message.startswith("spec.nodeName: 'node-1': drop it")


def test_another_value_of_the_label_is_no_opting_out() -> None:
    assert create(a_pod(mem="3Gi", labels={"kerf.dev/webhook": "please"})).allowed is False


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({GRANT: MINE}, {GRANT: THEIRS}, id="changed"),
        pytest.param({GRANT: MINE}, {}, id="removed"),
        pytest.param({}, {GRANT: THEIRS}, id="added"),
        pytest.param({GRANT: MINE, "a": "1"}, {GRANT: THEIRS, "a": "2"}, id="changed beside the user's own"),
        pytest.param({"hami.io/vgpu-node": "n1"}, {"hami.io/vgpu-node": "n2"}, id="HAMi's record"),
    ],
)
def test_a_user_cannot_change_a_live_pods_grant(before: dict[str, str], after: dict[str, str]) -> None:
    old, new = a_pod(annotations=before), a_pod(annotations=after)

    stored = apply(new, update(new, old).patch)["metadata"]["annotations"]

    assert stored == {**{k: v for k, v in after.items() if k == "a"}, **{k: v for k, v in before.items() if k != "a"}}


def test_dropping_all_annotations_brings_the_grant_back() -> None:
    old, new = a_pod(annotations={GRANT: MINE}), a_pod()
    del new["metadata"]["annotations"]

    assert update(new, old) == Answer(
        allowed=True,
        patch=(PatchOp("add", "/metadata/annotations", {GRANT: MINE}),),
        warnings=("metadata.annotations['kerf.dev/grant'] is written by the scheduler alone; your change was undone",),
    )


def test_a_trusted_user_may_change_them() -> None:
    assert update(a_pod(annotations={GRANT: THEIRS}), a_pod(annotations={GRANT: MINE}), SCHEDULER) == Answer(
        allowed=True
    )


def test_trust_does_not_extend_to_new_pods() -> None:
    answer = mutate(
        Review("u", "CREATE", "Pod", "default", SCHEDULER, a_cpu_pod(annotations={GRANT: MINE}), {}),
        Settings(VENDORS, trusted=frozenset({SCHEDULER})),
    )

    assert answer.patch == (PatchOp("remove", "/metadata/annotations/kerf.dev~1grant"),)


def test_an_update_is_never_refused_and_fills_nothing() -> None:
    pod = a_pod(mem="3Gi", annotations={"hami.io/gpu-scheduler-policy": "best"})

    assert update(pod, pod) == Answer(allowed=True)


@pytest.mark.parametrize(
    "review",
    [
        Review("u", "CREATE", "Deployment", "default", "joe", a_pod(annotations={GRANT: MINE}), {}),
        Review("u", "CREATE", "Pod", "default", "joe", a_pod(annotations={GRANT: MINE}), {}, "binding"),
        Review("u", "UPDATE", "Pod", "default", "kubelet", a_pod(annotations={GRANT: MINE}), a_pod(), "status"),
        Review("u", "DELETE", "Pod", "default", "joe", {}, a_pod(annotations={GRANT: MINE})),
    ],
    ids=["another kind", "a binding", "a status", "a deletion"],
)
def test_what_is_not_a_pod_itself_passes(review: Review) -> None:
    assert mutate(review, Settings(VENDORS)) == Answer(allowed=True)


def test_unknown_fields_of_newer_pods_are_not_mentioned_by_the_patch() -> None:
    pod = a_pod(spec={"warpDrive": {"speed": 9}}, containers=[a_container(holodeck=[1, 2])])

    assert all("warpDrive" not in op.path and "holodeck" not in op.path for op in create(pod).patch)


@pytest.mark.parametrize("key", sorted(fixed_keys(VENDORS)))
@pytest.mark.parametrize(("before", "after"), [(None, "new"), ("old", "new"), ("old", None)])
def test_what_says_how_cards_are_served_stays_on_a_pod_that_has_a_node(
    key: str, before: str | None, after: str | None
) -> None:
    def a_pod_with(value: str | None, node: str | None) -> dict[str, Any]:
        pod = a_cpu_pod(annotations={"mine": "y"} | ({key: value} if value else {}))
        return {**pod, "spec": {**pod["spec"], **({"nodeName": node} if node else {})}}

    old, new = (a_pod_with(value, "node-1") for value in (before, after))
    bound, waiting = update(new, old), update(a_pod_with(after, None), a_pod_with(before, None))

    assert apply(new, bound.patch)["metadata"]["annotations"] == old["metadata"]["annotations"]
    said = "says how its cards are served, and it has them; your change was undone"
    assert bound.warnings == (f"metadata.annotations[{key!r}] {said}",)
    assert waiting == Answer(allowed=True)
