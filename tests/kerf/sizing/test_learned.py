"""Lessons: what peaks teach, and what they make of an estimate."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.catalogue import shipped
from kerf.sizing.estimate import MIB, Estimate, estimate
from kerf.sizing.learned import (
    FORGET_MS,
    NO_CACHE_SIZE,
    NO_ENGINE,
    NOT_LOADED,
    UNKNOWN_MODEL,
    UNREADABLE,
    Evidence,
    evidence_of,
    folded,
    kept,
    taught_by,
)
from kerf.sizing.request import Ask
from kerf.sizing.taught import margin, need_of
from kerf.values.learned import Learned, Lesson, ServerPeak, Setup, Taught
from kerf.wire.learned import config_map, learned_in, parse_learned, render_learned

H100 = "NVIDIA H100 80GB HBM3"
ASK = Ask(max_len=8192, concurrency=4, card="H100")
NAME = "qwen3-8b"


def found(ask: Ask = ASK, taught: Taught | None = None) -> Estimate:
    model = shipped().model(NAME)
    assert model is not None
    return estimate(model, ask, taught)


def exact_mib(ask: Ask = ASK) -> int:
    """Weights, position table and cache."""
    return -(-sum(term.high for term in found(ask).terms[:3]) // MIB)


def a_server(peak: int, ask: Ask = ASK, **changes: Any) -> ServerPeak:
    args = ("Qwen/Qwen3-8B", "--served-model-name", "chat", "--port", "8000", *found(ask).args)
    limit = found(ask).slice_mib
    given: dict[str, Any] = {"image": "vllm/vllm-openai:v0.33.0", "command": ("vllm", "serve"), "args": args}
    return ServerPeak("server", NAME, **{**given, "limit_mib": limit, "peak_mib": peak, **changes})


def taught(peak: int, ask: Ask = ASK, **changes: Any) -> Lesson:
    evidence = evidence_of(a_server(peak, ask, **changes), H100, shipped())
    assert isinstance(evidence, Evidence), evidence
    return replace(evidence.lesson, pods=3, hours=100.0)


def lessons(*each: Lesson) -> Taught | None:
    return taught_by(Learned(each), NAME, "H100")


def test_a_peak_without_weights_and_cache_is_what_a_server_needs_and_makes_the_slice_smaller() -> None:
    lesson = taught(exact_mib() + 1000)

    learned = found(taught=lessons(lesson))

    assert (lesson.beside_mib, need_of(lesson)) == (1000, 1128)
    assert learned.slice_mib in {exact_mib() + 1127, exact_mib() + 1128}
    assert learned.lesson == lesson
    assert learned.slice_mib < found().slice_mib
    assert learned.terms[-1].source == "3 pods, 100 h of vllm 0.33 on NVIDIA H100 80GB HBM3"


def test_the_arguments_are_those_of_the_smaller_slice_with_the_same_cache() -> None:
    learned = dict(zip(found(taught=lessons(taught(exact_mib() + 1000))).args[::2], found().args[1::2], strict=False))

    assert learned["--kv-cache-memory-bytes"] == str(found().kv_bytes)


@pytest.mark.parametrize(
    "change",
    [
        {"pods": 1},
        {"hours": 23.0},
        {"setup": {"release": "0.32"}},
        {"setup": {"tp": 2}},
        {"setup": {"kv_dtype": "fp8"}},
        {"setup": {"card": "NVIDIA L40S"}},
        {"setup": {"extra": "enable-lora=true"}},
        {"setup": {"concurrency": 2}},
        {"max_len": 4096},
    ],
)
def test_too_little_or_something_else_makes_no_slice_smaller(change: dict[str, Any]) -> None:
    lesson = taught(exact_mib() + 1000)
    setup = replace(lesson.setup, **change.pop("setup", {}))

    assert found(taught=lessons(replace(lesson, setup=setup, **change))).slice_mib == found().slice_mib


def test_one_server_is_enough_to_make_a_slice_larger() -> None:
    most = found().slice_mib + 500
    lesson = replace(taught(most, limit_mib=most), pods=0, hours=0.0, running=1)

    assert found(taught=lessons(lesson)).slice_mib >= most + margin(lesson.beside_mib) - 1


def test_refused_memory_and_a_server_that_failed_keep_the_slice_from_shrinking() -> None:
    low = exact_mib() + 800
    refused, failed = taught(low, denied=1), taught(low, failed=True)

    assert found(taught=lessons(refused)).slice_mib > found().slice_mib
    assert found(taught=lessons(failed)).slice_mib >= found().slice_mib - 1
    assert found(taught=lessons(taught(low))).slice_mib < found().slice_mib


def test_one_odd_pod_at_most_doubles_what_is_beside_weights_and_cache_and_it_is_said() -> None:
    learned = found(taught=lessons(taught(70_000, limit_mib=80_000)))

    assert learned.slice_mib - exact_mib() <= 2 * (found().slice_mib - exact_mib()) + 2
    assert any("More was needed" in note for note in learned.notes)


def test_sglang_sets_its_reserve_aside_by_its_own_formula_so_its_lessons_only_enlarge() -> None:
    ask = replace(ASK, runtime="sglang")
    command = ("python3", "-m", "sglang.launch_server")
    args = ("--model-path", "Qwen/Qwen3-8B", *found(ask).args)
    lesson = taught(exact_mib(ask) + 1000, ask, command=command, args=args, image="lmsysorg/sglang:v0.5.23")

    assert found(ask, lessons(lesson)).slice_mib == found(ask).slice_mib
    assert found(ask, lessons(replace(lesson, beside_mib=5000))).slice_mib > found(ask).slice_mib


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (replace(a_server(20_000), model="nobody-knows"), UNKNOWN_MODEL),
        (replace(a_server(20_000), command=("sh", "-c", "vllm serve")), NO_ENGINE),
        (replace(a_server(20_000), args=("Qwen/Qwen3-8B", "--max-model-len", "8192")), NO_CACHE_SIZE),
        (replace(a_server(20_000), model="qwen3-8b;max-len=1"), UNREADABLE),
        (a_server(600), NOT_LOADED),
    ],
)
def test_what_teaches_nothing_has_a_reason(server: ServerPeak, reason: str) -> None:
    assert evidence_of(server, H100, shipped()) == reason


def test_further_options_and_the_image_are_part_of_the_setup() -> None:
    args = (*a_server(1).args, "--enable-lora", "--max-loras", "4")

    setup = taught(exact_mib() + 1000, args=args, image="vllm/vllm-openai:v0.32.1-cu130").setup

    assert (setup.extra, setup.release) == ("enable-lora=true max-loras=4", "0.32")


def test_without_a_card_nothing_is_taught() -> None:
    assert taught_by(Learned((taught(21_500),)), NAME, "") is None


def test_lessons_are_bounded_and_forgotten() -> None:
    old, new = (replace(taught(21_500), last_ms=ms) for ms in (1000, FORGET_MS))
    other = replace(new, setup=replace(new.setup, concurrency=9), last_ms=FORGET_MS + 5)

    assert kept(folded([old]), FORGET_MS + 1001, 10) == ()
    assert kept(folded([new, other]), FORGET_MS + 10, 1) == (other,)


SETUPS = st.builds(
    Setup,
    model=st.just(NAME),
    runtime=st.just("vllm"),
    release=st.just("0.33"),
    card=st.just(H100),
    concurrency=st.integers(1, 8),
    batched_tokens=st.sampled_from([2048, 4096]),
)
SMALL = st.integers(0, 6000)
LESSONS = st.builds(
    Lesson,
    setup=SETUPS,
    max_len=st.sampled_from([4096, 8192, 16384]),
    beside_mib=SMALL,
    refused_mib=SMALL,
    failed_mib=SMALL,
    kv_percent=st.none() | st.integers(0, 100),
    peak_mib=SMALL,
    slice_mib=SMALL,
    pod=st.sampled_from(["", "a/b"]),
    pods=st.integers(0, 5),
    hours=st.integers(0, 100).map(float),
    running=st.integers(0, 2),
    running_hours=st.integers(0, 50).map(float),
    first_ms=st.integers(0, 10**6),
    last_ms=st.integers(0, 10**6),
)


@given(st.lists(LESSONS, max_size=5))
def test_what_is_stored_is_read_again(each: list[Lesson]) -> None:
    learned = Learned(tuple(each), 3, 5.0, 7)

    assert parse_learned(render_learned(learned)) == learned_in(config_map(learned, "ns")) == learned


@given(st.lists(LESSONS, max_size=4), st.integers(1, 7), st.sampled_from([2048, 4096]))
def test_never_below_what_ran_and_more_load_never_takes_less(each: list[Lesson], concurrency: int, tokens: int) -> None:
    about = lessons(*folded(each).values())
    ask = replace(ASK, concurrency=concurrency, batched_tokens=tokens)
    learned, more = found(ask, about), found(replace(ask, concurrency=concurrency + 1), about)
    longer = found(replace(ask, max_len=9000), about)

    beside = learned.slice_mib - exact_mib(ask)
    bound = 2 * (found(ask).slice_mib - exact_mib(ask))
    ran = [one for one in folded(each).values() if one.setup.concurrency <= concurrency]
    ran = [one for one in ran if one.setup.batched_tokens <= tokens]
    assert beside + 1 >= min(max(map(need_of, ran), default=0), bound)
    assert more.slice_mib >= learned.slice_mib - 1
    assert longer.slice_mib >= learned.slice_mib - 1


@given(st.lists(LESSONS, min_size=1, max_size=4))
def test_the_order_of_lessons_does_not_matter_and_a_peak_that_is_read_twice_changes_nothing(each: list[Lesson]) -> None:
    def greatest(found: dict[Setup, Lesson]) -> dict[Setup, tuple[int, ...]]:
        return {
            key: (one.beside_mib, one.refused_mib, one.failed_mib, one.max_len, one.all_pods)
            for key, one in found.items()
        }

    silent = [replace(one, pods=0, hours=0.0, running=0, running_hours=0.0) for one in each]

    assert greatest(folded(each)) == greatest(folded(reversed(each))) == greatest(folded([*each, *silent]))
