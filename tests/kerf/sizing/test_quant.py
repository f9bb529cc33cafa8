"""Bytes of stored weights. Bits per weight were counted on tensors of compressed-tensors 0.17.0 and gguf 0.19.0."""

import pytest

from kerf.sizing.config import parse_config
from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.formats import MXFP4, NVFP4, Format
from kerf.sizing.names import Names
from kerf.sizing.quant import parse_quant
from kerf.sizing.request import Ask
from kerf.sizing.weights import lay_out
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import a_config, row

MIB = 2**20


def compressed(**weights):
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "symmetric": True, **weights}}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"g": group},
        "ignore": [],
    }


def bits(quantization, rows=4096, cols=4096):
    """Bits per weight of one matrix."""
    quant = parse_quant(parse_config({"quantization_config": quantization}))
    tensor = read_model(a_config()).shape.layers[0].tensors[0]
    form = quant.format_of("layers.0.self_attn.q_proj", tensor)
    assert form is not None
    return form.stored(rows, cols) * 8 / (rows * cols)


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        (compressed(strategy="group", group_size=128), 4.125),
        (compressed(strategy="group", group_size=128, symmetric=False), 4.156),
        (compressed(strategy="group", group_size=32), 4.500),
        (compressed(strategy="group", group_size=32, symmetric=False), 4.625),
        (compressed(strategy="channel"), 4.004),
        (compressed(num_bits=8, strategy="channel"), 8.004),
        (compressed(num_bits=8, type="float", strategy="tensor"), 8.000),
        (compressed(num_bits=4, type="float", group_size=16), 4.500),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, 8.000),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8.002),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 4.156),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, 4.164),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8.014),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, 4.500),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.500),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8.008),
        ({"quant_method": "fbgemm_fp8"}, 8.008),
        ({"quant_method": "mxfp8"}, 8.250),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128}, 4.164),
        ({"quant_method": "inc", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_awq"}, 4.156),
    ],
    ids=lambda value: value["quant_method"] if isinstance(value, dict) else "",
)
def test_bits_per_weight_with_all_that_is_stored_beside(quantization, expected):
    assert bits(quantization) == pytest.approx(expected, abs=0.002)


def test_a_row_is_padded_to_whole_words():
    """compressed-tensors 0.17.0 packs 4,100 columns into 513 words."""
    assert Format(4, 0).stored(1, 4100) == 513 * 4 + 2


@pytest.mark.parametrize(("form", "expected"), [(MXFP4, 4.25), (NVFP4, 4.5)])
def test_four_bit_floats_have_a_scale_to_a_few_values(form, expected):
    assert form.stored(4096, 4096) * 8 / 4096**2 == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("method", ["hqq", "quark", "aqlm", ""])
def test_an_unknown_method_is_refused_by_name(method):
    with pytest.raises(WireError, match=r"quantization_config\.quant_method: .*known are fp8"):
        parse_quant(parse_config({"quantization_config": {"quant_method": method}}))


def widths(quantization, **changes):
    """Bits of each linear matrix of the first layer, by the last word of its name."""
    found = read_model(a_config(quantization_config=quantization, **changes))
    layer, formats = lay_out(found.shape, found.quant).layers[0]
    pairs = zip(layer.tensors, formats, strict=True)
    return {part.name.rpartition(".")[2]: form.bits if form else 16 for part, form in pairs if part.linear}


