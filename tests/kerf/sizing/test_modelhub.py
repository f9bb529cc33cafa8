"""ModelHub's entries: read as they are, judged with a reason and with what would run."""

import copy

import pytest

from kerf.sizing.modelhub import parse_spec, specs_of
from kerf.sizing.options import options
from kerf.sizing.semver import parse_version, satisfies
from kerf.sizing.verdicts import Verdict, judge, judge_all
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import model

KNOWN = {
    "Qwen/Qwen3-8B": "qwen3-8b",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b-fp8",
    "Qwen/QwQ-32B": "qwq-32b",
    "deepseek-ai/DeepSeek-R1": "deepseek-r1",
    "microsoft/phi-4": "phi-4",
}


SHORT = ("--max-model-len=8192",)
CUT = ("Qwen/Qwen3-235B-A22B-FP8", (), "", "sglang")
"""Experts whose blocks SGLang does not cut."""


def find(repository):
    return model(KNOWN[repository]) if repository in KNOWN else None


def an_entry(repository="Qwen/Qwen3-8B", args=(), version=">=0.8.5", runtime="vllm", **needs):
    """An entry of the catalogue, in its own shape."""
    needs = {"cpu": 8, "memory": 32, "gpuCount": 1, "gpuType": "vgpu", "perGPUMemoryGB": 80, **needs}
    return {
        "apiVersion": "model.hydra.io/v1alpha1",
        "kind": "ModelSpec",
        "metadata": {"name": repository.split("/")[1].lower(), "labels": {"team": "x"}},
        "spec": {
            "source": {"huggingface": {"name": repository}, "modelscope": {"name": repository}},
            "deployments": [
                {
                    "runtime": runtime,
                    "versionRequired": version,
                    "resourceRequirements": needs,
                    "customRuntimeArgs": list(args),
                    "env": [],
                    "note": "kept",
                }
            ],
            "descriptor": {"display": "x", "tags": ["TEXT_GENERATION"]},
            "config": {"maxTokens": 4096},
        },
    }


def verdict(*args, **needs):
    entry = an_entry(*args, **needs)
    return judge(entry, "entry", find)


def test_an_entry_that_runs_is_ok():
    assert verdict(args=["--max-model-len=32768"]) == Verdict("qwen3-8b", ok=True)


def test_unknown_keys_stay():
    entry = an_entry()
    entry["spec"]["future"] = {"a": [1]}

    assert parse_spec(copy.deepcopy(entry)).document == entry


def test_a_gigabyte_is_ten_to_the_ninth():
    """80 GB as GiB would be 81,920 MiB, more than an 80 GB H100 has (81,559)."""
    (deployment,) = parse_spec(an_entry()).deployments

    assert deployment.card_mib == 76_293
    assert judge(an_entry(args=["--max-model-len 8192"]), "x", find, card="H100").ok


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            an_entry(*CUT, gpuCount=8, gpuType="nvidia-vgpu"),
            "does not divide into blocks of 128; use a smaller one, or expert parallelism",
        ),
        (
            an_entry("deepseek-ai/DeepSeek-R1", gpuCount=12, gpuType="gpu"),
            "tp: '12': use a number that divides the 128",
        ),
        (an_entry("Qwen/QwQ-32B", ["--gpu-memory-utilization=1"]), "needs 95,"),
        (an_entry("Qwen/QwQ-32B", ["--gpu-memory-utilization=1"]), "; --max-model-len 49152 would run"),
        (an_entry("deepseek-ai/DeepSeek-R1", gpuCount=2), "16 cards (tp 8, pp 2) would run"),
        (an_entry(args=["--max-model-len=99999"]), "max-len: '99999': use at most 40960"),
        (an_entry(args=["--max-model-len=lots"]), "--max-model-len: 'lots': write a plain whole number"),
        (an_entry(args=["--tensor-parallel-size=4"], gpuCount=2), "gpuCount: '2': tp 4 x pp 1 takes 4 cards"),
        (an_entry(args=["--gpu-memory-utilization=2"]), "--gpu-memory-utilization: '2': write a number above 0"),
        (an_entry(version=">=0.40"), "versionRequired: '>=0.40': vllm is 0.33.0"),
        (an_entry("microsoft/phi-4", gpuCount=4), "tp: '4': use a number that divides the 10 KV heads"),
        (an_entry(args=[*SHORT, "--enable-lora", "--max-loras=64", "--max-lora-rank=256"]), "needs 107,075 MiB of"),
    ],
    ids=range(12),
)
def test_what_cannot_run_is_refused_with_the_reason(entry, words):
    found = judge(entry, "entry", find)

    assert not found.ok
    assert words in found.reason


