"""`kerf model …` with input as people write it: numbers with suffixes, names of hubs, folders of every kind."""

import json
import struct

import pytest
import yaml

from kerfctl.main import main
from tests.kerf.sizing.models import a_config


def model(capsys, *words):
    """The exit status, what was printed, and the one line of an error."""
    status = main(["model", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err.strip()


def safetensors(path, mib, kind="BF16"):
    """A file of one tensor: its header, and no weights."""
    header = json.dumps({"a": {"dtype": kind, "shape": [5], "data_offsets": [0, mib * 2**20]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.mark.parametrize(
    ("runtime", "text", "args", "sentence"),
    [
        ("vllm", "32k", ["--max-model-len", "32000"], "--max-len 32k is 32,000, as vllm 0.33.0 reads it."),
        ("vllm", "32K", ["--max-model-len", "32768"], "--max-len 32K is 32,768, as vllm 0.33.0 reads it."),
        ("sglang", "32Ki", ["--context-length", "32768"], "--max-len 32Ki is 32,768, as sglang 0.5.23 reads it."),
    ],
)
def test_a_length_with_a_suffix_is_what_the_engine_reads_and_said(capsys, runtime, text, args, sentence):
    status, out, _ = model(capsys, "estimate", "qwen3-8b", "--max-len", text, "--runtime", runtime)

    assert (status, " ".join(args) in out, sentence in out.splitlines()) == (0, True, True)


@pytest.mark.parametrize("verb", ["estimate", "render", "fit"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-len", "32Ki"], "kerf: max-len: '32Ki': write a whole number: 32768, or 32k for 32,000 or 32K for"),
        (["--max-len", "many"], "kerf: max-len: 'many': write a whole number: 32768, or"),
        (["--concurrency", "0"], "kerf: concurrency: '0': write a whole number from 1 to 65536"),
        (["--concurrency", "2.5"], "kerf: concurrency: '2.5': write a whole number"),
        (["--concurrency", "1k"], "kerf: concurrency: '1k': write a whole number"),
        (["--tp", "two"], "kerf: tp: 'two': write a whole number"),
        (["--tp", "3"], "tp: '3': use a number that divides the 32 attention heads"),
        (["--runtime", "trt"], "kerf: runtime: 'trt': use one of vllm, sglang"),
        (["--runtime-version", "0.32"], "runtime-version: '0.32': the rules of vllm 0.33.0 are known"),
    ],
)
def test_a_number_that_cannot_be_is_one_line_with_field_value_and_fix(capsys, verb, words, message):
    fleet = ["--fleet", "examples/fleets/mixed.yaml"] if verb == "fit" else []
    status, out, err = model(capsys, verb, "qwen3-8b", *words, *fleet)

    assert status == 1
    assert message in err + out


@pytest.mark.parametrize("words", [["--max-len", "32Ki"], ["--tp", "x"], ["--card", "H900"]])
def test_every_refusal_is_an_object_for_machines(capsys, words):
    status, out, err = model(capsys, "estimate", "qwen3-8b", "--json", *words)

    assert (status, err) == (1, "")
    assert json.loads(out)["refused"].startswith(f"{words[0][2:]}: '{words[1]}': ")


@pytest.mark.parametrize(
    ("version", "image"),
    [
        ("v0.33.0", "vllm/vllm-openai:v0.33.0"),
        ("0.33", "vllm/vllm-openai:v0.33.0"),
        ("V0.33.1", "vllm/vllm-openai:v0.33.1"),
        ("0.33.0rc2", "vllm/vllm-openai:v0.33.0rc2"),
        ("v0.33.0-cu129", "vllm/vllm-openai:v0.33.0-cu129"),
    ],
)
def test_a_version_may_be_written_as_its_tag(capsys, version, image):
    status, out, _ = model(capsys, "render", "qwen3-8b", "--runtime-version", version)

    assert (status, yaml.safe_load(out)["spec"]["template"]["spec"]["containers"][0]["image"]) == (0, image)


def test_a_repository_that_is_not_in_the_catalogue_says_how_to_get_its_config(capsys):
    status, _, err = model(capsys, "estimate", "some-org/Gated-7B")

    assert (status, err.count("\n")) == (1, 0)
    assert "hf download some-org/Gated-7B config.json model.safetensors.index.json --local-dir m" in err
    assert "HF_TOKEN" in err


def test_a_further_repository_of_a_row_is_what_the_engine_loads(capsys):
    out = model(capsys, "render", "meta-llama/llama-3.3-70b-instruct", "--card", "H200", "--max-len", "8192")[1]
    container = yaml.safe_load(out)["spec"]["template"]["spec"]["containers"][0]

    assert container["args"][:3] == [
        "meta-llama/Llama-3.3-70B-Instruct",
        "--served-model-name",
        "llama-3-3-70b-instruct",
    ]


def test_an_address_of_a_hub_is_the_name_behind_it(capsys):
    by_address = model(capsys, "estimate", "https://huggingface.co/Qwen/Qwen3-8B/tree/main", "--json")

    assert by_address == model(capsys, "estimate", "Qwen/Qwen3-8B", "--json")


def test_a_folder_of_the_hubs_cache_is_its_snapshot_and_has_the_models_name(tmp_path, capsys):
    snapshot = tmp_path / "models--Org--Tiny.v2" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(a_config()))

    status, out, _ = model(capsys, "render", snapshot.parents[1])
    assert (status, yaml.safe_load(out)["metadata"]["name"]) == (0, "tiny-v2")
    assert out == model(capsys, "render", snapshot)[1]


def test_the_newest_snapshot_of_several_is_the_one_that_the_branch_names(tmp_path, capsys):
    for name, layers in (("old", 4), ("new", 8)):
        (tmp_path / "snapshots" / name).mkdir(parents=True)
        (tmp_path / "snapshots" / name / "config.json").write_text(json.dumps(a_config(num_hidden_layers=layers)))
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "main").write_text("new\n")

    assert model(capsys, "estimate", tmp_path, "--json") == model(
        capsys, "estimate", tmp_path / "snapshots/new", "--json"
    )


def test_headers_or_an_index_alone_are_refused_with_what_they_say(tmp_path, capsys):
    safetensors(tmp_path / "model.safetensors", 300)
    alone = model(capsys, "estimate", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 500 * 2**20}, "weight_map": {"a": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    indexed = model(capsys, "estimate", tmp_path / "model.safetensors.index.json")

    for (status, _, err), mib in ((alone, 300), (indexed, 500)):
        assert status == 1
        assert f"has no config.json: {mib} MiB of weights alone say neither heads nor layers" in err
        assert "hf download OWNER/NAME config.json" in err


def test_a_weights_file_is_read_with_the_config_beside_it(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(a_config()))
    safetensors(tmp_path / "model.safetensors", 300)

    assert model(capsys, "estimate", tmp_path / "model.safetensors", "--json") == model(
        capsys, "estimate", tmp_path, "--json"
    )


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_files_of_32_bit_numbers_are_loaded_with_16(tmp_path, capsys, key):
    (tmp_path / "config.json").write_text(json.dumps(a_config(**{key: "float32"})))
    safetensors(tmp_path / "model.safetensors", 600, "F32")

    assert json.loads(model(capsys, "estimate", tmp_path, "--json")[1])["weights_mib_per_card"] == 300


def test_files_of_16_bit_numbers_are_not_halved_whatever_their_config_says(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(a_config(torch_dtype="float32")))
    safetensors(tmp_path / "model.safetensors", 300)
    headers = json.loads(model(capsys, "estimate", tmp_path, "--json")[1])
    (tmp_path / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 300 * 2**20}, "weight_map": {"a": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    indexed = json.loads(model(capsys, "estimate", tmp_path, "--json")[1])

    assert headers["weights_mib_per_card"] == 300
    assert indexed["weights_mib_per_card"] == 298  # the config's, as an index says nothing of types


def test_files_that_hold_less_than_their_config_never_make_a_smaller_slice(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(a_config()))
    safetensors(tmp_path / "model.safetensors", 20)
    status, out, _ = model(capsys, "estimate", tmp_path)

    assert json.loads(model(capsys, "estimate", tmp_path, "--json")[1])["weights_mib_per_card"] == 298
    assert (status, "The files say 20 MiB of weights, and their config needs 297: the config counts" in out) == (
        0,
        True,
    )


def test_a_download_that_stopped_between_two_files_is_no_smaller_model(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(a_config()))
    for part in (1, 2, 3):
        safetensors(tmp_path / f"model-0000{part}-of-00004.safetensors", 80)
    less = json.loads(model(capsys, "estimate", tmp_path, "--json")[1])["weights_mib_per_card"]
    safetensors(tmp_path / "model-00004-of-00004.safetensors", 80)

    assert less == 298
    assert json.loads(model(capsys, "estimate", tmp_path, "--json")[1])["weights_mib_per_card"] == 320


def test_the_same_weights_in_mistrals_own_file_count_once(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(a_config()))
    for name in ("model.safetensors", "consolidated.safetensors"):
        safetensors(tmp_path / name, 300)

    assert json.loads(model(capsys, "estimate", tmp_path, "--json")[1])["weights_mib_per_card"] == 300


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("adapter_config.json", {"base_model_name_or_path": "Qwen/Qwen3-8B"}, "an adapter (LoRA) of Qwen/Qwen3-8B"),
        ("model_index.json", {}, "a pipeline of several models (diffusers)"),
    ],
)
def test_what_is_no_model_is_named(tmp_path, capsys, file, content, message):
    (tmp_path / file).write_text(json.dumps(content))

    status, _, err = model(capsys, "estimate", tmp_path)
    assert (status, message in err) == (1, True)
