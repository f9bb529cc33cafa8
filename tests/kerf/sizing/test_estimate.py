"""The sum, the slice, the refusals and the engine's arguments."""

import time

import pytest

from kerf.sizing.arguments import utilization
from kerf.sizing.cards import CARDS, card_named
from kerf.sizing.config import parse_config
from kerf.sizing.context import read_context
from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.overheads import capture_sizes
from kerf.sizing.request import Ask, known_version
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import NAMES, a_config, model, row

MIB = 2**20


@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_the_catalogue_is_estimated_and_its_terms_add_up(name, runtime):
    found = estimate(model(name), Ask(runtime=runtime, max_len=448, card="B200"))

    total = sum(term.high for term in found.terms)
    assert found.slice_mib == -(-total // MIB)
    low = sum(term.low for term in found.terms)
    assert low <= total <= found.slice_mib * MIB
    assert all(term.formula and term.source for term in found.terms)


def test_a_slice_is_weights_cache_and_the_stated_overheads():
    found = estimate(model("qwen3-8b"), Ask(max_len=32_768, concurrency=8))

    assert {term.name: round(term.high / MIB) for term in found.terms} == {
        "weights": 15_623,  # 8,190,735,360 x 2 B
        "position table": 10,
        "KV cache": 36_866,  # 8 x 2,048 blocks and one more, of 36 layers x 16 tokens x 4,096 B
        "activations": 193,
        "CUDA graphs": 185,
        "non-torch": 666,
        "CUDA context": 600,
    }
    assert (found.slice_mib, found.kv_tokens, found.plan.token_bytes) == (54_144, 262_144, 147_456)


def test_vllms_arguments_are_plain_integers_relative_to_the_slice():
    """To vLLM 0.33.0 32k is 32,000 and 32K is 32,768, and its defaults follow the size of the slice that it sees."""
    found = estimate(model("llama-3.1-70b"), Ask(max_len=32_768, concurrency=4, tp=2, kv_dtype="fp8"))

    assert found.args == (
        "--max-model-len", "32768", "--max-num-seqs", "4", "--max-num-batched-tokens", "2048",
        "--gpu-memory-utilization", "0.99", "--kv-cache-memory-bytes", str(found.kv_bytes), "--kv-cache-dtype", "fp8",
        "--tensor-parallel-size", "2", "--disable-custom-all-reduce",
    )  # fmt: skip


def test_sglangs_arguments_leave_nothing_to_the_size_of_the_slice():
    """SGLang 0.5.23 reserves more from 60 GiB on, so less is left at 60.1 GiB than at 59.9."""
    found = estimate(model("qwen3-8b"), Ask(runtime="sglang", max_len=32_768, concurrency=8))

    assert found.args == (
        "--context-length", "32768", "--max-running-requests", "8", "--chunked-prefill-size", "2048",
        "--cuda-graph-max-bs-decode", "8", "--mem-fraction-static", "0.929", "--enable-metrics",
        "--max-total-tokens", "262144",
    )  # fmt: skip


def test_sglangs_reserve_is_that_of_its_own_functions():
    """handle_gpu_memory_settings and reserve_for_graph_mb of SGLang 0.5.23, run for eight requests at once."""
    graphs = {
        ("qwen3-8b", 2048): 352,
        ("qwen3-8b", 3000): 376,
        ("qwen3-8b", 8192): 480,
        ("deepseek-v3", 2048): 1552,
        ("deepseek-v3", 8192): 1552,
        ("deepseek-v4-flash", 2048): 352,
    }
    for (name, tokens), mib in graphs.items():
        found = estimate(model(name), Ask(runtime="sglang", concurrency=8, batched_tokens=tokens, tp=8))
        reserve = next(term for term in found.terms if term.name == "reserve")
        assert (name, tokens, reserve.high) == (name, tokens, (512 + 1.5 * tokens + 1024 + mib) * 2**20)


def test_an_embedding_model_has_no_cache_and_reads_a_text_in_one_step():
    found = estimate(model("jina-embeddings-v3"), Ask())

    assert (found.kv_bytes, found.plan.token_bytes, found.kv_tokens) == (0, 0, 0)
    assert found.args[:6] == ("--max-model-len", "8194", "--max-num-seqs", "1", "--max-num-batched-tokens", "8194")
    assert found.args[-2:] == ("--runner", "pooling")


def test_an_embedding_models_slice_holds_the_step_that_its_arguments_ask_for():
    left_out = estimate(model("jina-embeddings-v3"), Ask())
    written = estimate(model("jina-embeddings-v3"), Ask(batched_tokens=8194))

    assert left_out.slice_mib == written.slice_mib
    assert "8,194 tokens" in {term.name: term.formula for term in left_out.terms}["activations"]


@pytest.mark.parametrize(("mib", "share"), [(2_400, "0.75"), (6_000, "0.90"), (24_000, "0.97"), (80_000, "0.99")])
def test_a_small_slice_has_less_free_at_the_start_than_vllms_default_asks_for(mib, share):
    """In vLLM 0.33.0, v1/worker/utils.py request_memory: with free < ceil(total x utilization) it does not start."""
    assert utilization(mib) == share


def test_the_smallest_tensor_parallelism_that_fits_is_chosen():
    tps = {
        card: estimate(model("llama-3.1-70b"), Ask(max_len=8192, card=card)).ranks.tp
        for card in ("B200", "H100", "L40S")
    }

    assert tps == {"B200": 1, "H100": 2, "L40S": 4}


def test_what_does_not_fit_is_refused_with_what_would():
    with pytest.raises(WireError) as refused:
        estimate(model("qwen3-8b"), Ask(max_len=40_960, concurrency=64, tp=1, card="H100"))

    assert str(refused.value).startswith("slice: '386,")
    assert "the card has 81,079 MiB at --tp 1: --max-len 6144 would fit" in str(refused.value)


def test_the_context_that_is_said_to_fit_does():
    ask = Ask(max_len=6144, concurrency=64, tp=1, card="H100")

    assert estimate(model("qwen3-8b"), ask).slice_mib <= card_named("H100").usable


@pytest.mark.parametrize(
    ("changes", "most", "default"),
    [
        # vLLM 0.33.0, config/model.py _get_and_verify_max_len.
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 8192, 8192),
        ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, 8192, 8192),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, 32768, 32768),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 16384, 16384),
        ({"rope_parameters": {"rope_type": "longrope"}, "original_max_position_embeddings": 4096}, 8192, 4096),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, 16384, 16384),
        ({"rope_scaling": {"rope_type": "linear", "factor": None}}, 8192, 8192),
        ({"max_position_embeddings": ...}, 2048, 2048),
        ({"max_position_embeddings": None, "seq_length": 4096}, 4096, 4096),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_which_factors_lengthen_the_context(changes, most, default):
    context = read_context(parse_config(a_config(**changes)))

    assert (context.most, context.default) == (most, default)


