"""KV bytes per request, as vLLM 0.33.0's own planner counts them."""

import pytest

from kerf.sizing.cache import NOTHING, Plan, pool_of
from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.groups import Load
from kerf.sizing.pools import plan_pool
from kerf.sizing.read import read_shape
from kerf.sizing.request import Ask
from kerf.sizing.shape import Shape
from kerf.sizing.weights import Ranks, stage_layers
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import a_config, minimax_m3, model, oracle, row

TRUTH = oracle("planner")
GIB = 2**30


def plan_of(shape: Shape, ranks: Ranks, load: Load) -> Plan:
    return pool_of(shape, ranks, load.kv_dtype).plan(load) if shape.generates else NOTHING


def request_bytes(plan: Plan) -> int:
    """What one request at full length takes."""
    return plan.block_bytes * plan.request_blocks


def test_every_row_of_the_oracle_is_equal_to_the_byte():
    shapes = {name: read_shape(row(name)["config"]) for name in {found[0] for found in TRUTH["rows"]}}
    wrong = [
        (name, tp, length, in_flight, ours, theirs)
        for name, tp, length, in_flight, theirs in TRUTH["rows"]
        if (ours := request_bytes(plan_of(shapes[name], Ranks(tp), Load(length, 1, in_flight)))) != theirs
    ]

    assert wrong == []
    assert TRUTH["package"] == "vllm 0.33.0"


PUBLISHED = [
    # Measured by running transformers 5.20.0 and vLLM 0.33.0's planner at 32,768 tokens: in flight 2,048, and 16,384.
    ("qwen3-1.7b", {}, 114_688, 3.500, 3.500),
    ("smollm3-3b", {}, 73_728, 2.250, 2.250),
    ("gemma-2-2b", {}, 53_248, 1.930, 2.641),
    ("gemma-3-4b-text", {}, 20_480, 0.978, 2.619),
    ("gemma-3-27b-text", {}, 81_920, 3.914, 10.476),
    ("llama-4-scout", {}, 49_152, 2.906, 4.875),
    ("minimax-m2.5", {}, 253_952, 7.750, 7.750),
]


@pytest.mark.parametrize(("name", "changes", "growing", "small", "large"), PUBLISHED, ids=[one[0] for one in PUBLISHED])
def test_a_request_of_32768_tokens_takes_what_was_measured(name, changes, growing, small, large):
    shape = read_shape({**row(name)["config"], **changes})
    plans = [plan_of(shape, Ranks(), Load(32_768, 1, in_flight)) for in_flight in (2048, 16_384)]

    assert [round(request_bytes(plan) / GIB, 3) for plan in plans] == [small, large]
    assert {plan.token_bytes for plan in plans} == {growing}


def test_a_window_is_charged_with_the_tokens_in_flight_and_not_alone():
    """By vLLM 0.33.0, kv_cache_interface.py: pages = ceil(min(window - 1 + in flight, len) / block) + 1."""
    config = a_config(model_type="mistral", sliding_window=1024, head_dim=64)
    plan = plan_of(read_shape(config), Ranks(), Load(8192, 1, 4096))

    # ceil((1,023 + 4,096) / 16) + 1 = 321 blocks of 8 layers x 16 tokens x 4 heads x 2 x 64 x 2 B.
    assert (plan.request_blocks, plan.block_bytes) == (321, 8 * 16 * 4 * 2 * 64 * 2)


def test_the_hybrids_block_grows_until_a_state_fits_it():
    """By vLLM 0.33.0, platforms/interface.py. Qwen3-Next: a state of 2,146,304 B, 2,048 B per token: 1,056 tokens."""
    plan = plan_of(read_shape(QWEN3_NEXT), Ranks(), Load(10, 1, 2048))

    assert plan.block_tokens == 1056


QWEN3_NEXT = {
    "model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
    "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 151936, "intermediate_size": 5120, "num_experts": 512,
    "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "linear_num_key_heads": 16,
    "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    "mamba_ssm_dtype": "float32",
}  # fmt: skip


def test_latent_attention_is_the_same_on_every_rank():
    plans = [plan_of(read_shape(row("deepseek-r1")["config"]), Ranks(tp), Load(4096, 1, 2048)) for tp in (1, 8)]

    assert {plan.token_bytes for plan in plans} == {61 * 576 * 2}