@pytest.mark.parametrize("args", [["--quantization=fp8"], ["-q", "bitsandbytes"]], ids=str)
def test_what_an_engine_quantises_when_it_loads_takes_no_more_than_that(args):
    entries = [an_entry("Qwen/QwQ-32B", [*SHORT, *more], perGPUMemoryGB=45) for more in ([], args)]

    assert [judge(entry, "entry", find).ok for entry in entries] == [False, True]


@pytest.mark.parametrize("length", ["-1", "auto"])
def test_a_length_that_vllm_fits_to_the_memory_needs_room_for_the_weights_alone(length):
    """By vLLM 0.33.0's parser and planner. QwQ-32B at its own 131,072 tokens needs 95,520 MiB."""
    entries = [an_entry("Qwen/QwQ-32B", [f"--max-model-len={length}"], perGPUMemoryGB=gb) for gb in (60, 80)]

    assert [judge(entry, "entry", find).ok for entry in entries] == [False, True]


def test_windows_count_the_tokens_of_a_step_that_an_entry_asks_for():
    """By vLLM 0.33.0 a window's layer keeps the tokens of the steps in flight too."""
    few, many = (
        an_entry("google/gemma-3-27b", ["--max-model-len=32768", *more], perGPUMemoryGB=65)
        for more in ([], ["--max-num-batched-tokens=32768"])
    )

    assert judge(few, "x", lambda _: model("gemma-3-27b-text")).ok
    assert not judge(many, "x", lambda _: model("gemma-3-27b-text")).ok


@pytest.mark.parametrize(
    ("args", "runtime", "option"),
    [
        (['--speculative-config={"method":"eagle3","model":"x"}'], "vllm", "--speculative-config"),
        (["--speculative-algorithm=EAGLE3"], "sglang", "--speculative-algorithm"),
        (["--enable-lora"], "sglang", "--enable-lora"),
        (["--config=/etc/vllm.yaml"], "vllm", "--config"),
    ],
    ids=str,
)
def test_what_is_not_counted_is_said_beside_the_answer(args, runtime, option):
    found = verdict(args=args, runtime=runtime, version="")

    assert found.ok
    assert found.reason.startswith(option)
    assert found.reason.endswith("may take more than was counted")


def test_a_refusal_says_what_would_run():
    found = verdict(*CUT, gpuCount=8)

    assert found.reason.endswith("; 4 cards (tp 4, pp 1) would run")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (an_entry("unknown/model"), "the shape of unknown/model is not in the catalogue: only the form was checked"),
        (an_entry(gpuType="metax-gpu"), "metax-gpu is not sized: only the form was checked"),
        (an_entry(gpuType="cpu"), "cpu is not sized: only the form was checked"),
        (an_entry(runtime="image-gen"), "runtime image-gen is not sized: only the form was checked"),
        (an_entry(args=["--max-model-len", "4096", "--gpu-memory-utilization=0.98"], perGPUMemoryGB=18), "tight: "),
    ],
    ids=["unknown", "metax", "cpu", "image", "tight"],
)
def test_what_is_not_sized_says_so(entry, reason):
    found = judge(entry, "entry", find)

    assert found.ok
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("apiVersion",), "v1", "apiVersion: 'v1': write model.hydra.io/v1alpha1"),
        (("kind",), None, "kind: 'None': write ModelSpec"),
        (("metadata", "name"), "", "metadata.name: '': write a text"),
        (("spec", "source", "modelscope"), None, "spec.source.modelscope: 'None': write an object"),
        (("spec", "deployments"), [], "spec.deployments: '0 entries': list from 1"),
        (("spec", "deployments"), "vllm", "spec.deployments: 'vllm': write a list"),
        (("spec", "deployments", 0, "runtime"), 7, "spec.deployments[0].runtime: '7': write a text"),
        (
            ("spec", "deployments", 0, "versionRequired"),
            "new",
            "spec.deployments[0]: versionRequired: 'new': write a comp",
        ),
        (
            ("spec", "deployments", 0, "resourceRequirements", "perGPUMemoryGB"),
            "80Gi",
            "spec.deployments[0].resourceRequirements.perGPUMemoryGB: '80Gi': write a whole number",
        ),
        (
            ("spec", "deployments", 0, "resourceRequirements", "gpuCount"),
            True,
            "spec.deployments[0].resourceRequirements.gpuCount: 'True': write a whole number",
        ),
        (("spec", "deployments", 0, "customRuntimeArgs"), [{}], "spec.deployments[0].customRuntimeArgs"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_entry_is_refused_by_field_value_and_fix(path, value, words):
    entry = an_entry()
    at = entry
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value

    found = judge(entry, "entry", find)
    assert not found.ok
    assert found.reason.startswith(words)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: [one, one],
        lambda one: [[one, one]],
        lambda one: [{"items": [one, one]}],
        lambda one: [{"models": [one, one]}],
        lambda one: [{"a": one, "b": one}],
        lambda one: [None, one, one],
    ],
    ids=["documents", "list", "items", "models", "by-name", "empty-document"],
)
def test_a_merged_index_has_many_shapes(wrap):
    entry = an_entry()

    assert specs_of(wrap(entry)) == [entry, entry]


