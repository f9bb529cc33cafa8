"""A pod that accepts several kinds of cards is stored as one of them; its template is left alone."""

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.catalogue import shipped
from kerf.testing.builders import a_pod
from kerf.values.accepts import AcceptsMode, AcceptsSettings
from kerf.values.policy import QuotaEngine, QuotaSettings
from kerf.values.quota import Bound
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Answer, Review
from kerf.wire.choosing import KindAnswer
from tests.webhook.json_patch import apply
from tests.webhook.tenants import NAMESPACE, a_book, a_class_book
from webhook.core.kinds import NO_ADVICE, Advice
from webhook.core.mutate import decide, question
from webhook.core.recent import NOTHING_RECENT
from webhook.core.settings import Settings, by_namespace

SETTINGS = Settings(VENDORS, catalogue=shipped())
ACCEPTS, WITH, CHOSEN = "kerf.dev/accepts", "kerf.dev/accepts-with", "kerf.dev/chosen"
GPU, ASCEND, HYGON = "nvidia.com/gpu:A100|H100", "huawei.com/Ascend910B3", "hygon.com/dcunum"
BOTH = f"{GPU};memory=24000;cores=30, {ASCEND};memory=32768"
MAIN = {"name": "main", "image": "app"}


def a_choosing_pod(accepts: str = BOTH, *containers: dict[str, Any], namespace: str = "default", **notes: str) -> Any:
    named = {f"kerf.dev/{key.replace('_', '-')}": value for key, value in notes.items()}
    pod = a_pod(annotations={ACCEPTS: accepts, **named}, containers=list(containers or (MAIN,)), namespace=namespace)
    return copy.deepcopy(pod)


def a_review(item: dict[str, Any], kind: str = "Pod", group: str = "", **changes: Any) -> Review:
    namespace = item["metadata"].get("namespace", "default")
    return Review("u", "CREATE", kind, namespace, "joe", item, {}, group=group, **changes)


def answered(item: dict[str, Any], settings: Settings = SETTINGS, advised: str = "", **review: Any) -> Answer:
    advice = Advice(KindAnswer(advised, "because", promise="p-1")) if advised else NO_ADVICE
    return decide(a_review(item, **review), settings, NOTHING_RECENT, 0.0, advice).answer


def stored(item: dict[str, Any], settings: Settings = SETTINGS, advised: str = "", **review: Any) -> dict[str, Any]:
    answer = answered(item, settings, advised, **review)
    assert answer.allowed, answer.message
    return apply(item, answer.patch)


def limits(pod: dict[str, Any], number: int = 0) -> dict[str, str]:
    return pod["spec"]["containers"][number].get("resources", {}).get("limits", {})


def note(pod: dict[str, Any]) -> dict[str, Any]:
    return json.loads(pod["metadata"]["annotations"][CHOSEN])


@pytest.mark.parametrize(
    ("advised", "asked", "types"),
    [
        (GPU, {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "24000", "nvidia.com/gpucores": "30"}, "A100,H100"),
        (ASCEND, {ASCEND: "1", f"{ASCEND}-memory": "32768"}, None),
    ],
)
def test_a_pod_is_stored_as_the_kind_that_the_scheduler_chose(advised: str, asked: dict, types: str | None) -> None:
    pod = stored(a_choosing_pod(), advised=advised)

    assert limits(pod) == asked
    assert pod["metadata"]["annotations"].get("nvidia.com/use-gputype") == types
    assert pod["spec"]["schedulerName"] == "kerf-scheduler"
    assert {key: note(pod)[key] for key in ("kind", "why", "promise", "among")} == {
        "kind": advised,
        "why": "because",
        "promise": "p-1",
        "among": [GPU, ASCEND],
    }


def test_without_an_answer_the_first_kind_is_taken_and_the_note_says_so() -> None:
    pod = a_choosing_pod()
    advice = Advice(problem="the scheduler gave no answer (none within 0.5 s)")

    decision = decide(a_review(pod), SETTINGS, NOTHING_RECENT, 0.0, advice)

    found = note(apply(pod, decision.answer.patch))
    assert found["kind"] == GPU
    assert found["why"] == "the first kind that it may have: the scheduler gave no answer (none within 0.5 s)"


def test_an_answer_that_is_none_of_the_kinds_counts_as_none() -> None:
    assert note(stored(a_choosing_pod(), advised=HYGON))["kind"] == GPU


