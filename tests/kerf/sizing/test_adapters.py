"""LoRA adapters: what vLLM 0.33.0 sets aside for them, and who is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.launch import asked_by, launch_of
from kerf.sizing.named import parse_named
from kerf.sizing.request import LORA_RANKS, Ask
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import NAMES, a_config, model

PLAIN = read_model(a_config())
RANK_OF_ONE = 8 * (2 * (1024 + 1024) + 2 * (1024 + 256) + 3 * (1024 + 2816)) + 1024 + 32_000
"""8 layers: q and o, k and v of 4 heads of 64, three matrices of the feed-forward network; and the head."""


def adapters(ask: Ask, of=PLAIN) -> int:
    return sum(term.high for term in estimate(of, ask).terms if term.name == "adapters")


def test_each_linear_layer_has_two_narrow_matrices_for_each_adapter():
    """By vLLM 0.33.0, lora/layers: max_loras x rank x (inputs + outputs), in 16 bits."""
    assert adapters(Ask(max_len=64, loras=4, lora_rank=32)) == 4 * 32 * 2 * RANK_OF_ONE
    assert adapters(Ask(max_len=64)) == 0


def test_llamas_adapters_are_as_large_as_a_published_one_and_the_head():
    """Rank 16 on every linear layer of Llama-3.1-8B: 41,943,040 parameters, as PEFT prints for it."""
    of = model("llama-3.1-8b")

    assert adapters(Ask(max_len=64, loras=1), of) == 2 * (41_943_040 + 16 * (4096 + 128_256))


def test_ranks_share_out_what_they_write_and_not_what_they_read():
    both = {tp: adapters(Ask(max_len=64, loras=1, tp=tp)) for tp in (1, 2)}
    a, b = 8 * (3 * 1024 + 2 * 1024), 8 * (1024 + 256 + 256 + 2 * 2816)  # of column-parallel matrices
    rows = 8 * (1024 // 2 + 1024 + 2816 // 2 + 1024)

    assert both[2] == 32 * (a + b // 2 + rows + 1024 + 32_000) < both[1]


@given(st.sampled_from(NAMES), st.integers(0, 8), st.sampled_from(LORA_RANKS))
def test_more_adapters_never_shrink_a_slice(name: str, loras: int, rank: int):
    fewer, more = (
        estimate(model(name), Ask(max_len=64, tp=1, loras=count, lora_rank=rank)).slice_mib
        for count in (loras, loras + 1)
    )

    assert fewer <= more


def test_the_arguments_say_what_was_counted():
    args = estimate(PLAIN, Ask(max_len=64, loras=2, lora_rank=64)).args

    assert args[args.index("--enable-lora") :][:5] == ("--enable-lora", "--max-loras", "2", "--max-lora-rank", "64")


@pytest.mark.parametrize(
    ("annotation", "args", "wanted"),
    [
        ("m", ["--enable-lora"], (1, 16)),
        ("m", ["--enable-lora", "--max-loras=4", "--max-lora-rank", "64"], (4, 64)),
        ("m;loras=3;lora-rank=8", [], (3, 8)),
        ("m;loras=3", ["--enable-lora"], (3, 16)),
        ("m", ["--max-loras", "4"], (0, 16)),  # vLLM loads none without --enable-lora
    ],
)
def test_the_container_and_the_annotation_say_how_many(annotation: str, args: list[str], wanted: tuple[int, int]):
    launch = launch_of(["vllm", "serve"], ["m", *args], "")
    assert launch is not None

    ask = asked_by(launch, parse_named(annotation), plain=True)

    assert (ask.loras, ask.lora_rank) == wanted


@pytest.mark.parametrize(
    ("command", "annotation", "args", "field"),
    [
        ("vllm", "m;loras=3", ["--enable-lora", "--max-loras", "4"], "metadata.annotations[kerf.dev/model].loras"),
        ("vllm", "m", ["--speculative-config", '{"method": "eagle3", "model": "x"}'], "--speculative-config"),
        ("vllm", "m", ["--speculative-config.method", "mtp"], "--speculative-config.method"),
        ("vllm", "m", ["--spec-model", "x"], "--spec-model"),
        ("sglang", "m", ["--speculative-algorithm", "EAGLE3"], "--speculative-algorithm"),
        ("sglang", "m", ["--lora-paths", "a=b"], "--lora-paths"),
    ],
)
def test_what_is_not_counted_is_refused_by_name(command: str, annotation: str, args: list[str], field: str):
    launch = launch_of([command, "serve"], ["m", *args], "")
    assert launch is not None

    with pytest.raises(WireError) as error:
        asked_by(launch, parse_named(annotation), plain=True)

    assert error.value.field == field


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("vllm", ["--speculative-config", '{"method":"ngram","num_speculative_tokens":4}']),
        ("vllm", ["--speculative-config.method=suffix"]),
        ("sglang", ["--speculative-algorithm", "NGRAM"]),
    ],
)
def test_guesses_from_the_text_alone_take_no_memory(command: str, args: list[str]):
    launch = launch_of([command, "serve"], ["m", *args], "")
    assert launch is not None

    assert asked_by(launch, parse_named("m"), plain=True).loras == 0


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (Ask(loras=-1), "loras"),
        (Ask(loras=1025), "loras"),
        (Ask(loras=1, lora_rank=17), "lora-rank"),
        (Ask(loras=1, runtime="sglang"), "loras"),
    ],
)
def test_odd_adapters_are_refused_with_their_field(ask: Ask, field: str):
    with pytest.raises(WireError) as error:
        estimate(PLAIN, ask)

    assert error.value.field == field
