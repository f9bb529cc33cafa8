"""Weights by our formulas beside the sizes of the published files: within 1 %, where the files' size is known.

`index`: metadata.total_size of the repository's model.safetensors.index.json, as public sources quote it; equal to the
byte. `files`: the sum of the repository's safetensors files at a revision, headers included.
"""

import pytest

from kerf.sizing.estimate import read_model
from kerf.sizing.weights import Ranks, stages
from tests.kerf.sizing.models import minimax_m3, row

INDEXES = {
    "gemma-2-2b": ("google/gemma-2-2b-it", 5_228_683_776),
    "gpt-oss-20b": ("openai/gpt-oss-20b", 13_761_264_768),
    "gpt-oss-120b": ("openai/gpt-oss-120b", 65_248_815_744),
    "llama-3.1-8b": ("meta-llama/Llama-3.1-8B", 16_060_522_496),
    "llama-3.1-70b": ("meta-llama/Llama-3.1-70B", 141_107_412_992),
    "mixtral-8x7b": ("mistralai/Mixtral-8x7B-v0.1", 93_405_585_408),
    "phi-4": ("microsoft/phi-4@2db69c1c3e91", 29_319_014_400),
    "qwen2.5-7b": ("Qwen/Qwen2.5-7B-Instruct", 15_231_233_024),
    "qwen2.5-14b": ("Qwen/Qwen2.5-14B-Instruct", 29_540_067_328),
    "qwen2.5-72b": ("Qwen/Qwen2.5-72B-Instruct", 145_412_407_296),
    "qwen2.5-coder-32b": ("Qwen/Qwen2.5-32B@5ede1c97bbab", 65_527_752_704),
    "qwq-32b": ("Qwen/Qwen2.5-32B@5ede1c97bbab, whose shape it has", 65_527_752_704),
    "qwen3-8b": ("Qwen/Qwen3-8B@b968826d9c46", 16_381_470_720),
    "qwen3-30b-a3b": ("Qwen/Qwen3-30B-A3B-Instruct-2507", 61_064_245_248),
    "qwen3-32b": ("Qwen/Qwen3-32B", 65_524_246_528),
    "qwen3-vl-8b": ("Qwen/Qwen3-VL-8B-Instruct", 17_534_247_392),
    "smollm3-3b": ("HuggingFaceTB/SmolLM3-3B", 6_150_197_248),
}
"""Of a row of the catalogue."""
LIKE = {
    "Qwen/Qwen3-4B": (
        "qwen3-8b",
        {"hidden_size": 2560, "intermediate_size": 9728, "tie_word_embeddings": True},
        8_044_936_192,
    ),
    "Qwen/Qwen3-14B": (
        "qwen3-8b",
        {"hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40, "num_attention_heads": 40},
        29_536_614_400,
    ),
}
"""Of shapes that differ from a row's in a few numbers."""
GRANITE = {
    "model_type": "granitemoe",
    "hidden_size": 1024,
    "intermediate_size": 512,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "tie_word_embeddings": True,
    "vocab_size": 49155,
}
"""Of ibm-granite/granite-3.1-1b-a400m-instruct, as jeremieconte/granite-3.1-1b-a400m-instruct@0a854d48947b has it."""
FILES = {
    "kimi-k2": ("moonshotai/Kimi-K2-Instruct@fd1984e2b7a3", 1_029_190_981_272, {}),
    "llama-4-scout": ("meta-llama/Llama-4-Scout-17B-16E@14d516bdff6a", 217_283_738_720, {}),
    "qwen2.5-72b": ("Qwen/Qwen2.5-72B@efba10c8e54e", 145_412_518_888, {}),
    "qwen3-30b-a3b": ("Qwen/Qwen3-30B-A3B@ad44e777bcd1", 61_066_575_648, {}),
    "qwen3-235b-a22b-fp8": (
        "Qwen/Qwen3-235B-A22B@8efa61729e24, 16-bit",
        470_191_875_096,
        {"quantization_config": None},
    ),
}


def size(config):
    """Bytes on one card that holds all."""
    found = read_model(config)
    return sum(stage.total for stage in stages(found.shape, found.laid, 2, Ranks()))


@pytest.mark.parametrize("name", INDEXES)
def test_a_rows_weights_are_its_indexs_to_the_byte(name):
    assert size(row(name)["config"]) == INDEXES[name][1]


@pytest.mark.parametrize("repository", LIKE)
def test_sister_models_are_their_indexs_to_the_byte(repository):
    name, changes, total = LIKE[repository]

    assert size({**row(name)["config"], **changes}) == total


def test_a_tower_beside_a_text_part_that_is_not_nested_counts():
    """Qwen/Qwen2.5-VL-7B-Instruct: its file has the text part's keys at the top, and total_size 16,584,333,312."""
    config = {
        "model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000,
        "tie_word_embeddings": False, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": {"hidden_size": 1280, "in_chans": 3, "spatial_patch_size": 14, "tokens_per_second": 2},
    }  # fmt: skip

    assert size(config) == 16_584_333_312


def test_a_checkpoint_of_32_bit_numbers_has_four_bytes_for_each_of_ours():
    """Its index, in the same repository, says 5,338,513,408."""
    assert 4 * read_model(GRANITE).shape.params == 5_338_513_408


@pytest.mark.parametrize("name", FILES)
def test_a_rows_weights_are_within_a_percent_of_its_files(name):
    _, total, changes = FILES[name]

    assert size({**row(name)["config"], **changes}) == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize(
    ("quantization", "total"),
    [
        ({}, 854e9),
        ({"quant_method": "mxfp8", "ignored_layers": ["lm_head", "vision_tower", "multi_modal_projector"]}, 444e9),
    ],
    ids=["MiniMaxAI/MiniMax-M3", "MiniMaxAI/MiniMax-M3-MXFP8"],
)
def test_minimax_m3_is_as_large_as_public_pages_say(quantization, total):
    """854 GB is what a mirror of the repository lists, 444 GB what those who quantised the second one further quote."""
    assert size(minimax_m3(**quantization)) == pytest.approx(total, rel=0.001)


def test_an_awq_checkpoint_is_its_index_to_the_byte():
    """Of DeepSeek-R1 in AWQ, groups of 64, as kvcache-ai/sglang_awq@1e697f11a5da has it.

    Beside the matrices it has a correction of 16 bits for each expert, which is no parameter of the class.
    """
    quantization = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}
    corrections = 2 * 58 * 256

    assert size({**row("deepseek-r1")["config"], "quantization_config": quantization}) + corrections == 364_589_799_936


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-r1"])
def test_deepseeks_files_are_the_model_and_the_layer_that_predicts_ahead(name):
    """Of deepseek-ai/DeepSeek-V3@afb92e1fa402 and R1@56d4cbbb4d29. Engines load that layer only to speculate."""
    config = row(name)["config"]
    more = size({**config, "num_hidden_layers": config["num_hidden_layers"] + 1}) - size(config)
    tables = 2 * 2 * config["vocab_size"] * config["hidden_size"]  # its own copies of embedding and head
    joint = 2 * 2 * config["hidden_size"] ** 2

    assert size(config) + more + tables + joint == pytest.approx(688_586_727_753, rel=0.0002)