@given(st.permutations([f"{GPU};memory=9000", f"{ASCEND};memory=9000", f"{HYGON};memory=9000"]), st.text(max_size=30))
def test_whatever_is_answered_the_kind_is_one_that_the_pod_accepts_and_nothing_else_is_asked(
    kinds: list[str], advised: str
) -> None:
    pod = stored(a_choosing_pod(",".join(kinds)), advised=advised)

    names = [kind.partition(";")[0] for kind in kinds]
    assert note(pod)["kind"] in names
    assert {word.partition("/")[0] for word in limits(pod)} == {note(pod)["kind"].partition("/")[0]}


@pytest.mark.parametrize("advised", [GPU, ASCEND])
def test_a_second_review_changes_nothing_and_asks_nobody(advised: str) -> None:
    pod = stored(
        a_choosing_pod(accepts_with=f"{ASCEND}: {{image: ascend, args: [a], env: {{X: '1'}}}}"), advised=advised
    )

    other = GPU if advised is ASCEND else ASCEND
    assert answered(pod, advised=other).patch == ()
    assert question(a_review(pod), SETTINGS, NOTHING_RECENT, 0.0) is None


def test_image_command_arguments_and_environment_are_those_of_the_kind() -> None:
    changes = f"{ASCEND}: {{image: ascend, command: [run], args: [--npu], env: {{DEVICE: npu}}}}"
    container = {**MAIN, "args": ["--cuda"], "env": [{"name": "DEVICE", "value": "cuda"}, {"name": "A", "value": "1"}]}

    npu = stored(a_choosing_pod(BOTH, container, accepts_with=changes), advised=ASCEND)["spec"]["containers"][0]
    cuda = stored(a_choosing_pod(BOTH, container, accepts_with=changes), advised=GPU)["spec"]["containers"][0]

    assert {key: npu[key] for key in ("image", "command", "args", "env")} == {
        "image": "ascend",
        "command": ["run"],
        "args": ["--npu"],
        "env": [{"name": "DEVICE", "value": "npu"}, {"name": "A", "value": "1"}],
    }
    assert {key: cuda.get(key) for key in ("image", "command", "args", "env")} == {
        "image": "app",
        "command": None,
        "args": ["--cuda"],
        "env": container["env"],
    }


def test_what_the_limits_say_of_a_kind_is_its_size_and_goes_with_another_kind() -> None:
    container = {**MAIN, "resources": {"limits": {"nvidia.com/gpu": "2", "nvidia.com/gpumem": "9000", "cpu": "1"}}}
    accepts = f"nvidia.com/gpu, {ASCEND};memory=32768"

    assert limits(stored(a_choosing_pod(accepts, container), advised="nvidia.com/gpu")) == {
        "nvidia.com/gpu": "2",
        "nvidia.com/gpumem": "9000",
        "cpu": "1",
    }
    assert limits(stored(a_choosing_pod(accepts, container), advised=ASCEND)) == {
        ASCEND: "1",
        f"{ASCEND}-memory": "32768",
        "cpu": "1",
    }


def test_sizes_are_written_in_the_vendors_own_units() -> None:
    pod = stored(a_choosing_pod("cambricon.com/vmlu;memory=8192;cores=25, metax-tech.com/sgpu;memory=16Gi;cores=25"))
    other = stored(
        a_choosing_pod("cambricon.com/vmlu;memory=8192;cores=25, metax-tech.com/sgpu;memory=16Gi;cores=25"),
        advised="metax-tech.com/sgpu",
    )

    assert (limits(pod)["cambricon.com/mlu.smlu.vmemory"], limits(other)["metax-tech.com/vmemory"]) == ("32", "16")


VLLM = {"name": "server", "image": "vllm/vllm-openai:v0.33.0", "command": ["vllm", "serve"]}
MODELS = f"nvidia.com/gpu:H100, nvidia.com/gpu:L40S, {ASCEND};memory=32768"


def test_a_model_has_its_own_size_on_each_kind() -> None:
    pods = {
        kind: stored(a_choosing_pod(MODELS, VLLM, model="qwen3-8b;max-len=32768;concurrency=8"), advised=kind)
        for kind in ("nvidia.com/gpu:H100", "nvidia.com/gpu:L40S", ASCEND)
    }

    hopper, ada, npu = pods.values()
    assert limits(hopper)["nvidia.com/gpucores"] != limits(ada)["nvidia.com/gpucores"]
    assert hopper["spec"]["containers"][0]["args"][0] == "Qwen/Qwen3-8B"
    assert limits(npu) == {ASCEND: "1", f"{ASCEND}-memory": "32768"}
    assert "args" not in npu["spec"]["containers"][0]


