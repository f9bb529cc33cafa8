"""`kerf model …`: answers for people and machines; a refusal has a reason; nothing prints a stack trace."""

import json
import struct
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from kerf.sizing.catalogue import Row, parse_row
from kerf.testing.builders import a_card, a_node
from kerfctl.main import main
from tests.kerf.sizing.models import a_config, a_gguf, oracle, row
from tests.kerf.sizing.test_modelhub import CUT, an_entry

ROOT = Path(__file__).parents[2]
KEYS = ["params", "weights_mib_per_card", "kv_bytes_per_token", "slice_mib", "cards", "args", "refused"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(a_config()))
    return tmp_path


def answer(capsys, *words):
    """The exit status and what was printed as JSON."""
    status = main(["model", *map(str, words), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_the_machines_answer_has_its_keys_in_order(folder, capsys):
    status, found = answer(
        capsys, "estimate", folder, "--runtime", "vllm", "--max-len", 4096, "--concurrency", 2, "--card-mib", 40_000
    )

    assert (status, list(found), found["refused"], found["cards"]) == (0, KEYS, None, 1)
    assert found["params"] == 8 * (2 * 1024 * 1024 + 2 * 1024 * 256 + 3 * 1024 * 2816 + 2048) + 1024 + 2 * 32000 * 1024
    assert found["weights_mib_per_card"] == -(-2 * found["params"] // 2**20)
    assert found["kv_bytes_per_token"] == 8 * 2 * 4 * 64 * 2
    assert found["args"][:2] == ["--max-model-len", "4096"]


def test_a_folder_and_its_config_are_one_model(folder, capsys):
    assert answer(capsys, "estimate", folder) == answer(capsys, "estimate", folder / "config.json")


def test_a_refusal_says_what_can_be_said_and_exits_1(folder, capsys):
    status, found = answer(capsys, "estimate", folder, "--card-mib", 1000)

    assert status == 1
    assert found["params"] == 155_730_944
    assert found["refused"].startswith("slice: '")
    assert [found[key] for key in KEYS[1:-1]] == [None] * 5


def test_an_unknown_family_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(a_config(model_type="gpt5")))
    status, found = answer(capsys, "estimate", tmp_path)

    assert (status, found["params"]) == (1, None)
    assert found["refused"].startswith("model_type: 'gpt5': this family is not known")


def test_the_table_adds_up(capsys):
    assert main(["model", "estimate", "qwen3-8b", "--max-len", "32768", "--concurrency", "8", "--card", "H100"]) == 0

    out = capsys.readouterr().out
    assert "54,144" in out
    assert "--max-num-batched-tokens 2048" in out
    assert "every range counts with its largest value" in out


def test_the_bytes_of_the_files_are_taken_where_they_are_there(folder, capsys):
    """Headers are read, weights are not: a sparse file will do."""
    header = json.dumps({"a": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 300 * 2**20]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)

    assert answer(capsys, "estimate", folder)[1]["weights_mib_per_card"] == 300


def test_an_index_without_its_files_will_do(folder, capsys):
    index = {"metadata": {"total_size": 500 * 2**20}, "weight_map": {"a": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    assert answer(capsys, "estimate", folder)[1]["weights_mib_per_card"] == 500


def a_gguf_file(path):
    """A sparse file: the header and as many zeros as the tensors have bytes."""
    path.write_bytes(a_gguf("llama"))
    with path.open("r+b") as file:
        file.truncate(oracle("gguf")["files"]["llama"]["size"])
    return path


def test_a_gguf_file_is_read_from_its_header_alone_or_from_its_folder(tmp_path, capsys):
    path = a_gguf_file(tmp_path / "tiny-Q4_K_M.gguf")
    (tmp_path / "mmproj-tiny.gguf").write_bytes(b"a tower, which is another file")

    status, found = answer(capsys, "estimate", path)

    assert (status, found["weights_mib_per_card"]) == (0, 6)
    assert answer(capsys, "estimate", tmp_path) == (status, found)


def test_the_pod_of_a_gguf_file_names_the_file_and_a_published_one_is_sized_the_same(tmp_path, capsys):
    path = a_gguf_file(tmp_path / "tiny-Q4_K_M.gguf")
    expected = answer(capsys, "estimate", path)

    assert main(["model", "render", str(path), "--claim", "weights"]) == 0
    container = yaml.safe_load(capsys.readouterr().out)["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][:3] == ["/models/tiny-Q4_K_M.gguf", "--served-model-name", "tiny-q4-k-m"]
    assert main(["model", "publish", str(path), "--dry-run"]) == 0
    (published,) = yaml.safe_load(capsys.readouterr().out)["data"].values()
    (tmp_path / "row.json").write_text(published)
    assert answer(capsys, "estimate", tmp_path / "row.json") == expected


def test_a_folder_with_several_gguf_models_wants_the_name_of_one(tmp_path, capsys):
    for name in ("tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf"):
        a_gguf_file(tmp_path / name)

    assert main(["model", "estimate", str(tmp_path)]) == 1
    assert "holds several models; name one file: " in capsys.readouterr().err


def test_a_gguf_file_that_was_cut_off_is_one_line(tmp_path, capsys):
    (tmp_path / "cut.gguf").write_bytes(a_gguf("llama"))
    (tmp_path / "empty.gguf").write_bytes(b"")

    assert [main(["model", "estimate", str(tmp_path / name)]) for name in ("cut.gguf", "empty.gguf")] == [1, 1]
    err = capsys.readouterr().err
    assert "the file is not whole, fetch it again" in err
    assert "is empty; fetch it again" in err


@pytest.mark.parametrize("files", [None, [], {"a": {"b": "model-1.safetensors"}}])
def test_an_index_that_names_no_files_is_one_line(folder, capsys, files):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))

    assert main(["model", "estimate", str(folder)]) == 1
    assert "weight_map: write an object with the name of a file for each tensor" in capsys.readouterr().err


def test_a_catalogues_entry_is_the_model_that_it_names(tmp_path, capsys):
    path = tmp_path / "metadata.yaml"
    path.write_text(yaml.safe_dump(an_entry()))

    assert answer(capsys, "estimate", path, "--max-len", 4096) == answer(
        capsys, "estimate", "qwen3-8b", "--max-len", 4096
    )


def test_nvidias_quantisation_file_beside_the_config_counts(folder, capsys):
    quant = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    wide = answer(capsys, "estimate", folder)[1]
    (folder / "hf_quant_config.json").write_text(json.dumps(quant))
    narrow = answer(capsys, "estimate", folder)[1]

    assert narrow["kv_bytes_per_token"] * 2 == wide["kv_bytes_per_token"]
    assert narrow["weights_mib_per_card"] < wide["weights_mib_per_card"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["estimate", "no-such-model"], "no-such-model: no such folder, file or name"),
        (["estimate", "FOLDER/empty"], "has no config.json"),
        (["estimate", "FOLDER/none.yaml"], "No such file"),
        (["estimate", "FOLDER/two.yaml"], "holds 2 entries; give a file with one"),
        (["estimate", "FOLDER/other.yaml"], "the shape of o/other is not in the catalogue; give the model's folder"),
        (["estimate", "FOLDER/broken.json"], "not JSON"),
        (["estimate", "FOLDER/list.json"], "holds list where an object is expected"),
        (["estimate", "qwen3-8b", "--tp", "3"], "tp: '3': use a number that divides the 32 attention heads"),
        (["render", "qwen3-8b", "--name", "Qwen_8B"], "name: 'Qwen_8B': use at most 53 lower-case letters"),
        (["render", "qwen3-8b", "--replicas", "-1"], "replicas: '-1'"),
        (["validate", "FOLDER/none.yaml"], "No such file"),
        (["validate", "FOLDER/broken.json"], "not YAML"),
        (["validate", "FOLDER/empty"], "has no YAML file"),
        (["fit", "qwen3-8b", "--fleet", "FOLDER/none.yaml"], "No such file"),
        (["fit", "qwen3-8b", "--fleet", "FOLDER/list.json"], "fleet: "),
    ],
    ids=range(15),
)
def test_a_mistake_is_one_line(folder, capsys, words, message):
    (folder / "empty").mkdir()
    (folder / "broken.json").write_text('{"a": ')
    (folder / "list.json").write_text("[]")
    (folder / "two.yaml").write_text(yaml.safe_dump([an_entry(), an_entry()]))
    (folder / "other.yaml").write_text(yaml.safe_dump(an_entry("o/other")))

    assert main(["model", *(word.replace("FOLDER", str(folder)) for word in words)]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_render_prints_a_deployment(capsys):
    assert main(["model", "render", "qwen3-8b", "--max-len", "32768", "--concurrency", "8", "--card", "H100"]) == 0

    work = yaml.safe_load(capsys.readouterr().out)
    (container,) = work["spec"]["template"]["spec"]["containers"]
    assert (work["kind"], work["metadata"]["name"]) == ("Deployment", "qwen3-8b")
    assert container["args"][0] == "Qwen/Qwen3-8B"
    assert container["resources"]["limits"] == {
        "nvidia.com/gpu": 1,
        "nvidia.com/gpumem": 54144,
        "nvidia.com/gpucores": 70,
    }


def test_what_is_rendered_is_placed_by_the_scheduler(tmp_path, capsys):
    assert main(["model", "render", "qwen3-8b", "--max-len", "8192", "--card", "H100"]) == 0
    path = tmp_path / "pod.yaml"
    path.write_text(capsys.readouterr().out)

    assert main(["simulate", str(ROOT / "examples/nodes/one-node.yaml"), str(path), "--json"]) == 0
    assert [pod["name"] for pod in json.loads(capsys.readouterr().out)["pods"]] == ["qwen3-8b-0"]


def test_fit_lists_the_cards_of_a_fleet_the_cheapest_first(capsys):
    fleet = ROOT / "examples/fleets/mixed.yaml"
    status, found = answer(capsys, "fit", "qwen3-32b", "--max-len", 16_384, "--concurrency", 2, "--fleet", fleet)

    assert status == 0
    offers = [(one["card"], one["tp"]) for one in found["offers"]]
    assert {card for card, _ in offers} == {"NVIDIA H200", "NVIDIA L40S", "NVIDIA A100-SXM4-40GB"}
    prices = [Decimal(one["price"]) for one in found["offers"]]
    assert prices == sorted(prices)
    assert ("NVIDIA L40S", 1) not in offers
    assert ("NVIDIA A100-SXM4-40GB", 4) not in offers  # that node has two


def test_fit_says_why_nothing_fits(capsys):
    fleet = ROOT / "examples/fleets/mixed.yaml"
    status, found = answer(capsys, "fit", "deepseek-r1", "--max-len", 4096, "--fleet", fleet)

    assert status == 0
    assert [one["card"] for one in found["refused"]] == ["NVIDIA A100-SXM4-40GB", "NVIDIA L40S"]


def test_validate_answers_a_list_for_machines(tmp_path, capsys):
    folder = tmp_path / "models" / "qwen3-8b"
    folder.mkdir(parents=True)
    (folder / "metadata.yaml").write_text(yaml.safe_dump(an_entry(args=["--max-model-len=8192"])))
    index = tmp_path / "index.yaml"
    index.write_text(yaml.safe_dump([an_entry(*CUT, gpuCount=8), {"kind": "Other"}]))

    status, found = answer(capsys, "validate", folder.parent, index)
    assert status == 1
    assert [(one["name"], one["ok"]) for one in found] == [
        ("qwen3-8b", True),
        ("qwen3-235b-a22b-fp8", False),
        ("entry 2", False),
    ]
    assert list(found[0]) == ["name", "ok", "reason"]
    assert found[0]["reason"] is None
    assert "would run" in found[1]["reason"]


def test_validate_prints_a_line_an_entry(tmp_path, capsys):
    path = tmp_path / "metadata.yaml"
    path.write_text(yaml.safe_dump(an_entry(args=["--max-model-len=8192"])))

    assert main(["model", "validate", str(path), "--card", "H100"]) == 0
    assert capsys.readouterr().out == "✓ qwen3-8b\n"


def test_every_row_says_where_it_is_from():
    sources = {name: row(name)["source"] for name in _names()}

    assert len(sources) >= 25
    assert all("@" in source for source in sources.values())
    assert {row(name)["task"] for name in sources} == {"text", "vision", "embedding", "rerank", "speech"}


def _names():
    from tests.kerf.sizing.models import NAMES

    return NAMES


def test_publish_prints_the_row_that_the_webhook_reads(folder, capsys):
    assert main(["model", "publish", str(folder), "--name", "ours", "--repository", "o/ours", "--dry-run"]) == 0

    item = yaml.safe_load(capsys.readouterr().out)
    row = parse_row(json.loads(item["data"]["ours.json"]), "ours.json")
    assert (item["metadata"]["name"], item["metadata"]["labels"]["kerf.dev/catalogue"]) == ("kerf-model-ours", "true")
    assert row == Row("ours", "o/ours", a_config(), source=folder.name)


def test_publish_refuses_a_name_that_no_object_can_have_and_a_model_that_no_one_can_size(folder, capsys):
    assert main(["model", "publish", str(folder), "--name", "Our Model", "--dry-run"]) == 1
    assert "--name Our Model: use at most 53 lower-case letters" in capsys.readouterr().err

    (folder / "config.json").write_text(json.dumps(a_config(model_type="unheard-of")))
    assert main(["model", "publish", str(folder), "--name", "ours", "--dry-run"]) == 1
    assert "unheard-of" in capsys.readouterr().err


def test_simulate_sizes_a_pod_that_names_a_model_as_the_webhook_does(tmp_path, capsys):
    server = {"name": "server", "image": "vllm/vllm-openai:v0.33.0", "command": ["vllm", "serve"]}
    notes = {"kerf.dev/model": "qwen3-0.6b;max-len=8192;concurrency=4"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": notes}}
    state = [a_node("n", (a_card(memory_mib=8000),)), {**pod, "spec": {"containers": [server]}}]
    (tmp_path / "state.yaml").write_text(yaml.safe_dump_all(state))

    assert main(["simulate", str(tmp_path / "state.yaml"), "--json"]) == 0

    (placed,) = json.loads(capsys.readouterr().out)["pods"]
    assert placed["slices"] == [{"card": "GPU-0", "vendor": "nvidia", "memory_mib": 6208, "cores": 0}]


def test_a_fleet_of_several_vendors_offers_what_admission_would_let_in(capsys):
    status, found = answer(
        capsys, "fit", "qwen3-0.6b", "--max-len", 4096, "--fleet", ROOT / "examples/fleets/vendors.yaml"
    )

    assert status == 0
    assert [(one["card_mib"], one["size"], one["tp"]) for one in found["offers"]] == [
        (81_559, "", 1),
        (81_152, "1g.10gb", 1),
        (81_559, "", 2),
    ]
    assert [one["card"] for one in found["refused"]] == ["Ascend910B3", "MXC500"]
