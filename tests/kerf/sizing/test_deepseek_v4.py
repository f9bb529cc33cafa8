"""DeepSeek V4: its pages, its groups, its widths, and what no engine would start."""

import pytest

from kerf.sizing.cache import pool_of
from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.fit import offers
from kerf.sizing.groups import Load
from kerf.sizing.pools import plan_pool
from kerf.sizing.read import read_shape
from kerf.sizing.request import Ask
from kerf.sizing.shape import Kind
from kerf.sizing.weights import Ranks, stages
from kerf.testing.builders import a_card
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import model, row

GIB = 2**30


def config(name="deepseek-v4-flash", **changes):
    found = {**row(name)["config"], **changes}
    return {key: value for key, value in found.items() if value is not ...}


def weights(found):
    return sum(stage.total for stage in stages(found.shape, found.laid, 2, Ranks()))


def pages(shape, layer):
    """Of one layer: what each cache is, tokens and bytes of its block, and its window."""
    return [(one.kind, one.block, one.page, one.window) for one in shape.layers[layer].caches]


def test_each_kind_of_layer_keeps_the_pages_that_vllm_asks_for():
    """By vLLM 0.33.0: 584 bytes to a key, 132 to a key of the indexer, pages of whole 576 bytes, 32-bit states."""
    shape = read_shape(config())

    assert pages(shape, 0) == [(Kind.SLIDING, 64, 37_440, 128)]
    assert pages(shape, 2) == [
        (Kind.SLIDING, 64, 37_440, 128),
        (Kind.LATENT, 256, 37_440, 0),
        (Kind.SLIDING, 4, 32_832, 8),
        (Kind.INDEX, 256, 8_640, 0),
        (Kind.SLIDING, 4, 8_640, 8),
    ]
    assert pages(shape, 3) == [
        (Kind.SLIDING, 64, 37_440, 128),
        (Kind.LATENT, 256, 1_728, 0),
        (Kind.SLIDING, 8, 32_832, 128),
    ]


def test_a_block_holds_all_layers_pages_side_by_side():
    """The pull request 48993 of vLLM quotes a block of 1,315,008 bytes for V4-Pro with 4-bit keys of the indexer.

    Those have pages of 4,608 bytes where 8-bit ones have 8,640, in each of the 30 layers with an indexer.
    """
    pro = pool_of(read_shape(config("deepseek-v4-pro")), Ranks(), "auto")

    assert pro.block_bytes == 1_315_008 + 30 * (8_640 - 4_608)