def test_a_large_model_takes_as_many_cards_as_it_needs_on_each_kind() -> None:
    accepts = "nvidia.com/gpu:H100, nvidia.com/gpu:L40S"

    cards = [
        limits(stored(a_choosing_pod(accepts, VLLM, model="llama-3.1-70b;max-len=8192"), advised=kind))[
            "nvidia.com/gpu"
        ]
        for kind in accepts.split(", ")
    ]

    assert cards == ["2", "4"]


def test_a_kind_may_name_a_model_of_its_own() -> None:
    changes = "nvidia.com/gpu:L40S: {model: qwen3-0.6b;max-len=2048}"

    pod = stored(a_choosing_pod(MODELS, VLLM, model="qwen3-0.6b", accepts_with=changes), advised="nvidia.com/gpu:L40S")

    args = pod["spec"]["containers"][0]["args"]
    assert args[args.index("--max-model-len") + 1] == "2048"


@pytest.mark.parametrize(
    ("pod", "sentence"),
    [
        (
            a_choosing_pod(f"{GPU}, {ASCEND};memory=70000"),
            f"accepts].{ASCEND}: '70000': spec.containers[main].resources.limits[{ASCEND}-memory]: a card has",
        ),
        (a_choosing_pod(f"{GPU}, {ASCEND}", VLLM, model="qwen3-0.6b"), f"'{ASCEND}': add ;memory=MIB"),
        (
            a_choosing_pod(BOTH, MAIN, {**MAIN, "name": "side"}),
            "add ;container=NAME to each kind, with one of main, side",
        ),
        (a_choosing_pod(f"{GPU};container=x"), "accepts].container: 'x': use one of main"),
        (
            a_choosing_pod(ASCEND, {**MAIN, "resources": {"limits": {"nvidia.com/gpu": "1"}}}),
            "limits[nvidia.com/gpu]: '1': kerf.dev/accepts lists no kind of these cards: drop it",
        ),
        (
            a_choosing_pod(BOTH, {**MAIN, "resources": {"limits": {"nvidia.com/gpumem": "1"}}}),
            f"limits[nvidia.com/gpumem]: kerf.dev/accepts says another size for {GPU}: write it in one",
        ),
        (a_choosing_pod(chosen="x"), "annotations[kerf.dev/chosen]: 'x': it was written for another pod: drop it"),
        (
            a_choosing_pod(f"{GPU},{ASCEND}", accepts_with=f"{ASCEND}: {{model: qwen3-0.6b}}"),
            "what a model needs is known for nvidia's cards only",
        ),
    ],
    ids=["too large", "a model elsewhere", "two containers", "no container", "other cards", "twice", "a note", "model"],
)
def test_every_kind_is_checked_whichever_is_chosen(pod: dict[str, Any], sentence: str) -> None:
    answer = answered(pod)

    assert not answer.allowed
    assert sentence in answer.message


@pytest.mark.parametrize("nothing", ["", " ", ", ,"])
def test_an_empty_list_of_types_is_none(nothing: str) -> None:
    pod = a_choosing_pod()
    pod["metadata"]["annotations"]["nvidia.com/use-gputype"] = nothing

    assert stored(pod, advised=GPU)["metadata"]["annotations"]["nvidia.com/use-gputype"] == "A100,H100"


@pytest.mark.parametrize(
    ("advised", "written", "found"),
    [
        (ASCEND, None, "ascend"),
        (GPU, None, "nvidia"),
        (ASCEND, "nvidia", "ascend"),
        (GPU, "nvidia", "nvidia"),
        (ASCEND, "kata", "kata"),
    ],
)
def test_a_pod_has_the_runtime_class_of_the_kind_that_it_was_given(advised: str, written: Any, found: str) -> None:
    settings = Settings(VENDORS, runtime_classes={"nvidia": "nvidia", "ascend910b3": "ascend"})
    pod = a_choosing_pod()
    pod["spec"] |= {"runtimeClassName": written} if written else {}

    assert stored(pod, settings, advised=advised)["spec"]["runtimeClassName"] == found


def test_types_are_written_in_one_place() -> None:
    pod = a_choosing_pod()
    pod["metadata"]["annotations"]["nvidia.com/use-gputype"] = "H100"

    assert "names the models of" in answered(pod).message


def test_a_note_of_another_list_does_not_choose() -> None:
    pod = stored(a_choosing_pod(), advised=ASCEND)
    pod["metadata"]["annotations"][ACCEPTS] = f"{ASCEND}, {GPU}"

    assert "it was written for another pod: drop it" in answered(pod).message


def with_mode(mode: AcceptsMode) -> Settings:
    return replace(SETTINGS, accepts=AcceptsSettings(mode))