def test_more_than_the_context_is_refused():
    with pytest.raises(WireError, match="max-len: '8193': use at most 8192"):
        estimate(read_model(a_config()), Ask(max_len=8193))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask(tp=3), "tp: '3': use a number that divides the 16 attention heads"),
        (Ask(pp=9), "pp: '9': use at most 8 stages"),
        (Ask(tp=2, ep=2), "ep: '2': leave it at 1: the model has no experts"),
        (Ask(concurrency=0), "concurrency: '0': write a whole number from 1 to 65536"),
        (Ask(runtime="tgi"), "runtime: 'tgi': use one of vllm, sglang"),
        (Ask(version="0.11.0"), "runtime-version: '0.11.0': the rules of vllm 0.33.0 are known"),
        (Ask(runtime="sglang", version="0.5.2"), "runtime-version: '0.5.2': the rules of sglang 0.5.23 are known"),
        (Ask(kv_dtype="int3"), "kv-dtype: 'int3': the size of this cache is not known"),
        (Ask(quantization="magic"), "quantization: 'magic': use one of none, fp8, bitsandbytes"),
        (Ask(card="Voodoo2"), "card: 'Voodoo2': use one of T4"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_an_ask_that_cannot_be_is_refused_by_field_value_and_fix(ask, words):
    with pytest.raises(WireError) as refused:
        estimate(read_model(a_config()), ask)

    assert str(refused.value).startswith(words)


def test_kv_heads_that_tensor_parallelism_does_not_divide_are_refused():
    """The check of vLLM 0.33.0 lets 10 KV heads on 4 ranks through, and it would then hold 8 of them."""
    with pytest.raises(WireError, match="tp: '4': use a number that divides the 10 KV heads or is a multiple of them"):
        estimate(model("phi-4"), Ask(tp=4, max_len=4096))


@pytest.mark.parametrize(("version", "known"), [("0.33.1", "0.33.1"), ("v0.33.0", "0.33.0"), ("", "0.33.0")])
def test_patch_releases_keep_their_minors_rules(version, known):
    assert known_version("vllm", version) == known


@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("h100", 81_559),
        ("NVIDIA H100 80GB HBM3", 81_559),
        ("NVIDIA L40S", 46_068),
        ("A100-80GB", 81_920),
        ("l4", 23_034),
    ],
)
def test_cards_go_by_many_names(name, mib):
    assert card_named(name).mib == mib


def test_every_card_is_found_by_its_own_name():
    assert [card_named(card.name) for card in CARDS] == list(CARDS)


def test_few_requests_capture_few_graphs():
    """By vLLM 0.33.0, config/vllm.py _set_cudagraph_sizes: 1, 2, 4, then steps of 8, up to twice the sequences."""
    assert capture_sizes(8) == [1, 2, 4, 8, 16]
    assert len(capture_sizes(256)) == 51


def test_a_checkpoint_says_what_its_cache_is():
    found = estimate(model("llama-3.1-70b-fp8"), Ask(max_len=8192))

    assert found.model.quant.kv_dtype == "fp8"  # vLLM 0.33.0, utils/torch_utils.py get_kv_cache_quant_algo_string
    assert found.plan.token_bytes == 80 * 8 * 2 * 128


@pytest.mark.parametrize("name", ["qwen3-235b-a22b-fp8", "kimi-k2.5", "glm-5.2-fp8"])
def test_a_model_is_read_and_estimated_in_less_than_fifty_milliseconds(name):
    """The best of several, so that a busy machine does not fail it; docs/models.md has the measured number."""
    config, times = row(name)["config"], []
    for _ in range(7):
        start = time.process_time()
        estimate(read_model(config), Ask(max_len=32_768, concurrency=8, card="H200"))
        times.append(time.process_time() - start)

    assert min(times) < 0.05