FOUR = {"targets": ["re:.*mlp.*"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}}
EIGHT = {"targets": ["re:.*qkv_proj$", "*.o_proj"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
MIXED = {"quant_method": "compressed-tensors", "config_groups": {"a": FOUR, "b": EIGHT}}
OF_A_LAYER = {"q_proj": 8, "k_proj": 8, "v_proj": 8, "o_proj": 8, "gate_proj": 4, "up_proj": 4, "down_proj": 4}


def test_groups_of_compressed_tensors_are_found_by_their_expressions():
    assert widths(MIXED) == OF_A_LAYER


def test_expressions_about_single_experts_are_about_all_of_them():
    targets = [r"re:.*mlp\.experts\.\d+\.(gate|up|down)_proj$"]
    experts = {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
    quantization = {"quant_method": "compressed-tensors", "config_groups": {"a": {**FOUR, "targets": targets}}}

    found = widths(quantization, **experts)

    assert found == {"q_proj": 16, "k_proj": 16, "v_proj": 16, "o_proj": 16, "up": 4, "down": 4}


def test_gptqs_dynamic_rules_widen_and_leave_out():
    rules = {r"-:.*self_attn\..*": {}, r"+:.*down_proj$": {"bits": 8, "group_size": 64}}

    found = widths({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": rules})

    assert found == {**dict.fromkeys(OF_A_LAYER, 16), "gate_proj": 4, "up_proj": 4, "down_proj": 8}


def test_auto_rounds_single_layers_have_widths_of_their_own():
    extra = {"model.layers.0.self_attn.q_proj": {"bits": 16}, "model.layers.0.mlp.down_proj": {"bits": 8}}

    found = widths({"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": extra})

    assert found == {**dict.fromkeys(OF_A_LAYER, 4), "q_proj": 16, "down_proj": 8}


WHOLE = {"quant_method": "awq", "bits": 4, "group_size": -1, "zero_point": True}


def test_awq_with_one_group_to_an_output_has_one_scale_and_zero_point_each():
    """A group_size of -1 is the input's size in vLLM 0.33.0's auto_awq.py."""
    assert bits(WHOLE) == pytest.approx(4.005, abs=0.002)


@pytest.mark.parametrize(
    ("changes", "tp", "message"),
    [
        ({}, 2, r"tp: '2': self_attn\.o_proj has one scale for all its inputs \(group_size -1\).*use 1"),
        (
            {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2},
            1,
            r"quantization_config\.group_size: '-1': neither engine loads experts with one group",
        ),
    ],
)
def test_awq_with_one_group_is_refused_where_no_engine_loads_it(changes, tp, message):
    with pytest.raises(WireError, match=message):
        estimate(read_model(a_config(quantization_config=WHOLE, **changes)), Ask(tp=tp, max_len=128))


def test_ignored_layers_stay_wide():
    config = a_config(quantization_config={"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0"]})
    found = read_model(config)
    laid = lay_out(found.shape, found.quant)

    assert all(form is None for form in laid.layers[0][1])
    assert any(form is not None for form in laid.layers[1][1])


@pytest.mark.parametrize(
    ("pattern", "hit"),
    [
        ("lm_head", False),
        ("model.layers.3.self_attn.q_proj", True),
        ("model.language_model.layers.3.self_attn", True),
        ("model.layers.*.self_attn", True),
        ("model.layers.3*", True),
        ("model.layers.30*", False),
        ("q_proj", True),
        ("re:.*self_attn.*", True),
        (r"re:model\.layers\.3\..*", True),
        ("re:.*mlp.*", False),
        ("*.self_attn.*", True),
    ],
)
def test_quantisers_name_matrices_in_many_ways(pattern, hit):
    assert (Names([pattern]).find("layers.3.self_attn.q_proj") is not None) is hit


def test_blocks_of_experts_are_cut_by_vllm_alone():
    """Qwen3-235B-A22B-FP8 on eight ranks: 1,536 / 8 = 192 is not a multiple of 128. SGLang 0.5.23 refuses it.

    vLLM 0.33.0 makes scales of 64 x 64 blocks of them (refine_fp8_moe_block_shape).
    """
    from kerf.sizing.estimate import estimate

    found = read_model(row("qwen3-235b-a22b-fp8")["config"])
    with pytest.raises(WireError, match=r"tp: '8': mlp\.experts\.down .* does not divide into blocks of 128"):
        estimate(found, Ask("sglang", tp=8, max_len=4096))
    assert estimate(found, Ask("sglang", tp=8, ep=8, max_len=4096)).ranks.ep == 8
    finer = {term.name: term.high for term in estimate(found, Ask(tp=8, max_len=4096)).terms}["padding of experts"]
    assert finer == 94 * 128 * (6 + 3) * 64 * 4  # 384 x 4,096 and 4,096 x 192 in blocks of 64, 32-bit scales
