"""How a container starts vLLM or SGLang: what its arguments say already, and which of ours are missing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kerf.sizing.named import MODEL, Named
from kerf.sizing.options import free_word, number, options_of
from kerf.sizing.quant import AT_LOAD
from kerf.sizing.request import SGLANG, VLLM, Ask
from kerf.values.subject import engine_of_image
from kerf.wire.errors import WireError

SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh"})
MODULES = {"vllm.entrypoints.openai.api_server": VLLM, "sglang.launch_server": SGLANG}
ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    VLLM: {
        "tensor-parallel-size": ("tp",),
        "pipeline-parallel-size": ("pp",),
        "gpu-memory-utilization": ("device-memory-utilization",),
        "quantization": ("q",),
        "enable-expert-parallel": ("ep",),
        "disable-custom-all-reduce": ("enable-custom-all-reduce",),
    },
    SGLANG: {
        "tp-size": ("tensor-parallel-size", "tp"),
        "pp-size": ("pipeline-parallel-size", "pp"),
        "ep-size": ("expert-parallel-size", "ep"),
    },
}
"""Further spellings of an option, from the parsers of vLLM 0.33.0 and SGLang 0.5.23."""
COPIES: dict[str, tuple[str, ...]] = {
    VLLM: ("data-parallel-size-local", "dpl", "data-parallel-size", "dp"),
    SGLANG: ("dp-size", "data-parallel-size", "dp"),
}
"""Options that say how many copies of the model a container runs; the first that is given counts."""
ASKED: dict[str, dict[str, str]] = {
    VLLM: {
        "max_len": "max-model-len",
        "concurrency": "max-num-seqs",
        "batched_tokens": "max-num-batched-tokens",
        "tp": "tensor-parallel-size",
        "pp": "pipeline-parallel-size",
        "loras": "max-loras",
        "lora_rank": "max-lora-rank",
    },
    SGLANG: {
        "max_len": "context-length",
        "concurrency": "max-running-requests",
        "batched_tokens": "chunked-prefill-size",
        "tp": "tp-size",
        "pp": "pp-size",
        "ep": "ep-size",
    },
}
"""Field of the ask to the option that says the same."""
DRAFTS = {
    VLLM: ("speculative-config", "spec-method", "spec-model"),
    SGLANG: ("speculative-algorithm", "speculative-draft-model"),
}
"""Beginnings of the options that say how the engine speculates."""
ADAPTERS = ("enable-lora", "lora-paths")
"""Options by which SGLang loads adapters, which are not counted for it."""
GUESSES = re.compile(r"\b(?:ngram(?:_gpu)?|suffix)\b", re.IGNORECASE)
"""Ways to speculate from the text alone."""
KEY_OF = {"max_len": "max-len", "batched_tokens": "batched-tokens", "kv_dtype": "kv-dtype", "lora_rank": "lora-rank"}
AT_MOST = frozenset({
    "gpu-memory-utilization", "kv-cache-memory-bytes", "mem-fraction-static", "max-total-tokens",
    "cuda-graph-max-bs-decode",
})  # fmt: skip
"""Options that may be smaller than ours. A larger one does not fit the slice."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A container that starts an engine. `words` are the arguments behind the engine's own name."""

    runtime: str
    words: tuple[str, ...]
    positional: bool
    """Whether the model is an argument without an option, as for `vllm serve`."""
    start: int | None
    """Where in the container's arguments those of the engine start, None where its command has some already."""

    @property
    def options(self) -> dict[str, str]:
        """What the arguments say."""
        return options_of(self.words, self.runtime)

    @property
    def model(self) -> str:
        """The model that the arguments name, empty where they name none."""
        given, free = self.options, free_word(self.words, self.runtime) if self.positional else ""
        if self.runtime == SGLANG and self.words and not self.words[0].startswith("-"):
            free = self.words[0]  # SGLang 0.5.23 takes the model as the first word alone: `sglang serve MODEL --…`
        return free or given.get("model-path") or given.get("model") or ""


def launch_of(command: Sequence[Any], args: Sequence[Any], image: str) -> Launch | None:
    """The engine that a container starts, None where it is no engine that we know, or a shell's script."""
    words = tuple(str(word) for word in (*command, *args))
    if not command:
        engine = engine_of_image(image)
        return Launch(engine, words, positional=True, start=0) if engine else None
    first = words[0].rpartition("/")[2]
    if first in SHELLS:
        return None
    if words[1:2] == ("serve",) and first in {VLLM, SGLANG}:
        return Launch(first, words[2:], positional=first == VLLM, start=_start(2, command))
    for i, word in enumerate(words[:-1]):
        if word == "-m" and (runtime := MODULES.get(words[i + 1])):
            return Launch(runtime, words[i + 2 :], positional=False, start=_start(i + 2, command))
    return None


def _start(at: int, command: Sequence[Any]) -> int | None:
    return at - len(command) if len(command) <= at else None


