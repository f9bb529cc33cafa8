"""Odd configs: valid ones are read, wrong ones are refused with the field, the value and the fix."""

import json

import pytest

from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.headers import Stored, header_length, parse_header, parse_index
from kerf.sizing.request import Ask
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import a_config

PLAIN = read_model(a_config()).shape.params


@pytest.mark.parametrize(
    "changes",
    [
        {"head_dim": None},
        {"hidden_size": 1024.0},
        {"torch_dtype": "float16", "dtype": None},
        {"sliding_window": 512},  # llama has no such key
        {"quantization_config": None},
        {"rope_scaling": {"factor": 8.0, "rope_type": "llama3"}},
        {"unknown_key": {"deep": [1, 2, {"x": None}]}},
        {"layer_types": ["full_attention"] * 8},
    ],
    ids=str,
)
def test_odd_but_valid_configs_are_read(changes):
    assert read_model(a_config(**changes)).shape.params == PLAIN


def test_a_nested_text_config_is_the_model():
    text = a_config(model_type=..., tie_word_embeddings=...)
    nested = {"model_type": "mistral3", "text_config": {**text, "model_type": "mistral"}, "tie_word_embeddings": False}
    shape = read_model(nested).shape

    assert (shape.family, shape.task) == ("mistral", "vision")
    assert shape.params > PLAIN


@pytest.mark.parametrize("key", ["vision_config", "audio_config", "speech_config", "mm_vision_tower"])
def test_a_tower_that_is_not_read_is_never_left_out(key):
    with pytest.raises(WireError, match="model_type: 'llama': this multi-modal family is not known"):
        read_model(a_config(**{key: {"hidden_size": 64}}))


@pytest.mark.parametrize(
    ("family", "key"),
    [("qwen3_moe", "num_experts"), ("mixtral", "num_local_experts"), ("glm4_moe", "n_routed_experts")],
)
def test_a_family_of_experts_that_does_not_say_how_many_is_refused(family, key):
    with pytest.raises(WireError, match=f"{key}: 'None': write {key} or "):
        read_model(a_config(model_type=family))


def test_no_experts_at_all_are_a_dense_model():
    assert read_model(a_config(model_type="qwen3_moe", num_experts=0, moe_intermediate_size=64)).shape.experts == 0


def test_a_window_without_max_window_layers_begins_where_the_class_says():
    """By transformers 5.20.0: 28, so the first 28 layers keep every token."""
    shape = read_model(
        a_config(model_type="qwen2", use_sliding_window=True, sliding_window=512, num_hidden_layers=32)
    ).shape

    kinds = [layer.caches[0].kind.value for layer in shape.layers]
    assert kinds == ["full"] * 28 + ["sliding"] * 4


def test_missing_kv_heads_are_the_classs_own_and_null_ones_are_all_heads():
    """By transformers 5.20.0 a mistral has 8 and a qwen2 has 32 where the key is missing; null is all heads."""
    heads = {
        "missing": read_model(a_config(model_type="mistral", num_key_value_heads=...)).shape.kv_heads,
        "null": read_model(a_config(model_type="mistral", num_key_value_heads=None)).shape.kv_heads,
        "llama": read_model(a_config(num_key_value_heads=...)).shape.kv_heads,
        "qwen2": read_model(
            a_config(model_type="qwen2", num_attention_heads=64, num_key_value_heads=...)
        ).shape.kv_heads,
    }

    assert heads == {"missing": 8, "null": 16, "llama": 16, "qwen2": 32}


def test_tied_embeddings_are_the_classs_own_where_the_file_does_not_say():
    tied = {
        kind: read_model(a_config(model_type=kind, tie_word_embeddings=...)).shape.tied for kind in ("llama", "gemma")
    }

    assert tied == {"llama": False, "gemma": True}


