"""GGUF files: headers that gguf 0.19.0 wrote, read as it reads them; transformers 5.20.0 reads the same metadata."""

from dataclasses import replace

import pytest

from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.ggml import TYPES
from kerf.sizing.gguf import gguf_config, parse_gguf
from kerf.sizing.request import Ask
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import a_gguf, oracle

TRUTH = oracle("gguf")
NAMES = sorted(TRUTH["files"])
MIB = 2**20


def parsed(name):
    return parse_gguf(a_gguf(name), "model.gguf", TRUTH["files"][name]["size"])


def read(name, files=None):
    return read_model(gguf_config(files or [parsed(name)], "model.gguf"))


def test_every_type_has_the_packages_blocks():
    ours = {form.name: [number, form.values, form.size] for number, form in TYPES.items()}

    assert (TRUTH["package"], ours) == ("gguf 0.19.0", TRUTH["types"])


@pytest.mark.parametrize("name", NAMES)
def test_the_tensor_table_is_as_the_package_reads_it(name):
    ours = [[one.name, TYPES[one.kind].name, one.bytes] for one in parsed(name).tensors]

    assert ours == TRUTH["files"][name]["tensors"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_has_the_parameters_of_its_class(name):
    assert read(name).shape.params == TRUTH["files"][name]["params"]


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_say_what_transformers_reads_in_them(name):
    theirs = TRUTH["files"][name]["config"]
    ours = gguf_config([parsed(name)], "model.gguf")
    keys = {"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size", "head_dim"}

    assert {key: ours[key] for key in keys & set(theirs)} == {key: theirs[key] for key in keys & set(theirs)}


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_the_files_and_what_fused_matrices_are_padded_by(name):
    stored = sum(size for _, _, size in TRUTH["files"][name]["tensors"])
    found = estimate(read(name), Ask(max_len=1024)).weights_bytes

    # 32-bit norms become 16-bit ones; rows of query, key and value get the width of the widest
    assert 0.985 * stored <= found <= 1.06 * stored
    assert found % 2 == 0


def test_rows_of_query_and_key_are_as_wide_as_those_of_a_wider_value():
    model = read("llama")
    first, second = (dict(zip((part.name for part in layer.tensors), formats, strict=True))
                     for layer, formats in model.laid.layers[:2])  # fmt: skip

    assert (first["self_attn.q_proj"].name, second["self_attn.q_proj"].name) == ("Q6_K", "Q4_K")
    assert (first["self_attn.o_proj"].name, first["mlp.down_proj"].name) == ("Q4_K", "Q6_K")


def test_a_type_without_a_kernel_of_its_own_needs_room_for_one_unpacked_matrix():
    document = gguf_config([parsed("llama")], "model.gguf")
    types = document["quantization_config"]["types"]
    document["quantization_config"]["types"] = {"IQ4_XS": types["Q4_K"], "Q6_K": types["Q6_K"]}
    (term,) = (one for one in estimate(read_model(document), Ask()).terms if one.name == "unpacked matrix")

    assert (term.low, term.high) == (0, 2 * 1024 * 512)
    assert not any(one.name == "unpacked matrix" for one in estimate(read("llama"), Ask()).terms)


def test_a_row_is_cut_only_between_blocks():
    with pytest.raises(WireError, match=r"self_attn.o_proj \(512 x 512\) does not divide into blocks of 256"):
        estimate(read("llama"), Ask(tp=4))


def test_parts_of_a_model_count_together_and_sglang_reads_one_file_alone():
    whole = parsed("qwen3")
    parts = [
        replace(whole, values={**whole.values, "split.count": 2}, tensors=whole.tensors[:10]),
        replace(whole, values={"split.count": 2}, tensors=whole.tensors[10:]),
    ]
    model = read("qwen3", parts)

    assert estimate(model, Ask()).weights_bytes == estimate(read("qwen3"), Ask()).weights_bytes
    with pytest.raises(WireError, match="llama-gguf-split --merge"):
        estimate(model, Ask(runtime="sglang"))
    with pytest.raises(WireError, match="the model has 2 files and 1 are here"):
        read("qwen3", parts[:1])


def damaged(name, **values):
    file = parsed(name)
    return gguf_config([replace(file, values={**file.values, **values})], "model.gguf")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"general.architecture": "rwkv7"}, "general.architecture: 'rwkv7': this architecture is not known in GGUF"),
        ({"llama.attention.head_count_kv": [4, 4, 8, 8]}, "layers of different sizes are not known"),
        ({"llama.attention.value_length": 128}, "values must be as wide as keys"),
        ({"general.alignment": 32, "llama.block_count": "four"}, "write a whole number from 1 to 1024"),
    ],
)
def test_what_the_metadata_say_and_is_not_known_is_refused_by_name(change, sentence):
    with pytest.raises(WireError, match=sentence):
        read_model(damaged("llama", **change))


def test_a_file_with_weights_that_no_llama_has_is_refused():
    file = parsed("llama")
    more = replace(file, tensors=(*file.tensors, replace(file.tensors[-1], name="blk.0.extra.weight")))

    with pytest.raises(WireError, match="the files hold something that is not known"):
        read("llama", [more])


def test_a_type_that_engines_cannot_compute_with_is_refused():
    file = parsed("llama")
    tensors = tuple(replace(one, kind=34) if one.kind == 12 else one for one in file.tensors)

    with pytest.raises(WireError, match=r"TQ1_0.*do not compute with this type"):
        read("llama", [replace(file, tensors=tensors)])


def test_a_file_that_was_not_fetched_wholly_is_refused():
    body = a_gguf("llama")

    with pytest.raises(WireError, match="the file is not whole, fetch it again"):
        parse_gguf(body, "model.gguf")
    with pytest.raises(WireError, match="the file ends inside its header"):
        parse_gguf(body[:200], "model.gguf")
    with pytest.raises(WireError, match="starts with the letters GGUF"):
        parse_gguf(b"PK\x03\x04", "model.gguf")
