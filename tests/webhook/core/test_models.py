"""A pod that names a model gets the slice, the cards and the arguments that the model needs."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.catalogue import shipped
from kerf.sizing.estimate import estimate
from kerf.sizing.request import Ask
from kerf.testing.builders import a_pod
from kerf.values.learned import Learned, LearningMode, Lesson, Setup
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Answer, Review
from tests.webhook.json_patch import apply
from webhook.core.models import SIZED
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

SETTINGS = Settings(VENDORS, catalogue=shipped())
GPU, MEM, PERCENT, CORES = "nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpumem-percentage", "nvidia.com/gpucores"
MODEL, TYPE = "kerf.dev/model", "nvidia.com/use-gputype"
VLLM = {"name": "server", "image": "vllm/vllm-openai:v0.33.0", "command": ["vllm", "serve"]}
SMALL = "qwen3-0.6b;max-len=8192;concurrency=4"


def a_server(model: str = SMALL, annotations: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    limits = changes.pop("limits", {})
    container = {**VLLM, **({"resources": {"limits": limits}} if limits else {}), **changes}
    return a_pod(annotations={MODEL: model, **(annotations or {})}, containers=[container])


def answered(pod: dict[str, Any], settings: Settings = SETTINGS) -> Answer:
    return mutate(Review("u", "CREATE", "Pod", "default", "joe", pod, {}), settings)


def stored(pod: dict[str, Any], settings: Settings = SETTINGS) -> dict[str, Any]:
    answer = answered(pod, settings)
    assert answer.allowed, answer.message
    return apply(pod, answer.patch)


def server(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["spec"]["containers"][0]


def found(name: str = "qwen3-0.6b", **ask: Any) -> Any:
    model = shipped().model(name)
    assert model is not None
    return estimate(model, Ask(**{"max_len": 8192, "concurrency": 4, **ask}))


def test_a_pod_that_names_a_model_asks_for_its_slice_and_starts_the_engine_with_the_estimates_arguments() -> None:
    pod = stored(a_server())

    assert server(pod)["resources"]["limits"] == {GPU: "1", MEM: str(found().slice_mib)}
    assert server(pod)["args"] == ["Qwen/Qwen3-0.6B", *found().args]
    assert pod["spec"]["schedulerName"] == "kerf-scheduler"


def test_cores_are_advised_where_the_pod_selects_a_card_of_a_known_size() -> None:
    pod = stored(a_server(annotations={TYPE: "H100"}))

    assert server(pod)["resources"]["limits"][CORES] == str(found(card="H100").cores)


def test_a_model_that_one_card_cannot_hold_gets_the_fewest_cards_that_can() -> None:
    pod = stored(a_server("llama-3.1-70b;max-len=8192", {TYPE: "NVIDIA H100"}))

    assert server(pod)["resources"]["limits"][GPU] == "2"
    assert "--tensor-parallel-size" in server(pod)["args"]


def test_the_pods_own_number_of_cards_is_its_tensor_parallelism() -> None:
    pod = stored(a_server("llama-3.1-70b;max-len=8192", limits={GPU: "4"}))

    assert server(pod)["resources"]["limits"][MEM] == str(found("llama-3.1-70b", concurrency=1, tp=4).slice_mib)
    assert server(pod)["args"][-3:] == ["--tensor-parallel-size", "4", "--disable-custom-all-reduce"]


def test_what_the_user_wrote_stays_and_counts() -> None:
    args = ["Qwen/Qwen3-0.6B", "--max-model-len=4k", "--max-num-seqs", "2", "--port", "9000"]
    pod = stored(a_server("qwen3-0.6b", args=args, limits={MEM: "60000", CORES: "20"}))

    wanted = found(max_len=4000, concurrency=2)
    assert server(pod)["args"][: len(args)] == args
    assert "--max-model-len" not in server(pod)["args"][len(args) :]
    assert ["--kv-cache-memory-bytes", str(wanted.kv_bytes)] == server(pod)["args"][-2:]
    assert server(pod)["resources"]["limits"] == {GPU: "1", MEM: "60000", CORES: "20"}


def test_sglang_gets_its_own_arguments() -> None:
    command = ["python3", "-m", "sglang.launch_server", "--host", "0.0.0.0"]
    pod = stored(a_server(command=command, image="lmsysorg/sglang:v0.5.23"))

    assert server(pod)["args"] == ["--model-path", "Qwen/Qwen3-0.6B", *found(runtime="sglang").args]


def test_a_container_that_starts_no_known_engine_gets_the_slice_alone_and_the_user_a_warning() -> None:
    pod = a_server(command=["sh", "-c", "vllm serve Qwen/Qwen3-0.6B"])

    answer = answered(pod)

    assert "args" not in server(apply(pod, answer.patch))
    (warning,) = answer.warnings
    assert warning.startswith("spec.containers[server].command: no engine that Kerf knows, so only the slice is set")


@pytest.mark.parametrize(
    "args",
    [
        ["--port", "8000", "Qwen/Qwen3-0.6B"],
        ["--trust_remote_code", "Qwen/Qwen3-0.6B"],
        ["-tp=1", "-O3", "Qwen/Qwen3-0.6B", "--served-model-name", "a", "b"],
        ["--served-model-name", "a", "b", "--model", "Qwen/Qwen3-0.6B"],
    ],
)
def test_a_model_that_is_named_anywhere_is_not_named_twice(args: list[str]) -> None:
    started = server(stored(a_server(args=args)))["args"]

    assert started[: len(args)] == args
    assert started.count("Qwen/Qwen3-0.6B") == 1


@pytest.mark.parametrize(
    "args", [["serve"], ["serve", "--served-model-name", "a", "b"], ["serve", "--tokenizer", "x/y"]]
)
def test_the_model_follows_serve_wherever_that_is_written(args: list[str]) -> None:
    pod = a_server(command=["vllm"], args=args)

    assert server(stored(pod))["args"] == ["serve", "Qwen/Qwen3-0.6B", *args[1:], *found().args]


def test_what_kerf_wrote_behind_serve_is_taken_back() -> None:
    before = deployed(a_server(command=["vllm"], args=["serve", "--port", "9000"]))

    template = updated(before, with_model(before, None))["spec"]["template"]

    assert template["spec"]["containers"][0]["args"] == ["serve", "--port", "9000"]


def test_a_command_without_a_place_for_the_model_gets_a_warning() -> None:
    answer = answered(a_server(command=["vllm", "serve", "--port", "8000"]))

    (warning,) = answer.warnings
    assert warning.startswith("spec.containers[server].command: names no model, so the engine serves its default;")
    assert warning.endswith("write Qwen/Qwen3-0.6B behind serve")


def test_one_copy_of_the_model_in_the_pod_is_sized() -> None:
    args = ["--data-parallel-size", "4", "--data-parallel-size-local", "1"]

    assert answered(a_server(args=args)).allowed


@pytest.mark.parametrize(
    ("command", "args"),
    [
        (["vllm", "serve"], ["--dtype", "float32"]),
        (["python3", "-m", "sglang.launch_server"], ["--enable-dp-attention", "--dp-size", "2", "--tp", "2"]),
    ],
)
def test_an_option_that_takes_more_than_the_sum_counts_is_refused(command: list[str], args: list[str]) -> None:
    answer = answered(a_server(command=command, args=args))

    assert answer.message.startswith(f"{args[0]}: '")
    assert answer.message.endswith("kerf.dev/model does not count what it takes: drop it, or drop the annotation and "
                                   "write the pod's memory")  # fmt: skip


def test_the_named_container_is_sized_and_its_neighbours_are_not() -> None:
    pod = a_server(f"{SMALL};container=server")
    pod["spec"]["containers"].append({"name": "proxy", "image": "envoy"})

    containers = stored(pod)["spec"]["containers"]

    assert [MEM in each.get("resources", {}).get("limits", {}) for each in containers] == [True, False]


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        pytest.param(
            a_server("qwen3-0.6c"),
            "metadata.annotations[kerf.dev/model]: 'qwen3-0.6c': did you mean qwen3-0.6b",
            id="a name that no row has",
        ),
        pytest.param(
            a_server("qwen3-8b;max-len=32k"),
            "metadata.annotations[kerf.dev/model].max-len: '32k': write a whole number without a unit: 32768, not 32k",
            id="a unit",
        ),
        pytest.param(
            a_server("qwen3-8b;len=5"),
            "metadata.annotations[kerf.dev/model]: 'len=5': write KEY=VALUE with one of runtime,",
            id="an unknown key",
        ),
        pytest.param(
            a_server(SMALL, limits={MEM: "2000"}),
            "spec.containers[server].resources.limits[nvidia.com/gpumem]: '2000': the model needs",
            id="less memory than the model needs",
        ),
        pytest.param(
            a_server(SMALL, limits={PERCENT: "20"}),
            "spec.containers[server].resources.limits[nvidia.com/gpumem-percentage]: '20': drop it",
            id="a percentage",
        ),
        pytest.param(
            a_server(f"{SMALL};tp=2", limits={GPU: "3"}),
            "spec.containers[server].resources.limits[nvidia.com/gpu]: '3': tp 2 x pp 1 takes 2 cards; make them equal",
            id="two numbers of cards",
        ),
        pytest.param(
            a_server(args=["--max-num-seqs", "64"]),
            "metadata.annotations[kerf.dev/model].concurrency: '4': the container says --max-num-seqs 64; write the",
            id="two numbers of requests",
        ),
        pytest.param(
            a_server(args=["--gpu-memory-utilization", "0.95"]),
            "--gpu-memory-utilization: '0.95': the slice holds at most",
            id="more memory than the slice has",
        ),
        pytest.param(
            a_server(args=["Qwen/Qwen3-8B"]),
            "metadata.annotations[kerf.dev/model]: 'qwen3-0.6b': the container serves Qwen/Qwen3-8B; write the same",
            id="two models",
        ),
        pytest.param(
            a_server(args=["--data_parallel_size=2"]),
            "--data-parallel-size: '2': kerf.dev/model sizes one copy of the model to a pod: drop it",
            id="two copies of the model",
        ),
        pytest.param(
            a_server("deepseek-r1"),
            "metadata.annotations[kerf.dev/model]: 'deepseek-r1': needs",
            id="a model that no single card holds",
        ),
    ],
)
def test_a_conflict_is_refused_with_both_values(pod: dict[str, Any], message: str) -> None:
    answer = answered(pod)

    assert not answer.allowed
    assert message in answer.message


def test_two_servers_in_one_pod_have_to_be_named() -> None:
    pod = a_server()
    pod["spec"]["containers"].append({**VLLM, "name": "other"})

    assert "add ;container=NAME with one of server, other" in answered(pod).message


def updated(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    answer = mutate(Review("u", "UPDATE", "Deployment", "default", "joe", new, old, group="apps"), SETTINGS)
    assert answer.allowed, answer.message
    return apply(new, answer.patch)


def a_deployment(pod: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"annotations": pod["metadata"]["annotations"]}, "spec": pod["spec"]}
    return {"metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": 1, "template": template}}


def deployed(pod: dict[str, Any]) -> dict[str, Any]:
    item = a_deployment(pod)
    answer = mutate(Review("u", "CREATE", "Deployment", "default", "joe", item, {}, group="apps"), SETTINGS)
    assert answer.allowed, answer.message
    return apply(item, answer.patch)


def with_model(item: dict[str, Any], text: str | None) -> dict[str, Any]:
    changed = json.loads(json.dumps(item))
    notes = changed["spec"]["template"]["metadata"]["annotations"]
    notes.pop(MODEL) if text is None else notes.update({MODEL: text})
    return changed


def test_a_pod_of_a_template_that_was_sized_is_stored_as_the_template_is() -> None:
    template = deployed(a_server())["spec"]["template"]
    pod = a_pod(annotations=template["metadata"]["annotations"], containers=template["spec"]["containers"])
    newer = replace(SETTINGS, catalogue=shipped().beside([replace(shipped().rows[0], name="qwen3-0.6b")]))

    assert stored(pod, newer)["spec"]["containers"] == template["spec"]["containers"]


def test_a_changed_annotation_sizes_the_template_again() -> None:
    before = deployed(a_server())

    after = updated(before, with_model(before, "qwen3-0.6b;max-len=8192;concurrency=16"))

    container = after["spec"]["template"]["spec"]["containers"][0]
    wanted = found(concurrency=16)
    assert container["resources"]["limits"][MEM] == str(wanted.slice_mib)
    assert container["args"] == ["Qwen/Qwen3-0.6B", *wanted.args]


def test_without_its_annotation_a_template_loses_what_kerf_wrote_and_nothing_else() -> None:
    before = deployed(a_server(args=["Qwen/Qwen3-0.6B", "--port", "9000"]))

    template = updated(before, with_model(before, None))["spec"]["template"]

    assert template["spec"]["containers"][0]["args"] == ["Qwen/Qwen3-0.6B", "--port", "9000"]
    assert MEM not in template["spec"]["containers"][0]["resources"]["limits"]
    assert SIZED not in template["metadata"]["annotations"]


def test_any_other_change_of_a_sized_template_changes_nothing_of_its_size() -> None:
    before = deployed(a_server())
    changed = json.loads(json.dumps(before))
    changed["spec"]["template"]["metadata"]["labels"] = {"new": "label"}

    assert updated(before, changed) == changed


@given(
    name=st.sampled_from(["qwen3-0.6b", "smollm3-3b", "gemma-2-2b", "bge-reranker-v2-m3"]),
    length=st.integers(128, 8192),
    concurrency=st.integers(1, 32),
    runtime=st.sampled_from(["vllm", "sglang"]),
)
def test_what_the_webhook_stored_it_admits_again_unchanged(
    name: str, length: int, concurrency: int, runtime: str
) -> None:
    command = ["vllm", "serve"] if runtime == "vllm" else ["python3", "-m", "sglang.launch_server"]
    pod = stored(a_server(f"{name};max-len={length};concurrency={concurrency}", {TYPE: "H100"}, command=command))
    naked = json.loads(json.dumps(pod))
    del naked["metadata"]["annotations"][SIZED]

    assert stored(pod) == pod
    assert server(stored(naked)) == server(pod)


def test_lessons_size_pods_only_where_the_policy_applies_them() -> None:
    plain = found(card="H100")
    exact = -(-sum(term.high for term in plain.terms[:3]) // 2**20)
    setup = Setup("qwen3-0.6b", "vllm", "0.33", "NVIDIA H100 80GB HBM3", concurrency=4, batched_tokens=2048)
    lesson = Lesson(setup, 8192, beside_mib=900, peak_mib=exact + 900, slice_mib=plain.slice_mib, pods=3, hours=90.0)
    learned = Learned((lesson,))
    pod = a_server(annotations={TYPE: "H100"})

    def memory(mode: LearningMode, pod: dict[str, Any] = pod) -> int:
        return int(server(stored(pod, replace(SETTINGS, learning=mode, learned=learned)))["resources"]["limits"][MEM])

    assert memory(LearningMode.OFF) == memory(LearningMode.OBSERVE) == plain.slice_mib
    assert exact + 900 < memory(LearningMode.APPLY) < plain.slice_mib
    with_lora = a_server(annotations={TYPE: "H100"}, args=["--enable-lora"])
    assert memory(LearningMode.APPLY, with_lora) == found(card="H100", loras=1).slice_mib
    assert memory(LearningMode.APPLY, a_server()) == found().slice_mib


def test_the_short_spellings_of_vllms_options_count() -> None:
    args = ["-tp", "2", "-ep", "--enable-custom-all-reduce"]
    pod = stored(a_server("qwen3-30b-a3b;max-len=8192;concurrency=4", {TYPE: "H100"}, args=args))

    written = server(pod)["args"]
    assert server(pod)["resources"]["limits"][GPU] == "2"
    assert not {"--tensor-parallel-size", "--enable-expert-parallel", "--disable-custom-all-reduce"} & set(written)


def test_sglang_serves_the_model_that_is_its_first_word() -> None:
    own = ["Qwen/Qwen3-0.6B", "--context-length", "8Ki"]

    args = server(stored(a_server("qwen3-0.6b;concurrency=4", command=["sglang", "serve"], args=own)))["args"]

    wanted = found(runtime="sglang").args
    assert args == [*own, *wanted[2:]]


def test_experts_are_spread_over_as_many_cards_as_the_container_has() -> None:
    ask = {"limits": {GPU: "8"}, "args": ["--enable-expert-parallel"]}

    pod = server(stored(a_server("qwen3-235b-a22b-fp8;max-len=8192;concurrency=4", **ask)))

    assert pod["resources"]["limits"][MEM] == str(found("qwen3-235b-a22b-fp8", tp=8, ep=8).slice_mib)


def test_a_step_takes_at_least_the_requests_at_once() -> None:
    args = server(stored(a_server("qwen3-0.6b;max-len=128;concurrency=3000")))["args"]

    assert args[args.index("--max-num-batched-tokens") + 1] == "3000"
    answer = answered(a_server("qwen3-0.6b;concurrency=3000", args=["--max-num-batched-tokens", "2048"]))
    assert "no fewer than the 3000 requests at once" in answer.message
