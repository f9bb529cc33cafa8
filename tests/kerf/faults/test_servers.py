"""What logs and metrics of inference servers say of faults."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.faults.servers import STALL_S, Progress, Sample, error_in, parse_sample


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            "2026-11-27T12:00:00.123Z stderr F RuntimeError: CUDA error: an illegal memory access was encountered",
            "CUDA error: an illegal memory access was encountered",
        ),
        ("torch.AcceleratorError: CUDA error: unspecified launch failure", "CUDA error: unspecified launch failure"),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        (
            "[rank1] Watchdog caught collective operation timeout: WorkNCCL(",
            "Watchdog caught collective operation timeout",
        ),
        ("RuntimeError: NCCL error in: ../torch/csrc/ProcessGroupNCCL.cpp:1970", "NCCL error"),
        ("INFO 11-27 12:00:00 Avg generation throughput: 42.0 tokens/s", ""),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", ""),
        ("NCCL INFO Connected all rings", ""),
    ],
)
def test_errors_of_cuda_and_nccl_are_found_and_a_server_that_is_full_is_no_fault(line: str, error: str):
    assert error_in(line) == error


VLLM = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:generation_tokens_total{engine="0",model_name="m"} 1200.0
vllm:generation_tokens_total{engine="1",model_name="m"} 34.0
"""


def test_a_sample_sums_a_servers_engines_and_other_programs_have_none():
    assert parse_sample(5.0, True, VLLM) == Sample(5.0, True, 3.0, 1234.0)
    assert parse_sample(5.0, True, "sglang:num_running_reqs 1\nsglang:generation_tokens_total 7") == Sample(
        5, True, 1, 7
    )
    assert parse_sample(5.0, True, "python_info 1.0\n") is None


SGLANG = """sglang:num_running_reqs{model_name="m"} 1.0
sglang:generation_tokens_total{model_name="m"} 7.0
sglang:inter_token_latency_seconds_count{model_name="m"} {between}
sglang:inter_token_latency_seconds_bucket{le="0.1",model_name="m"} 3.0
"""


def test_a_long_request_of_sglang_moves_although_its_tokens_are_counted_at_its_end():
    pages = [SGLANG.replace("{between}", between) for between in ("100.0", "900.0", "900.0")]
    samples = [parse_sample(at, True, page) for at, page in zip((0.0, 70.0, 140.0), pages, strict=True)]

    assert samples[0] == Sample(0.0, True, 1.0, 107.0)
    assert [bool(said) for said in words(*(one for one in samples if one))] == [False, False, True]


def words(*samples: Sample) -> list[str]:
    progress, found = Progress(), []
    for sample in samples:
        progress = progress.after(sample)
        found.append(progress.stalled(sample))
    return found


def test_a_server_that_says_it_is_well_while_no_token_moves_is_stalled():
    assert words(Sample(0, True, 3, 9), Sample(59, True, 3, 9), Sample(60, True, 3, 9)) == [
        "",
        "",
        "its health page answers, requests run, and no token moved for 60 seconds",
    ]


@pytest.mark.parametrize(
    "last",
    [Sample(90, True, 3, 10), Sample(90, True, 0, 9), Sample(90, False, 3, 9)],
    ids=["a token moved", "it is idle", "it says itself that it is not well"],
)
def test_other_servers_are_not(last: Sample):
    assert words(Sample(0, True, 3, 9), last)[-1] == ""


def test_the_time_in_which_a_server_was_idle_is_no_stall():
    assert words(Sample(0, True, 3, 9), Sample(50, True, 0, 9), Sample(61, True, 3, 9), Sample(110, True, 3, 9)) == [
        "",
        "",
        "",
        "its health page answers, requests run, and no token moved for 60 seconds",
    ]


STEPS = st.tuples(
    st.sampled_from([10.0, 20.0, 59.0]), st.booleans(), st.sampled_from([0, 2, 2, 2]), st.sampled_from([7, 7, 7, 8])
)
"""Mostly of a server that stalls."""


@given(st.lists(STEPS, max_size=20))
def test_a_stall_is_never_said_before_its_time(steps):
    at, samples = 0.0, []
    for wait, healthy, running, tokens in steps:
        at += wait
        samples.append(Sample(at, healthy, running, tokens))
    for number, said in enumerate(words(*samples)):
        last = samples[number]
        window = [one for one in samples[: number + 1] if one.at > last.at - STALL_S]
        assert not said or all((one.tokens, one.running > 0) == (last.tokens, True) for one in window)
