"""Pages of vLLM and SGLang to what they say, by the old names and the new ones.

vLLM: every series is per rank (`engine`), from the start, and counters move while tokens are generated; cached tokens
are inside the prompt's. SGLang: series with a `priority` are parts of the one without; ranks other than 0 repeat it
where all schedulers report; prompt and generated tokens move when a request ends.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from kerf.values.engine import EngineReading, ModelReading, Tokens
from kerf.values.subject import SGLANG
from kerf.wire.exposition import Sample, parse_exposition

_MODEL = "model_name"
_VLLM: Mapping[str, tuple[str, ...]] = {
    "prompt": ("vllm_prompt_tokens_total", "vllm_prompt_tokens"),
    "cached": ("vllm_prompt_tokens_cached_total", "vllm_prompt_tokens_cached"),
    "output": ("vllm_generation_tokens_total", "vllm_generation_tokens"),
    "running": ("vllm_num_requests_running",),
    "kv": ("vllm_kv_cache_usage_perc", "vllm_gpu_cache_usage_perc"),
}
_SGLANG: Mapping[str, tuple[str, ...]] = {
    "prompt": ("sglang_prompt_tokens_total", "sglang_prompt_tokens"),
    "cached": ("sglang_cached_tokens_total", "sglang_cached_tokens"),
    "output": ("sglang_generation_tokens_total", "sglang_generation_tokens"),
    "running": ("sglang_num_running_reqs",),
    "kv": ("sglang_token_usage",),
}
_RANKS = ("tp_rank", "pp_rank", "moe_ep_rank")
_MOST = 2**62


def parse_engine(text: str, engine: str) -> EngineReading:
    """The reading of a page. Never raises: what is not there counts as nothing."""
    samples = parse_exposition(text)
    return _sglang(samples) if engine == SGLANG else _vllm(samples)


def _vllm(samples: Sequence[Sample]) -> EngineReading:
    names = {_model(sample) for sample in samples if sample.name in _names(_VLLM)}
    by_reason = [s for s in samples if s.name == "vllm_num_requests_waiting_by_reason"]
    capacity = [s for s in by_reason if s.labels.get("reason") == "capacity"]
    waiting = capacity or [s for s in samples if s.name == "vllm_num_requests_waiting"]
    models = tuple(_reading(name, samples, _VLLM, waiting) for name in sorted(names))
    return EngineReading(models, asleep=_asleep(samples))


def _sglang(samples: Sequence[Sample]) -> EngineReading:
    whole = [sample for sample in samples if not sample.labels.get("priority") and not _repeats(sample)]
    names = {_model(sample) for sample in whole if sample.name in _names(_SGLANG)}
    waits = ("sglang_num_queue_reqs", "sglang_num_grammar_queue_reqs")
    waiting = [sample for sample in whole if sample.name in waits]
    return EngineReading(tuple(_reading(name, whole, _SGLANG, waiting) for name in sorted(names)))


def _reading(
    model: str, samples: Sequence[Sample], names: Mapping[str, tuple[str, ...]], waiting: Iterable[Sample]
) -> ModelReading:
    def of(key: str) -> list[float]:
        for name in names[key]:  # the first name that the page has
            if found := [s.value for s in samples if s.name == name and _model(s) == model]:
                return found
        return []

    prompt, cached = _count(sum(of("prompt"))), _count(sum(of("cached")))
    tokens = Tokens(max(prompt - cached, 0), min(cached, prompt), _count(sum(of("output"))))
    waits = _count(sum(s.value for s in waiting if _model(s) == model))
    kv = min(max(of("kv"), default=0.0), 1.0)
    return ModelReading(model, tokens, waits, _count(sum(of("running"))), max(kv, 0.0))


def _asleep(samples: Iterable[Sample]) -> bool:
    """vLLM: awake is 0 and some other state is 1, on every rank that says."""
    states: dict[str, float] = defaultdict(float)
    for sample in samples:
        if sample.name == "vllm_engine_sleep_state":
            states[sample.labels.get("sleep_state", "")] += sample.value
    return bool(states) and not states.get("awake") and any(states.values())


def _repeats(sample: Sample) -> bool:
    return any(sample.labels.get(rank, "0") not in ("0", "") for rank in _RANKS)


def _names(names: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    return frozenset(name for group in names.values() for name in group)


def _model(sample: Sample) -> str:
    return sample.labels.get(_MODEL, "")


def _count(value: float) -> int:
    return min(max(int(value), 0), _MOST)