def asked_by(launch: Launch, named: Named, *, plain: bool) -> Ask:
    """What the annotation and the arguments ask together. Raises WireError where they say two things.

    `plain`: the weights are stored with 16 bits, so `--quantization` changes what they take.
    """
    ask, given = named.ask, launch.options
    if "runtime" in named.given and ask.runtime != launch.runtime:
        raise _conflict("runtime", ask.runtime, launch.runtime)
    ask = replace(ask, runtime=launch.runtime)
    for to, option in ASKED[launch.runtime].items():
        value = number(given, (option, *ALIASES[launch.runtime].get(option, ())), launch.runtime)
        key = KEY_OF.get(to, to)
        if value is None:
            continue
        if key in named.given and getattr(ask, to) != value:
            raise _conflict(key, getattr(ask, to), f"--{option} {value}")
        ask = replace(ask, **{to: value})  # type: ignore[arg-type] # every field of ASKED is a number
    _refuse_copies(launch, given)
    _refuse_drafts(launch, given)
    ask = _with_adapters(ask, named, launch, given)
    spread = launch.runtime == VLLM and ("enable-expert-parallel" in given or "ep" in given)
    ask = replace(ask, spread=spread)
    if launch.runtime == VLLM and ASKED[VLLM]["batched_tokens"] in given and ask.batched_tokens < ask.concurrency:
        fix = f"vLLM starts with no fewer than the {ask.concurrency} requests at once (--max-num-seqs): raise it"
        raise WireError("--max-num-batched-tokens", ask.batched_tokens, fix)
    return _with_dtypes(ask, named, given, plain=plain)


def _with_dtypes(ask: Ask, named: Named, given: dict[str, str], *, plain: bool) -> Ask:
    kv_dtype = given.get("kv-cache-dtype", "auto")
    if kv_dtype != "auto":
        if "kv-dtype" in named.given and ask.kv_dtype != kv_dtype:
            raise _conflict("kv-dtype", ask.kv_dtype, f"--kv-cache-dtype {kv_dtype}")
        ask = replace(ask, kv_dtype=kv_dtype)
    if plain and not ask.quantization:
        ask = replace(ask, quantization=at_load(given, ask.runtime))
    return ask


def at_load(given: dict[str, str], runtime: str) -> str:
    """What an engine makes of 16-bit weights when it loads them; empty where the arguments say nothing of it."""
    names = ("quantization", *ALIASES[runtime].get("quantization", ()))
    found = next((given[name] for name in names if name in given), "")
    return found if found in AT_LOAD else ""


def _refuse_copies(launch: Launch, given: dict[str, str]) -> None:
    """Data parallelism in one container: each copy of the model would need cards of its own."""
    if launch.runtime == SGLANG and "enable-dp-attention" in given:
        return
    option = next((name for name in COPIES[launch.runtime] if name in given), "")
    if option and given[option] not in {"0", "1"}:
        fix = f"{MODEL} sizes one copy of the model to a pod: drop it, and run more replicas"
        raise WireError(f"--{option}", given[option], fix)


def _with_adapters(ask: Ask, named: Named, launch: Launch, given: dict[str, str]) -> Ask:
    """The adapters that the container loads, or that the annotation asks for."""
    if launch.runtime == SGLANG:
        option = next((name for name in ADAPTERS if name in given), "")
        if option:
            fix = f"{MODEL} counts adapters for vLLM alone: drop the annotation, and write the pod's memory"
            raise WireError(f"--{option}", given[option], fix)
        return ask
    if "enable-lora" in given:
        return replace(ask, loras=ask.loras or 1)  # vLLM 0.33.0's own default
    return ask if "loras" in named.given else replace(ask, loras=0)


def _refuse_drafts(launch: Launch, given: dict[str, str]) -> None:
    """A draft model, or a layer that predicts ahead, has weights and a cache of its own."""
    if found := draft_in(given, launch.runtime):
        fix = f"{MODEL} does not count what speculates: drop it, or drop the annotation and write the pod's memory"
        raise WireError(f"--{found[0]}", found[1], fix)


def draft_in(given: dict[str, str], runtime: str) -> tuple[str, str] | None:
    """The option by which the engine speculates with a model or a layer, and its value; None where it does not."""
    found = {name: value for name, value in given.items() if name.startswith(DRAFTS[runtime])}
    return next(iter(found.items())) if found and not GUESSES.search(" ".join(found.values())) else None


def _conflict(key: str, asked: object, written: str) -> WireError:
    fix = f"the container says {written}; write the same in both, or drop one"
    return WireError(f"metadata.annotations[{MODEL}].{key}", str(asked), fix)


def missing(launch: Launch, wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of our arguments that the container does not give. Raises WireError where it gives one that cannot fit."""
    given = launch.options
    out: list[str] = []
    for option, value in pairs(wanted):
        names = (option, *ALIASES[launch.runtime].get(option, ()))
        written = next((given[name] for name in names if name in given), None)
        if written is None:
            out += [f"--{option}", value] if value else [f"--{option}"]
        elif option in AT_MOST:
            _refuse_more(option, written, value)
    return tuple(out)


def pairs(args: Sequence[str]) -> list[tuple[str, str]]:
    """Our own arguments as options with their values; "" for an option without one."""
    found: list[tuple[str, str]] = []
    for word in args:
        if word.startswith("--"):
            found.append((word[2:], ""))
        else:
            found[-1] = (found[-1][0], word)
    return found


def _refuse_more(option: str, written: str, fits: str) -> None:
    try:
        more = float(written) > float(fits)
    except ValueError as error:
        raise WireError(f"--{option}", written, f"write a plain number, at most {fits}, or drop it") from error
    if more:
        raise WireError(f"--{option}", written, f"the slice holds at most {fits}: drop it, or ask for more")
