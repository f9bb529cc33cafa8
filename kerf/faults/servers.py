"""Signs of a fault in an inference server: lines of its log, and a health page that says well while no token moves.

A server's own words are no proof against a card: they are warnings on its pod and node, unless the policy says
otherwise for code 0 (`spec.recovery.codes`).
"""

import re
from dataclasses import dataclass

from kerf.wire.exposition import parse_exposition

_ERRORS = re.compile(
    r"CUDA error: (?:an illegal memory access was encountered|the launch timed out and was terminated|"
    r"device-side assert triggered|unspecified launch failure|uncorrectable ECC error encountered|"
    r"unknown error|all CUDA-capable devices are busy or unavailable|GPU is lost)"
    r"|CUDA_ERROR_(?:ILLEGAL_ADDRESS|LAUNCH_FAILED|LAUNCH_TIMEOUT|ECC_UNCORRECTABLE|DEVICE_UNAVAILABLE|NOT_PERMITTED|"
    r"MPS_CLIENT_TERMINATED|CONTAINED)"
    r"|cuDNN error: \w+|CUBLAS_STATUS_EXECUTION_FAILED"
    r"|NCCL (?:error|WARN .{0,80}(?:abort|Connection closed|unhandled))|ncclRemoteError|ncclUnhandledCudaError"
    r"|Watchdog caught collective operation timeout|unhandled cuda error",
    re.IGNORECASE,
)
_CRI = re.compile(r"\d{4}-\S+ (?:stdout|stderr) [FP] ")
"""What container runtimes write before a line."""
_RUNNING = ("vllm_num_requests_running", "sglang_num_running_reqs")
_TOKENS = (
    "vllm_generation_tokens_total",
    "vllm_generation_tokens",
    "sglang_generation_tokens_total",
    "sglang_generation_tokens",
    "sglang_inter_token_latency_seconds_count",
)
"""What moves with tokens. SGLang counts a request's tokens when it ends; the time between two of them at once."""
LONGEST_LINE = 4096
STALL_S = 60.0
"""Requests run, and no token moved for so long: longer than the prefill of a long prompt."""


def error_in(line: str) -> str:
    """The error of CUDA, cuDNN or NCCL that a line of a log reports; empty where it reports none."""
    text = _CRI.sub("", line[:LONGEST_LINE], count=1)
    found = _ERRORS.search(text)
    return found[0] if found else ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a server says of itself: whether its health page answers, requests that run, and what moves with tokens."""

    at: float
    healthy: bool
    running: float
    tokens: float


def parse_sample(at: float, healthy: bool, metrics: str) -> Sample | None:
    """A sample from a metrics page in Prometheus' format; None for a server that does not count tokens."""
    samples = parse_exposition(metrics)
    tokens = [sample.value for sample in samples if sample.name in _TOKENS]
    running = sum(sample.value for sample in samples if sample.name in _RUNNING)
    return Sample(at, healthy, running, sum(tokens)) if tokens else None


@dataclass(frozen=True, slots=True)
class Progress:
    """How a server gets on. `since` is when its tokens last moved, or when it had nothing to do."""

    tokens: float = -1.0
    since: float = 0.0

    def after(self, sample: Sample) -> "Progress":
        """With one more sample."""
        moved = sample.tokens != self.tokens or sample.running <= 0
        return Progress(sample.tokens, sample.at if moved else self.since)

    def stalled(self, sample: Sample) -> str:
        """In words, that the server says it is well while its requests do not get on; empty otherwise."""
        still = sample.at - self.since
        if not sample.healthy or sample.running <= 0 or sample.tokens != self.tokens or still < STALL_S:
            return ""
        return f"its health page answers, requests run, and no token moved for {STALL_S:.0f} seconds"
