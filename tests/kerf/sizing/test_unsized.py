"""Families that the engines serve and Kerf does not size are refused by name, with what is missing."""

import pytest

from kerf.sizing.encoders import ENCODERS
from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.families import ALIASES, FAMILIES
from kerf.sizing.request import Ask
from kerf.sizing.towers import TOWERS
from kerf.sizing.unsized import UNSIZED
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import a_config, oracle


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (a_config(model_type="deepseek_v41"), r"model_type: 'deepseek_v41': this family is not sized yet: its layers"),
        (
            {"model_type": "glm5_next_vl", "text_config": a_config(model_type="glm5_next_text")},
            r"text_config\.model_type: 'glm5_next_text': this family is not sized yet: its sparse attention",
        ),
        (
            {"model_type": "glm4v", "text_config": a_config(model_type="glm4")},
            r"model_type: 'glm4v': this family is not sized yet: its vision or audio tower",
        ),
        (a_config(model_type="gpt5"), r"model_type: 'gpt5': this family is not known, so its weights would be a guess"),
    ],
)
def test_the_refusal_says_what_is_missing(config, message):
    with pytest.raises(WireError, match=message):
        read_model(config)


@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
def test_a_family_that_no_engine_serves_any_more_is_refused(runtime):
    """The registry of vLLM 0.33.0 lists BambaForCausalLM among those that it served until 0.23.0."""
    bamba = read_model(oracle("parameters")["classes"]["bamba"]["config"])

    with pytest.raises(WireError, match=r"model_type: 'bamba': vLLM refuses it since 0\.23\.0, and SGLang"):
        estimate(bamba, Ask(runtime, max_len=1024))


def test_no_family_is_both_sized_and_refused():
    assert set(UNSIZED) & {*FAMILIES, *ALIASES, *TOWERS, *ENCODERS} == set()


@pytest.mark.parametrize(
    ("name", "like"),
    [("mimo", "qwen2"), ("solar", "llama"), ("exaone", "llama"), ("internlm2", "llama"), ("internlm3", "llama")],
)
def test_a_family_that_vllm_serves_by_anothers_class_has_its_shape(name, like):
    """By vLLM 0.33.0's registry, and mimo.py, solar.py, exaone.py and internlm2.py."""
    assert read_model(a_config(model_type=name)).shape == read_model(a_config(model_type=like)).shape