def test_a_window_that_is_switched_off_is_none():
    """Qwen2's files have sliding_window with use_sliding_window false."""
    shape = read_model(a_config(model_type="qwen2", sliding_window=4096, use_sliding_window=False)).shape

    assert {cache.kind.value for layer in shape.layers for cache in layer.caches} == {"full"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt5"}, "model_type: 'gpt5': this family is not known, so its weights would be a guess"),
        ({"model_type": ...}, "model_type: 'None': write the model's family"),
        ({"peft_type": "LORA", "base_model_name_or_path": "a/b"}, "config.json: 'llama': this is an adapter: name its"),
        ({"architectures": ["LlamaForCausalLMEagle3"]}, "config.json: 'llama': this is a draft model"),
        ({"speculators_model_type": "eagle3"}, "config.json: 'llama': this is a draft model"),
        ({"_class_name": "FluxTransformer2DModel"}, "config.json: 'llama': this is a part of a pipeline"),
        (
            {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 9, "moe_intermediate_size": 64},
            "num_experts_per_tok: '9': use at most the 8 experts of a layer",
        ),
        ({"hidden_size": ...}, "hidden_size: 'None': write hidden_size"),
        ({"hidden_size": "1024"}, "hidden_size: '1024': write a whole number"),
        ({"hidden_size": float("nan")}, "hidden_size: 'nan': write a whole number"),
        ({"hidden_size": float("inf")}, "hidden_size: 'inf': write a whole number"),
        ({"hidden_size": 1e300}, "hidden_size: '1e+300': write a whole number"),
        ({"hidden_size": True}, "hidden_size: 'True': write a whole number"),
        ({"hidden_size": 0}, "hidden_size: '0': write a whole number from 1"),
        ({"hidden_size": -5}, "hidden_size: '-5': write a whole number from 1"),
        ({"num_hidden_layers": 10**30}, "num_hidden_layers: '1000000000000"),
        ({"num_attention_heads": [16]}, "num_attention_heads: '[16]': write a whole number"),
        ({"num_key_value_heads": 5}, "num_key_value_heads: '5': make it divide num_attention_heads (16)"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings: 'false': write true or false, without quotes"),
        ({"attention_bias": 1}, "attention_bias: '1': write true or false, without quotes"),
        ({"layer_types": ["full_attention"]}, "layer_types: '1 words': write one for each of the 8 layers"),
        ({"layer_types": ["magic"] * 8}, "layer_types: 'magic': this kind of layer is not known"),
        ({"layer_types": "full_attention"}, "layer_types: 'full_attention': write a list"),
        ({"layer_types": ["linear_attention"] * 8}, "layer_types: 'linear_attention': this family's linear layers"),
        ({"rope_scaling": {"type": "linear", "factor": "4"}}, "rope_scaling.factor: '4': write a finite number"),
        ({"quantization_config": "awq"}, "quantization_config: 'awq': write an object"),
        ({"quantization_config": {"quant_method": "awq", "bits": 7}}, "quantization_config.bits: '7': use 2, 3"),
        ({"model_type": "vision", "num_hidden_layers": ..., "text_config": a_config()}, "model_type: 'vision': this"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_wrong_configs_are_refused_by_field_value_and_fix(changes, words):
    with pytest.raises(WireError) as refused:
        read_model(a_config(**changes))

    assert str(refused.value).startswith(words)


@pytest.mark.parametrize("document", [None, [], "llama", 7])
def test_a_config_is_an_object(document):
    with pytest.raises(WireError, match=r"config\.json: "):
        read_model(document)


def test_the_largest_numbers_that_are_read_do_not_break_the_sum():
    found = read_model(
        a_config(hidden_size=2**31 - 1, vocab_size=2**31 - 1, num_hidden_layers=1024, head_dim=2**31 - 1)
    )

    assert estimate(found, Ask(max_len=8192)).slice_mib > 10**12


def test_a_header_counts_offsets_and_not_shapes():
    """In safetensors 0.8.0 a tensor of 4 x 16 F4 values has that shape in the header and 32 bytes in the file."""
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F4", "shape": [4, 16], "data_offsets": [0, 32]},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [32, 36]},
    }
    body = json.dumps(header).encode() + b"    "

    assert parse_header(body, "x.safetensors") == Stored(36, 2)
    assert header_length(len(body).to_bytes(8, "little"), "x.safetensors") == len(body)


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"a": 1}', b'{"a": {"data_offsets": [5, 1]}}', b'{"a": {"data_offsets": [0]}}']
)
def test_a_wrong_header_is_refused(body):
    with pytest.raises(WireError, match=r"x\.safetensors"):
        parse_header(body, "x.safetensors")


@pytest.mark.parametrize("start", [b"", b"\x00" * 8, b"\xff" * 8, b"GGUF\x03\x00\x00\x00"])
def test_what_is_no_safetensors_file_is_refused(start):
    with pytest.raises(WireError, match="safetensors"):
        header_length(start, "x.safetensors")


def test_an_index_says_how_many_bytes():
    assert parse_index({"metadata": {"total_size": 16_060_522_496.0}}, "index") == 16_060_522_496
    assert parse_index({"weight_map": {}}, "index") is None
    with pytest.raises(WireError, match="total_size"):
        parse_index({"metadata": {"total_size": "many"}}, "index")


@pytest.mark.parametrize(("family", "changes", "most"), [
    ("xlm-roberta", {}, 8192), ("roberta", {"pad_token_id": 1}, 8192), ("roberta", {"pad_token_id": 0}, 8193),
    ("bert", {}, 8194),
])  # fmt: skip
def test_the_first_positions_of_a_roberta_are_nobodys(family, changes, most):
    """By transformers 5.20.0 the first token has the position behind pad_token_id (its issue 14243)."""
    config = {"model_type": family, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
              "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 8194, **changes}  # fmt: skip

    assert read_model(config).context.most == most
    with pytest.raises(WireError, match=f"max-len: '{most + 1}': use at most {most}"):
        estimate(read_model(config), Ask(max_len=most + 1))