def test_sparse_latent_attention_keeps_packed_latents_and_its_indexers_keys():
    """By vLLM 0.33.0: fp8_ds_mla has 656 B per token and layer, the indexer 128 8-bit keys and a 32-bit scale."""
    plan = plan_of(read_shape(row("deepseek-v3.2")["config"]), Ranks(), Load(4096, 1, 2048))

    assert plan.token_bytes == 61 * (656 + 132)


@pytest.mark.parametrize(("kind", "word"), [("auto", "fp8_ds_mla"), ("nvfp4_ds_mla", "nvfp4_ds_mla")])
def test_latents_of_another_width_are_never_sized_as_packed_ones(kind, word):
    narrow = read_shape({**row("deepseek-v3.2")["config"], "kv_lora_rank": 256})

    with pytest.raises(WireError, match=f"kv-dtype: '{word}': its packed latents have 512 \\+ 64 numbers, and .* 320"):
        plan_of(narrow, Ranks(), Load(4096, 1, 2048, kind))


def test_attention_that_chooses_blocks_keeps_keys_of_its_own_beside_keys_and_values():
    """By vLLM 0.33.0, models/minimax_m3: 128 tokens to a block, and 128 16-bit numbers to a token and sparse layer."""
    shape = read_shape(minimax_m3())
    plans = {
        (tp, kind): plan_of(shape, Ranks(tp), Load(1000, 1, 2048, kind)) for tp in (1, 8) for kind in ("auto", "fp8")
    }

    assert {key: plan.token_bytes for key, plan in plans.items()} == {
        (1, "auto"): 60 * 4 * 2 * 128 * 2 + 57 * 256,
        (8, "auto"): 60 * 1 * 2 * 128 * 2 + 57 * 256,
        (1, "fp8"): 60 * 4 * 2 * 128 + 57 * 256,
        (8, "fp8"): 60 * 1 * 2 * 128 + 57 * 256,
    }
    assert {(plan.block_tokens, plan.request_blocks) for plan in plans.values()} == {(128, 8)}
    assert request_bytes(plan_pool(shape, Ranks(8), Load(1000, 1, 2048))) == 1000 * (60 * 512 + 57 * 256)
    args = estimate(read_model(minimax_m3()), Ask(tp=8, max_len=1000)).args
    assert args[args.index("--block-size") + 1] == "128"


def test_kv_heads_are_copied_where_there_are_more_ranks():
    shape = read_shape(a_config(num_key_value_heads=2))
    sizes = [plan_of(shape, Ranks(tp), Load(4096, 1, 2048)).token_bytes for tp in (1, 2, 4, 8)]

    assert sizes == [8 * 2 * 2 * 64 * 2, *[8 * 1 * 2 * 64 * 2] * 3]


@pytest.mark.parametrize(("layers", "pp", "parts"), [(28, 3, [9, 10, 9]), (61, 4, [15, 15, 16, 15]), (8, 1, [8])])
def test_pipeline_stages_share_layers_as_vllm_does(layers, pp, parts):
    """By vLLM 0.33.0, distributed/utils.py get_pp_indices: the rest goes to stages before the last."""
    assert stage_layers(layers, pp) == parts


def test_sglangs_window_pool_has_eight_tenths_of_the_tokens():
    """SGLang 0.5.23: swa_full_tokens_ratio 0.8, pages of one token."""
    shape = model("gemma-2-2b").shape
    plan = plan_pool(shape, Ranks(), Load(8192, 1, 2048))

    each = 4 * 2 * 256 * 2
    assert request_bytes(plan) == 13 * 8192 * each + 13 * int(8192 * 0.8) * each


def test_a_cache_type_of_unknown_size_is_refused_by_name():
    with pytest.raises(WireError, match="kv-dtype: 'turboquant_4bit': the size of this cache is not known"):
        plan_of(read_model(a_config()).shape, Ranks(), Load(4096, 1, 2048, "turboquant_4bit"))


def test_half_the_bytes_make_half_the_cache():
    shape = read_shape(a_config())
    wide, narrow = (request_bytes(plan_of(shape, Ranks(), Load(4096, 1, 2048, kind))) for kind in ("auto", "fp8"))

    assert wide == 2 * narrow