def test_the_policy_may_ask_nobody_or_refuse() -> None:
    first, off = with_mode(AcceptsMode.FIRST), with_mode(AcceptsMode.OFF)

    assert question(a_review(a_choosing_pod()), first, NOTHING_RECENT, 0.0) is None
    assert note(stored(a_choosing_pod(), first))["kind"] == GPU
    assert "this cluster's policy says spec.accepts.mode: off" in answered(a_choosing_pod(), off).message


def test_the_question_has_every_kind_as_the_pod_would_be_stored_and_nothing_for_a_dry_run() -> None:
    asked = question(a_review(a_choosing_pod()), SETTINGS, NOTHING_RECENT, 0.0)
    dry = question(a_review(a_choosing_pod(), dry_run=True), SETTINGS, NOTHING_RECENT, 0.0)

    assert asked is not None
    assert dry is not None
    assert [name for name, _ in asked.kinds] == [GPU, ASCEND]
    assert [limits(dict(pod)) for _, pod in asked.kinds] == [
        limits(stored(a_choosing_pod(), advised=k)) for k in (GPU, ASCEND)
    ]
    assert (asked.keep, dry.keep) == (True, False)


def test_one_kind_is_not_asked_about() -> None:
    assert question(a_review(a_choosing_pod(GPU)), SETTINGS, NOTHING_RECENT, 0.0) is None
    assert note(stored(a_choosing_pod(GPU)))["why"] == "the only kind that it may have"


# ---- templates
def a_template(pod: dict[str, Any]) -> dict[str, Any]:
    meta = {"annotations": pod["metadata"]["annotations"], "labels": {"app": "x"}}
    return {
        "metadata": {"name": "x", "namespace": "default"},
        "spec": {"template": {"metadata": meta, "spec": pod["spec"]}},
    }


@pytest.mark.parametrize(("kind", "group"), [("Deployment", "apps"), ("StatefulSet", "apps"), ("Job", "batch")])
def test_a_template_is_checked_and_left_alone(kind: str, group: str) -> None:
    fine, wrong = a_template(a_choosing_pod()), a_template(a_choosing_pod("nvidia.com/gpus"))

    assert answered(fine, kind=kind, group=group) == Answer(allowed=True)
    assert (
        "spec.template.metadata.annotations[kerf.dev/accepts]: 'nvidia.com/gpus'"
        in answered(wrong, kind=kind, group=group).message
    )


def test_an_update_of_a_template_is_left_alone_too() -> None:
    old, new = a_template(a_choosing_pod(GPU)), a_template(a_choosing_pod())
    review = Review("u", "UPDATE", "Deployment", "default", "joe", new, old, group="apps")

    assert decide(review, SETTINGS, NOTHING_RECENT, 0.0).answer == Answer(allowed=True)


def test_kueue_counts_templates_of_jobs_so_they_say_one_kind() -> None:
    settings = replace(SETTINGS, quota=QuotaSettings(QuotaEngine.KUEUE))

    refused = answered(a_template(a_choosing_pod()), settings, kind="Job", group="batch")

    assert "Kueue counts the template of a Job before there is a pod: ask for one kind in limits" in refused.message
    assert answered(a_template(a_choosing_pod()), settings, kind="Deployment", group="apps").allowed


# ---- tenants
def of_tenant(*books: Any) -> Settings:
    return replace(SETTINGS, tenants=by_namespace((a_book(*books, enforced=True),)))


def test_a_kind_that_the_tenant_may_not_have_is_not_asked_about_and_not_taken() -> None:
    settings = of_tenant(a_class_book("Ascend910B3", 65_536, "ascend910b3"))
    pod = a_choosing_pod(namespace=NAMESPACE)

    assert question(a_review(pod), settings, NOTHING_RECENT, 0.0) is None
    found = note(stored(pod, settings))
    assert found["kind"] == ASCEND
    assert found["why"].startswith(f"the only kind that it may have; {GPU}: ")
    assert "has no quota of nvidia cards" in found["why"]


def test_where_the_tenant_may_have_none_the_pod_is_refused_with_the_first_reason() -> None:
    settings = of_tenant(
        a_class_book(limit=Bound(1000)), a_class_book("Ascend910B3", 65_536, "ascend910b3", limit=Bound(1000))
    )

    answer = answered(
        a_choosing_pod(f"nvidia.com/gpu;memory=9000, {ASCEND};memory=32768", namespace=NAMESPACE), settings
    )

    assert not answer.allowed
    assert "H100" in answer.message
