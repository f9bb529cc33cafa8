"""Parameters of every known family, as transformers 5.20.0's own classes count them (`make oracle`)."""

import pytest

from kerf.sizing.config import parse_config
from kerf.sizing.context import Table, read_context
from kerf.sizing.families import FAMILIES
from kerf.sizing.read import read_shape
from tests.kerf.sizing.models import NAMES, minimax_m3, oracle, row

TRUTH = oracle("parameters")


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_the_catalogue_has_the_parameters_of_its_class(name):
    assert read_shape(row(name)["config"]).params == TRUTH["catalogue"][name]


@pytest.mark.parametrize("kind", sorted(TRUTH["classes"]))
def test_a_familys_class_with_its_defaults_has_as_many(kind):
    found = TRUTH["classes"][kind]

    assert read_shape(found["config"]).params == found["params"]


def test_every_family_was_compared():
    compared = {read_shape(row(name)["config"]).family for name in NAMES}
    compared |= {read_shape(found["config"]).family for found in TRUTH["classes"].values()}

    compared |= {read_shape(minimax_m3()).family}  # below
    assert set(FAMILIES) - compared == {"lfm2_moe", "ministral"}  # their classes have no defaults that can be built


NESTED = sorted(kind for kind, found in TRUTH["classes"].items() if "text_config" in found["config"])


@pytest.mark.parametrize("kind", NESTED)
def test_what_a_nested_text_part_leaves_out_is_what_its_class_says(kind):
    """A nested part is written without what its class says as well (transformers 5.20.0)."""
    whole = TRUTH["classes"][kind]["config"]
    text = whole["text_config"]
    for key in text:
        less = {**whole, "text_config": {other: value for other, value in text.items() if other != key}}

        assert read_shape(less) == read_shape(whole), key
        if key != "rope_parameters":  # without it the whole head turns: a larger table
            assert read_context(parse_config(less)) == read_context(parse_config(whole)), key


def test_gemma_3_4b_says_neither_heads_nor_vocabulary_and_is_read():
    """The file and the parameters that Hugging Face shows of google/gemma-3-4b-it, whose head is not stored."""
    vision = {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "num_attention_heads": 16,
              "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False}  # fmt: skip
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}  # fmt: skip
    config = {"model_type": "gemma3", "mm_tokens_per_image": 256, "text_config": text, "vision_config": vision}

    assert read_shape(config).params == 4_300_079_472
    assert read_context(parse_config(config)).table == Table(131_072, 2 * 256)  # of local and of full layers


def test_a_key_that_is_null_in_a_nested_text_part_is_not_its_classs():
    text = {"model_type": "qwen2_5_vl_text", "num_key_value_heads": None}

    assert read_shape({"model_type": "qwen2_5_vl", "text_config": text, "vision_config": {}}).kv_heads == 64


def test_minimax_m3_has_the_parameters_of_its_class():
    """By the constructors of transformers 5.20.0's minimax_m3_vl, run with layers that only count."""
    assert read_shape(minimax_m3()).params == 427_040_132_864


def test_the_table_names_its_package():
    assert TRUTH["package"] == "transformers 5.20.0"
