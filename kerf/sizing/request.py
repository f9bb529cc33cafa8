"""What a user asks for, and the two engines whose rules are known."""

import re
from dataclasses import dataclass, replace

from kerf.sizing.quant import AT_LOAD
from kerf.wire.errors import WireError

VLLM, SGLANG = "vllm", "sglang"
VERSIONS = {VLLM: "0.33.0", SGLANG: "0.5.23"}
"""The version of each engine whose code the rules were read from and run against."""
BATCHED_TOKENS = 2048
"""Tokens of one step that `render` asks for: the engines' own smallest default, whatever card they see."""
MOST_CARDS, MOST_ADAPTERS = 64, 1024
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM 0.33.0 takes as --max-lora-rank."""
TP_CHOICES = (1, 2, 4, 8)
"""What is tried if the request names no tensor parallelism."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A model's server. None: what the model or the engine takes on its own."""

    runtime: str = VLLM
    version: str = ""
    max_len: int | None = None
    concurrency: int = 1
    tp: int | None = None
    pp: int = 1
    ep: int = 1
    spread: bool = False
    """Whole experts on each rank, however many ranks there are."""
    kv_dtype: str = "auto"
    quantization: str = ""
    batched_tokens: int = BATCHED_TOKENS
    card: str = ""
    card_mib: int | None = None
    loras: int = 0
    """LoRA adapters that are loaded at once."""
    lora_rank: int = 16
    """The largest rank of one."""


KV_TYPES = {
    VLLM: ("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_ds_mla", "nvfp4_ds_mla"),
    SGLANG: ("auto", "bf16", "bfloat16", "fp8_e4m3", "fp8_e5m2"),
}
"""Of what each engine's --kv-cache-dtype takes: those whose size is known. SGLang has no plain fp8."""


def checked(ask: Ask) -> Ask:
    """The same ask with every number in bounds and a known engine. Raises WireError."""
    known_runtime(ask.runtime)
    if ask.kv_dtype not in KV_TYPES[ask.runtime]:
        known = f"for {ask.runtime} {VERSIONS[ask.runtime]}; known are {', '.join(KV_TYPES[ask.runtime])}"
        raise WireError("kv-dtype", ask.kv_dtype, f"the size of this cache is not known {known}")
    bounds = (
        ("max-len", ask.max_len, 2**31 - 1),
        ("concurrency", ask.concurrency, 2**16),
        ("tp", ask.tp, MOST_CARDS),
        ("pp", ask.pp, MOST_CARDS),
        ("ep", ask.ep, MOST_CARDS),
        ("batched-tokens", ask.batched_tokens, 2**20),
        ("card-mib", ask.card_mib, 2**24),
    )
    for field, value, most in bounds:
        if value is not None and not 1 <= value <= most:
            raise WireError(field, value, f"write a whole number from 1 to {most}")
    if ask.quantization and ask.quantization not in AT_LOAD:
        raise WireError("quantization", ask.quantization, f"use one of {', '.join(AT_LOAD)}")
    _check_adapters(ask)
    if ask.ep > 1 and ask.tp is not None and ask.ep != ask.tp:
        raise WireError(
            "ep", ask.ep, f"use {ask.tp}, as --tp: one host's experts are spread over its tensor-parallel ranks"
        )
    tokens = ask.batched_tokens
    if ask.runtime == VLLM:
        tokens = max(tokens, ask.concurrency)  # vLLM 0.33.0 refuses fewer tokens of a step than requests at once
    return replace(ask, version=known_version(ask.runtime, ask.version), batched_tokens=tokens)


def _check_adapters(ask: Ask) -> None:
    if not 0 <= ask.loras <= MOST_ADAPTERS:
        raise WireError("loras", ask.loras, f"write a whole number from 0 to {MOST_ADAPTERS}")
    if ask.loras and ask.runtime != VLLM:
        raise WireError("loras", ask.loras, f"adapters are counted for {VLLM} alone: size the pod by hand")
    if ask.lora_rank not in LORA_RANKS:
        raise WireError("lora-rank", ask.lora_rank, f"use one of {', '.join(map(str, LORA_RANKS))}, as vLLM 0.33.0")


def known_runtime(runtime: str) -> None:
    """Raises WireError for an engine whose rules are not known."""
    if runtime not in VERSIONS:
        raise WireError("runtime", runtime, f"use one of {', '.join(VERSIONS)}")


def known_version(runtime: str, version: str) -> str:
    """The version whose rules apply: the same minor release as the one that was read. Raises WireError."""
    read = VERSIONS[runtime]
    if not version:
        return read
    found = re.fullmatch(r"[vV]?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6}))?(?:[.+-]?[a-z0-9.+-]{0,32})?", version)
    parts = read.split(".")
    depth = 2 if runtime == VLLM else 3
    if not found or [part or "0" for part in found.groups()[:depth]] != parts[:depth]:
        fix = f"the rules of {runtime} {read} are known; sizes and arguments differ between releases"
        raise WireError("runtime-version", version, fix)
    plain = version[1:] if version[0] in "vV" else version
    return f"{plain}.0" if plain.count(".") == 1 else plain  # images have three numbers


def release_of(runtime: str, version: str) -> str:
    """As much of a version as the rules are the same for; empty is the known one."""
    return ".".join((version or VERSIONS[runtime]).split(".")[: 2 if runtime == VLLM else 3])