def test_arguments_are_read_as_people_write_them():
    text = ["--max-model-len=4096", "--tensor-parallel-size 2", "--gpu_memory_utilization", "0.9", "--enforce-eager"]

    assert options(text, "vllm") == {
        "max-model-len": "4096",
        "tensor-parallel-size": "2",
        "gpu-memory-utilization": "0.9",
        "enforce-eager": "true",
    }


def test_lower_case_counts_in_tens():
    """To vLLM 0.33.0 32k is 32,000 and 32K is 32,768."""
    found = [judge(an_entry(args=[f"--max-model-len={text}"]), "x", find) for text in ("40k", "41k", "40K", "41K")]

    assert [one.ok for one in found] == [True, False, True, False]


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        (">=v0.6.5", True),
        (">=0.8.5", True),
        (">=0.34", False),
        ("<0.33.0", False),
        ("<=0.33", True),
        (">0.33", False),
        ("0.33.x", True),
        ("=0.33.0", True),
        ("^0.33.0", True),
        ("^0.8", False),
        ("~0.33", True),
        ("~0.33.1", False),
        (">=0.8.5,<0.9 || >=0.30", True),
        (">=0.8.5 <0.9", False),
        ("!=0.33.0", False),
        ("", True),
        ("*", True),
    ],
)
def test_version_requirements(requirement, met):
    assert satisfies(parse_version("0.33.0", "v"), requirement, "versionRequired") is met


@pytest.mark.parametrize("requirement", ["new", ">=", "0..1", ">=0.8;", "=>0.8", "1" * 300])
def test_a_requirement_that_cannot_be_read_is_refused(requirement):
    with pytest.raises(WireError, match="versionRequired"):
        satisfies((0, 33, 0), requirement, "versionRequired")


def test_two_entries_of_one_name_are_both_judged_and_the_second_says_so():
    """The same entry twice, in its own file and in a merged index, is no contradiction."""
    first, other = an_entry(args=["--max-model-len=32768"]), an_entry(args=["--max-model-len=16384"])
    remark = "another entry is called qwen3-8b too and differs: readers keep one of them"

    assert judge_all([first, copy.deepcopy(first), other], find) == [
        Verdict("qwen3-8b", ok=True),
        Verdict("qwen3-8b", ok=True),
        Verdict("qwen3-8b", ok=True, reason=remark),
    ]


@pytest.mark.parametrize(
    ("runtime", "args", "cards"),
    [
        ("vllm", ["--tensor-parallel-size=2", "--data-parallel-size=2"], 4),
        ("vllm", ["-tp", "2", "-dp", "2"], 4),
        ("vllm", ["--data-parallel-size=4"], 4),
        ("sglang", ["--tp", "2", "--dp", "2"], 4),
        ("sglang", ["--tp-size=4", "--dp-size=4", "--enable-dp-attention"], 4),  # the copies share out the ranks
        ("sglang", ["--expert-parallel-size=1", "--tensor-parallel-size=4"], 4),
    ],
)
def test_copies_of_a_model_are_cards_too(runtime, args, cards):
    entry = an_entry(args=args, runtime=runtime, version="", gpuCount=cards)

    assert judge(entry, "x", find).ok


def test_cards_that_copies_do_not_take_are_refused_with_the_sum():
    entry = an_entry(args=["--tensor-parallel-size=2", "--data-parallel-size=2"], gpuCount=2)

    assert "gpuCount: '2': tp 2 x pp 1 x 2 copies takes 4 cards; make them equal" in judge(entry, "x", find).reason
