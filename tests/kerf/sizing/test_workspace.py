"""What an engine takes beside weights and cache that follows the shape: attention's workspace, tables, padding."""

import pytest

from kerf.sizing.config import parse_config
from kerf.sizing.context import Table, read_context
from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.request import Ask
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import a_config, model, row


def term(found, name):
    """The upper end of one line of the sum, 0 where there is none."""
    return {one.name: one.high for one in found.terms}.get(name, 0)


def test_ordinary_attention_sets_nothing_aside():
    assert term(estimate(model("qwen3-8b"), Ask(max_len=8192)), "attention workspace") == 0


def test_flashinfers_buffer_counts_on_blackwell():
    sizes = {
        card: term(estimate(model("qwen3-8b"), Ask(max_len=8192, card=card)), "FlashInfer buffer")
        for card in ("B200", "NVIDIA b200", "H100")
    }

    assert sizes == {"B200": 394 * 2**20, "NVIDIA b200": 394 * 2**20, "H100": 0}


def test_latent_attention_unpacks_64_k_tokens_at_once():
    """By vLLM 0.33.0, mla_attention.py: its profile run reserves what kv_b_proj makes of them, beside their latents."""
    found = estimate(model("deepseek-r1"), Ask(max_len=8192, tp=8))

    # 65,536 x (512 + 64) latents, and for each of 16 heads 65,536 x (128 + 128)
    assert term(found, "attention workspace") == 2 * 65_536 * (576 + 16 * 256)


def test_earlier_tokens_of_all_requests_have_their_keys_twice():
    found = estimate(model("deepseek-r1"), Ask(max_len=32_768, concurrency=8, tp=8))

    assert term(found, "attention workspace") == 2 * 65_536 * (576 + 16 * (256 + 192))


def test_sparse_attention_gathers_a_multiple_of_the_context():
    """By vLLM 0.33.0, backends/mla/flashmla_sparse.py: five times the context up to 256 K, in 16 bits."""
    short, long = (
        term(estimate(model("deepseek-v3.2"), Ask(max_len=size, tp=8)), "attention workspace")
        for size in (32_768, 163_840)
    )

    assert long - short == (163_840 - 32_768) * 5 * 576 * 2 + 2 * 16 * 65_536 * 192


@pytest.mark.parametrize(
    ("changes", "table"),
    [
        ({}, Table(8192, 64)),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, Table(32_768, 64)),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, Table(8192, 64)),
        # max_position_embeddings is the original length, as in Qwen2.5's files: yarn's table is four times as long.
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}},
            Table(32_768, 64),
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}}, Table(8192, 64)),
        (
            {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096},
            Table(8192 + 4096, 64),
        ),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}, Table(4 * 8192, 64)),
    ],
    ids=str,
)
def test_tables_of_positions_are_as_long_as_vllm_makes_them(changes, table):
    assert read_context(parse_config(a_config(**changes))).table == table


def test_latent_attentions_table_has_32_bit_numbers():
    assert model("deepseek-v3").context.table == Table(163_840, 64, 4)
    assert model("deepseek-v4-flash").context.table == Table(1_048_576, 2 * 64, 4)


def test_experts_of_four_bits_may_be_padded_to_whole_tiles():
    """gpt-oss's 2,880 is 3,072 and 2,944 to FlashInfer's and Marlin's kernels, on Hopper's it stays."""
    found = estimate(model("gpt-oss-20b"), Ask(max_len=8192))
    plain, padded = 2 * 2880 * 2880 + 2880 * 2880, 2 * 2944 * 3072 + 3072 * 2944

    assert term(found, "padding of experts") == 24 * 32 * (padded - plain) * 17 // 32
    assert {one.name: one.low for one in found.terms}["padding of experts"] == 0
    assert term(estimate(model("qwen3-30b-a3b"), Ask(max_len=8192)), "padding of experts") == 0


def test_padding_grows_where_more_ranks_cut_experts():
    shares = [
        tp * term(estimate(model("gpt-oss-120b"), Ask(max_len=8192, tp=tp)), "padding of experts") for tp in (1, 8)
    ]

    assert shares[0] < shares[1]


@pytest.mark.parametrize(
    ("runtime", "kind"), [("sglang", "fp8"), ("sglang", "float16"), ("sglang", "nvfp4"), ("vllm", "bf16"), ("vllm", "")]
)
def test_a_cache_type_that_the_engine_does_not_take_is_refused(runtime, kind):
    """SGLang 0.5.23 has fp8_e4m3 and fp8_e5m2, and bf16 for bfloat16; vLLM 0.33.0 has fp8 and no bf16."""
    with pytest.raises(WireError, match=f"kv-dtype: '{kind}': the size of this cache is not known for {runtime}"):
        estimate(read_model(a_config()), Ask(runtime, max_len=1024, kv_dtype=kind))


def test_all_of_deepseek_v4s_terms_are_there():
    found = estimate(read_model(row("deepseek-v4-flash")["config"]), Ask(max_len=1_048_576, tp=8))

    # 2 x 2 B x a quarter of the context unpacked for four requests at once is 1 GiB.
    assert 2**30 < term(found, "attention workspace") < 2 * 2**30
    assert term(found, "position table") == 2**29
