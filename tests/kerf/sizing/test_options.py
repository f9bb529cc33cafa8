"""Which words of `vllm serve` are values of options, by vLLM 0.33.0's own parser (`make oracle`)."""

import pytest

from kerf.sizing.estimate import estimate
from kerf.sizing.launch import pairs
from kerf.sizing.options import free_word
from kerf.sizing.request import Ask
from kerf.sizing.vllm_options import FLAGS, LISTS
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
