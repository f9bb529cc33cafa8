"""Options by which an engine takes more than the sum has are found, whatever their spelling; others are not."""

import pytest

from kerf.sizing.options import TABLES, options_of
from kerf.sizing.uncounted import HARMLESS, uncounted
from tests.kerf.sizing.models import model

PLAIN, WINDOWED, LATENT = model("qwen3-8b").shape, model("gemma-3-27b-text").shape, model("deepseek-r1").shape


@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
def test_every_rule_is_about_an_option_of_the_engine(runtime):
    table = TABLES[runtime]

    assert set(HARMLESS[runtime]) <= table.flags | table.lists | table.singles


@pytest.mark.parametrize(
    ("runtime", "words", "option"),
    [
        ("vllm", "--dtype float32", "dtype"),
        ("vllm", "--dtype=float", "dtype"),
        ("vllm", "--num-gpu-blocks-override 9000", "num-gpu-blocks-override"),
        ("vllm", "--num_gpu_blocks_override=9000", "num-gpu-blocks-override"),
        ("vllm", "--cudagraph-capture-sizes 1 2 4 512", "cudagraph-capture-sizes"),
        ("vllm", "--max-cudagraph-capture-size 4096", "max-cudagraph-capture-size"),
        ("vllm", "--config /etc/vllm.yaml", "config"),
        ("vllm", "--hf-config-path other/model", "hf-config-path"),
        ("vllm", "--enable-lora --specialize-active-lora", "specialize-active-lora"),
        ("vllm", '--compilation-config={"cudagraph_capture_sizes":[1,2]}', "compilation-config"),
        (
            "vllm",
            "--compilation-config.max_cudagraph_capture_size 512",
            "compilation-config.max-cudagraph-capture-size",
        ),
        ("vllm", "--block-size 128", "block-size"),
        ("vllm", "-dcp 2", "dcp"),
        ("vllm", "--enable-dbo", "enable-dbo"),
        ("vllm", '--hf-overrides {"num_hidden_layers":99}', "hf-overrides"),
        ("vllm", "--mamba-ssm-cache-dtype float32", "mamba-ssm-cache-dtype"),
        ("sglang", "--dtype float32", "dtype"),
        ("sglang", "--config=/etc/sglang.yaml", "config"),
        ("sglang", "--enable-fp32-lm-head", "enable-fp32-lm-head"),
        ("sglang", '--cuda-graph-config {"decode":{"bs":[512]}}', "cuda-graph-config"),
        ("sglang", "--cuda-graph-max-bs-prefill 8192", "cuda-graph-max-bs-prefill"),
        ("sglang", "--enable-dp-attention --dp-size 2", "enable-dp-attention"),
        ("sglang", "--moe-dense-tp-size 1", "moe-dense-tp-size"),
        ("sglang", '--json-model-override-args={"num_hidden_layers":99}', "json-model-override-args"),
        ("sglang", "--ep-num-redundant-experts 32", "ep-num-redundant-experts"),
    ],
)
def test_what_takes_more_is_found(runtime, words, option):
    found = uncounted(options_of(words.split(), runtime), runtime, PLAIN)

    assert found is not None
    assert found[0] == option


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("vllm", "--dtype bfloat16 --max-model-len 8192 --enforce-eager --block-size 16 --cpu-offload-gb 4"),
        ("vllm", '--compilation-config={"cudagraph_mode":"FULL_AND_PIECEWISE"} -dcp 1 --enable-prefix-caching'),
        ("vllm", "--disable-hybrid-kv-cache-manager"),
        ("sglang", "--dtype auto --page-size 1 --swa-full-tokens-ratio 1.0 --disable-hybrid-swa-memory"),
    ],
)
def test_what_takes_no_more_stays(runtime, words):
    assert uncounted(options_of(words.split(), runtime), runtime, PLAIN) is None


def test_a_window_that_is_kept_whole_is_found_where_the_model_has_one():
    flags = {
        "vllm": {"disable-hybrid-kv-cache-manager": "true"},
        "sglang": {"disable-hybrid-swa-memory": "true"},
    }

    assert {runtime: uncounted(given, runtime, WINDOWED) for runtime, given in flags.items()} == {
        runtime: next(iter(given.items())) for runtime, given in flags.items()
    }
    assert uncounted({"swa-full-tokens-ratio": "1.0"}, "sglang", WINDOWED) == ("swa-full-tokens-ratio", "1.0")
    assert uncounted({"swa-full-tokens-ratio": "0.8"}, "sglang", WINDOWED) is None


def test_latent_attentions_own_block_is_64_tokens():
    assert uncounted({"block-size": "64"}, "vllm", LATENT) is None
    assert uncounted({"block-size": "16"}, "vllm", LATENT) == ("block-size", "16")
