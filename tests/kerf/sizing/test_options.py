"""Which words are options and which are their values, by the engines' own parsers (`make oracle`)."""

import pytest

from kerf.sizing.estimate import estimate
from kerf.sizing.launch import pairs
from kerf.sizing.options import TABLES, free_word, number, options_of, typed
from kerf.sizing.request import Ask
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import model, oracle

TRUTHS = {"vllm": oracle("options"), "sglang": oracle("sglang_options")}


@pytest.mark.parametrize(("runtime", "package"), [("vllm", "vllm 0.33.0"), ("sglang", "sglang 0.5.23")])
def test_the_options_are_the_parsers(runtime: str, package: str) -> None:
    truth, table = TRUTHS[runtime], TABLES[runtime]

    assert truth["package"] == package
    assert [set(truth[kind]) for kind in ("flags", "lists", "single")] == [table.flags, table.lists, table.singles]


@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
@pytest.mark.parametrize("kind", ["flags", "lists", "single"])
def test_a_free_word_is_found_around_every_option(runtime: str, kind: str) -> None:
    values = {"flags": [], "lists": ["a", "b"], "single": ["a"]}[kind]
    wrong = {}
    for name in TRUTHS[runtime][kind]:
        option = f"--{name}" if len(name) > 1 else f"-{name}"
        behind = [option, *values, "--seed=1", "org/model"]
        before = ["org/model", option, *values]
        found = free_word(behind, runtime), free_word(before, runtime)
        given = options_of([option, *values, "--log-level", "info"], runtime)
        if found != ("org/model", "org/model") or given != {name: (values or ["true"])[0], "log-level": "info"}:
            wrong[name] = found, given

    assert {name: seen for name, seen in wrong.items() if name != "log-level"} == {}


@pytest.mark.parametrize(
    ("runtime", "words", "given"),
    [
        ("sglang", ["--enable-metrics", "7", "--tp", "2"], {"enable-metrics": "true", "tp-size": "2"}),
        ("vllm", ["--enforce-eager", "7", "--tp", "2"], {"enforce-eager": "true", "tp": "2"}),
        ("sglang", ["--max-total", "9"], {"max-total-tokens": "9"}),
        ("vllm", ["--max-model", "9"], {"max-model-len": "9"}),
        ("sglang", ["--context", "9"], {"context": "9"}),  # context-bucket or context-length: argparse refuses it
        ("sglang", ["--is-embedding", "--lora-paths", "a", "b"], {"is-embedding": "true", "lora-paths": "a"}),
        ("vllm", ["-tp", "2", "-O3", "--seed", "-1"], {"tp": "2", "O3": "true", "seed": "-1"}),
    ],
)
def test_each_engines_words_are_read_by_its_own_table(runtime: str, words: list[str], given: dict[str, str]) -> None:
    """Beginnings of options too: argparse takes one that only one option has."""
    assert options_of(words, runtime) == given


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


@pytest.mark.parametrize(
    ("runtime", "text", "value"),
    [
        ("vllm", "32k", 32_000),
        ("vllm", "32K", 32_768),
        ("sglang", "32k", 32_000),
        ("sglang", "32Ki", 32_768),
        ("vllm", "0.1k", 100),
        ("sglang", "1.1M", 1_100_000),
    ],
)
def test_a_person_may_write_what_the_engine_reads(runtime: str, text: str, value: int) -> None:
    assert typed(text, "max-len", runtime, suffixed=True) == value


@pytest.mark.parametrize(
    ("runtime", "text", "fix"),
    [
        ("vllm", "32Ki", "32768, or 32k for 32,000 or 32K for 32,768 as vllm 0.33.0 reads them"),
        ("sglang", "32K", "32768, or 32k for 32,000 or 32Ki for 32,768 as sglang 0.5.23 reads them"),
        ("sglang", "1.5Ki", "32768, or 32k"),
        ("vllm", "-1", "32768, or 32k"),
    ],
)
def test_what_the_engine_would_not_read_is_refused_with_what_it_would(runtime: str, text: str, fix: str) -> None:
    with pytest.raises(WireError, match=f"max-len: '{text}': write a whole number: {fix}"):
        typed(text, "max-len", runtime, suffixed=True)
