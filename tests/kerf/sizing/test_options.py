"""Which words of `vllm serve` are values of options, by vLLM 0.33.0's own parser (`make oracle`)."""

import pytest

from kerf.sizing.estimate import estimate
from kerf.sizing.launch import pairs
from kerf.sizing.options import free_word, number
from kerf.sizing.request import Ask
from kerf.sizing.vllm_options import FLAGS, LISTS
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import model, oracle

TRUTH = oracle("options")


def test_the_options_are_the_parsers() -> None:
    assert (TRUTH["package"], set(TRUTH["flags"]), set(TRUTH["lists"])) == ("vllm 0.33.0", set(FLAGS), set(LISTS))


@pytest.mark.parametrize("kind", ["flags", "lists", "single"])
def test_the_model_is_found_behind_every_option(kind: str) -> None:
    values = {"flags": [], "lists": ["a", "b"], "single": ["a"]}[kind]
    wrong = {}
    for name in TRUTH[kind]:
        option = f"--{name}" if len(name) > 1 else f"-{name}"
        behind = [option, *values, "--seed", "1", "org/model"]
        before = ["org/model", option, *values]
        found = free_word(behind), free_word(before)
        if found != ("org/model", "org/model"):
            wrong[name] = found

    assert wrong == {}


def test_what_is_written_for_sglang_are_options_of_its_own_parser() -> None:
    truth = oracle("sglang_options")
    asks = [
        (
            "qwen3-30b-a3b",
            Ask("sglang", max_len=4096, concurrency=2, tp=2, pp=2, ep=2, kv_dtype="fp8_e4m3", quantization="fp8"),
        ),
        ("bge-reranker-v2-m3", Ask("sglang", max_len=512)),
    ]
    written = {pair for name, ask in asks for pair in pairs(estimate(model(name), ask).args)}

    kinds = {name: "flags" if name in truth["flags"] else "single" for name in truth["flags"] + truth["single"]}
    assert truth["package"] == "sglang 0.5.23"
    assert {name: kinds.get(name) for name, _ in written} == {
        name: "single" if value else "flags" for name, value in written
    }


@pytest.mark.parametrize(
    ("runtime", "key", "text", "value"),
    [
        ("vllm", "max-model-len", "32k", 32_000),
        ("vllm", "max-model-len", "32K", 32_768),
        ("vllm", "max-model-len", "25.6k", 25_600),
        ("vllm", "max-model-len", "1M", 2**20),
        ("vllm", "max-model-len", "32Ki", None),
        ("vllm", "max-model-len", "1.5K", None),
        ("vllm", "max-num-seqs", "1k", None),
        ("sglang", "context-length", "32k", 32_000),
        ("sglang", "context-length", "32Ki", 32_768),
        ("sglang", "context-length", "1M", 10**6),
        ("sglang", "context-length", "32K", None),
        ("sglang", "chunked-prefill-size", "2k", None),
        ("sglang", "chunked-prefill-size", "-1", None),
    ],
)
def test_a_number_is_what_the_engine_reads(runtime: str, key: str, text: str, value: int | None) -> None:
    """By `human_readable_int` of vLLM 0.33.0 and of SGLang 0.5.23; other options of both are plain integers."""
    if value is None:
        with pytest.raises(WireError, match=f"--{key}: '{text}': write a plain whole number"):
            number({key: text}, (key,), runtime)
    else:
        assert number({key: text}, (key,), runtime) == value
