"""Engines' pages: old and new names, `:` or `_`, ranks, priorities, sleep, and pages that are odd."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.engine import EngineReading, ModelReading, Tokens
from kerf.wire.engines import parse_engine
from kerf.wire.exposition import Sample, parse_exposition

VLLM_NEW = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 9.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="deferred"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="m"} 1000.0
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7e+09
vllm:prompt_tokens_cached_total{engine="0",model_name="m"} 400.0
vllm:generation_tokens_total{engine="0",model_name="m"} 50.0
vllm:generation_tokens_total{engine="1",model_name="m"} 25.0
vllm:iteration_tokens_total_bucket{engine="0",le="8.0",model_name="m"} 4.0
vllm:iteration_tokens_total_sum{engine="0",model_name="m"} 4.0
vllm:engine_sleep_state{engine="0",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="0",sleep_state="weights_offloaded"} 0.0
"""
READ = EngineReading((ModelReading("m", Tokens(600, 400, 75), 7, 4, 0.75),))


@pytest.mark.parametrize("page", [VLLM_NEW, VLLM_NEW.replace("vllm:", "vllm_")], ids=["colon", "underscore"])
def test_vllm_by_either_name(page: str) -> None:
    assert parse_engine(page, "vllm") == READ


def test_vllm_by_the_names_of_before() -> None:
    page = """
vllm:num_requests_waiting{model_name="m"} 2.0
vllm:num_requests_running{model_name="m"} 1.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.5
vllm:prompt_tokens_total{model_name="m"} 10.0
vllm:generation_tokens_total{model_name="m"} 5.0
"""
    assert parse_engine(page, "vllm") == EngineReading((ModelReading("m", Tokens(10, 0, 5), 2, 1, 0.5),))


def test_a_sleeping_engine_says_so() -> None:
    page = VLLM_NEW.replace('sleep_state="awake"} 1.0', 'sleep_state="awake"} 0.0').replace(
        'sleep_state="weights_offloaded"} 0.0', 'sleep_state="weights_offloaded"} 1.0'
    )

    assert parse_engine(page, "vllm").asleep


def test_several_served_models_are_apart() -> None:
    page = 'vllm:generation_tokens_total{model_name="a"} 1\nvllm:generation_tokens_total{model_name="b"} 2\n'

    assert [(m.model, m.tokens.output) for m in parse_engine(page, "vllm").models] == [("a", 1), ("b", 2)]


def test_sglang_counts_the_total_once() -> None:
    """Parts by priority, repeats of other ranks, and streaming apart from not streaming."""
    page = """
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0",priority=""} 5.0
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0",priority="1"} 2.0
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="1"} 5.0
sglang:num_queue_reqs{model_name="m",tp_rank="0"} 3.0
sglang:num_grammar_queue_reqs{model_name="m",tp_rank="0"} 1.0
sglang:token_usage{model_name="m",tp_rank="0"} 0.5
sglang:prompt_tokens_total{model_name="m",is_streaming="true"} 100.0
sglang:prompt_tokens_total{model_name="m",is_streaming="false"} 50.0
sglang:cached_tokens_total{model_name="m",cache_source="device"} 30.0
sglang:generation_tokens_total{model_name="m",is_streaming="true"} 8.0
"""
    assert parse_engine(page, "sglang") == EngineReading((ModelReading("m", Tokens(120, 30, 8), 4, 5, 0.5),))


@pytest.mark.parametrize("page", ["", "garbage", "<html>", "vllm:prompt_tokens_total NaN", 'a{b="c} 1', "\x00" * 99])
def test_a_page_that_says_nothing_reads_as_nothing(page: str) -> None:
    assert parse_engine(page, "vllm") == EngineReading()


def test_labels_are_unescaped_and_any_order() -> None:
    assert parse_exposition('a:b{x="1,2}", y="q\\"\\n" ,} 4.5 1700000000\n# c\n') == (
        Sample("a_b", 4.5, {"x": "1,2}", "y": 'q"\n'}),
    )


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    parse_exposition(text)
    parse_engine(f"vllm:prompt_tokens_total{{{text}}} 5\n{text}", "vllm")
    parse_engine(text, "sglang")