def test_five_groups_take_blocks_of_their_own():
    """The window's 43 layers are two groups, what waits to be compressed is one to each rate."""
    flash = pool_of(read_shape(config()), Ranks(), "auto")
    plan = flash.plan(Load(8192, 1, 4096))

    assert (len(flash.groups), flash.token_bytes) == (5, 1_002_240 // 256)
    # ceil(8192/256); twice ceil((127 + 4096)/64) + 1; ceil((7 + 4096)/4) + 1; ceil((127 + 4096)/8) + 1
    assert plan.request_blocks == 32 + 2 * 67 + 1027 + 529


def test_every_rank_keeps_the_whole_cache():
    shape = read_shape(config())

    assert {pool_of(shape, Ranks(tp), "auto").block_bytes for tp in (1, 8)} == {1_002_240}
    assert pool_of(shape, Ranks(pp=2), "auto").block_bytes < 1_002_240


def numbers(found):
    """What is in the files, two 4-bit numbers as one and each scale as one: as Hugging Face counts them."""
    layers = [pair for layer, forms in found.laid.layers for pair in zip(layer.tensors, forms, strict=True)]
    parts = [*layers, *((part, None) for part in (*found.shape.embed, *found.shape.head))]
    return sum(one.count * (form.stored(one.rows, one.cols) if form else one.rows * one.cols) for one, form in parts)


@pytest.mark.parametrize(("name", "published"), [("deepseek-v4-flash", 158), ("deepseek-v4-pro", 862)])
def test_the_files_are_the_model_and_the_layer_that_predicts_ahead(name, published):
    """Hugging Face's page of deepseek-ai shows 158B and 862B; a public page has 149 GiB on disk for Flash."""
    layers = row(name)["config"]["num_hidden_layers"]
    ours = read_model(config(name, num_hidden_layers=layers + 1))

    assert numbers(ours) / 10**9 == pytest.approx(published, rel=0.005)
    if name == "deepseek-v4-flash":
        assert weights(ours) / GIB == pytest.approx(149, abs=0.5)


def test_experts_have_four_bits_and_the_rest_has_eight():
    plain = weights(read_model(config()))
    wide = weights(read_model(config(expert_dtype="fp8")))
    nvfp4 = {**config()["quantization_config"], "moe_quant_algo": "NVFP4", "ignore": ["*.attn.*"]}
    experts = 43 * 256 * 3 * 2048 * 4096

    assert wide - plain == pytest.approx(experts * (8 - 4.25) / 8, rel=0.001)
    assert weights(read_model(config(quantization_config=nvfp4))) - plain == pytest.approx(experts / 32, rel=0.001)
    assert weights(read_model(config(quantization_config=None))) > 3.5 * plain


def test_layers_that_are_named_as_ignored_stay_at_16_bits():
    quant = {**config()["quantization_config"], "ignored_layers": ["layers.2.ffn.experts"]}
    changed = weights(read_model(config(quantization_config=quant))) - weights(read_model(config()))

    assert changed == 256 * 3 * 2048 * 4096 * (16 - 4.25) / 8


def test_both_spellings_say_the_same():
    names = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    kinds = [names[rate] for rate in config()["compress_ratios"][:43]]
    new = config(
        compress_ratios=..., num_hash_layers=..., layer_types=kinds,
        mlp_layer_types=["hash_moe"] * 3 + ["moe"] * 40,
    )  # fmt: skip

    assert read_shape(new) == read_shape(config())


def test_sglang_keeps_windows_for_requests_and_grows_by_the_compressed_keys():
    """By SGLang 0.5.23's DSV4PoolConfigurator for 4 requests: 146.25 + 33.75 and 6.75 bytes to a token and layer."""
    shape = read_shape(config())
    plan = plan_pool(shape, Ranks(), Load(8192, 4, 4096))
    slots = -(-(4 * (128 + 128 + 512 + 4 * 384) + 4096 + 256) // 256) * 256
    fixed = slots * 43 * 585 + slots // 256 * 8 * 21 * (8_208 + 2_160) + 7 * 128 * 20 * 4_104

    assert plan.token_bytes == 21 * 180 + 20 * 6.75
    assert plan.block_bytes == (8192 + 256) * 3915 - (-fixed // 4)


@pytest.mark.parametrize(
    ("changes", "ask", "words"),
    [
        ({"compress_ratios": [0, 4, 8] * 20}, {}, "compress_ratios: '8': vLLM 0.33.0 knows 0, 4, 128"),
        ({"compress_ratios": [4]}, {}, "compress_ratios: '1 entries': write one for each of the 43 layers"),
        ({"layer_types": ["sliding_attention"]}, {}, "layer_types: '1 entries': write one for each of the 43 layers"),
        (
            {"layer_types": ["sliding_attention"] * 43, "compress_rates": {"sliding_attention": 7}},
            {},
            "compress_rates.sliding_attention: '7': vLLM 0.33.0 knows 0, 4, 128",
        ),
        ({"mlp_layer_types": ["moe"]}, {}, "mlp_layer_types: '1 entries': write one for each of the 43 layers"),
        ({"mlp_layer_types": ["dense"] * 43}, {}, "mlp_layer_types: 'dense': known for this family are moe, hash_moe"),
        ({"layer_types": ["full_attention"] * 43}, {}, "layer_types: 'full_attention': known for this family are"),
        ({"expert_dtype": "fp6"}, {}, "expert_dtype: 'fp6': vLLM 0.33.0 knows fp4 and fp8"),
        ({"vision_n_layers": 24}, {}, "vision_n_layers: '24': its vision tower is not read yet"),
        ({"head_dim": 256}, {}, "head_dim: '256': the engines' packed keys of this family have 512"),
        ({"qk_rope_head_dim": 32}, {}, "qk_rope_head_dim: '32': the engines' packed keys of this family have 64"),
        ({"o_groups": 7}, {}, "o_groups: '7': make it divide num_attention_heads (64)"),
        ({}, {"tp": 16}, "tp: '16': use a number that divides the 8 groups of heads (o_groups)"),
        (
            {},
            {"kv_dtype": "bfloat16"},
            "kv-dtype: 'bfloat16': the engines keep this family's cache in packed 8-bit keys",
        ),
    ],
)
def test_what_no_engine_would_start_is_refused(changes, ask, words):
    with pytest.raises(WireError) as refused:
        estimate(read_model(config(**changes)), Ask(max_len=4096, **ask))

    assert str(refused.value).startswith(words)


def test_the_layers_that_choose_experts_by_hash_are_those_that_are_named():
    kinds = ["moe"] * 40 + ["hash_moe"] * 3
    layers = read_model(config(mlp_layer_types=kinds)).shape.layers

    hashed = [any(part.name == "ffn.gate.tid2eid" for part in layer.tensors) for layer in layers]
    assert hashed == [kind == "hash_moe" for kind in kinds]


@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
def test_a_longer_context_costs_little_and_never_less(runtime):
    sizes = [
        estimate(read_model(config()), Ask(runtime, max_len=length, tp=4, concurrency=2)).slice_mib
        for length in (1024, 32_768, 262_144, 262_145, 1_048_576)
    ]

    assert sizes == sorted(sizes)


@pytest.mark.parametrize("name", ["deepseek-v4-flash", "deepseek-v3.2", "glm-5.2-fp8"])
def test_sparse_attention_runs_from_hopper_on(name):
    """By vLLM 0.33.0's backends/mla: each supports compute capability 9, 10 or 12 alone."""
    with pytest.raises(WireError, match=r"card: 'A100-80GB': vLLM 0\.33\.0 and SGLang 0\.5\.23 have kernels"):
        estimate(model(name), Ask(max_len=4096, card="A100-80GB"))
    old = a_card(model="NVIDIA A100-SXM4-80GB", memory_mib=81_920)
    made, refused = offers(model(name), Ask(max_len=4096), [(old,) * 8])

    assert made == []
    assert refused[0].reason.startswith("vLLM 0.33.0 and SGLang 0.5.23 have kernels")
