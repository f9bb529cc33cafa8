"""Options by which an engine takes more than the sum counts. Kerf refuses them rather than size too small a slice."""

from collections.abc import Mapping

from kerf.sizing.cache import default_block
from kerf.sizing.request import SGLANG, VLLM
from kerf.sizing.shape import Kind, Shape

HALF = ("auto", "half", "float16", "bfloat16")
ONE = ("1",)
HARMLESS: dict[str, dict[str, tuple[str, ...]]] = {
    VLLM: {
        "dtype": HALF,  # 32 bits are twice the weights and the cache
        "mamba-cache-dtype": HALF,
        "mamba-ssm-cache-dtype": HALF,
        "mamba-cache-mode": ("auto", "none", "align"),
        "kv-cache-dtype-skip-layers": (),
        "num-gpu-blocks-override": (),
        "config": (),  # a file of options that nobody here can read
        "hf-config-path": (),  # the config of another model
        "cudagraph-capture-sizes": (),
        "max-cudagraph-capture-size": (),
        "specialize-active-lora": (),  # graphs for each number of adapters
        "decode-context-parallel-size": ONE,
        "dcp": ONE,
        "prefill-context-parallel-size": ONE,
        "pcp": ONE,
        "enable-eplb": (),
        "enable-dbo": (),
        "hf-overrides": (),
        "video-pruning-rate": ("0", "0.0"),
    },
    SGLANG: {
        "dtype": HALF,
        "config": (),
        "decrypted-config-file": (),
        "enable-fp32-lm-head": (),
        "mamba-ssm-dtype": HALF,
        "max-mamba-cache-size": (),
        "ep-num-redundant-experts": ("0",),
        "enable-dp-attention": (),
        "enable-dp-lm-head": (),
        "moe-dense-tp-size": (),
        "moe-dp-size": ONE,
        "moe-data-parallel-size": ONE,
        "attn-cp-size": ONE,
        "attention-context-parallel-size": ONE,
        "dcp-size": ONE,
        "decode-context-parallel-size": ONE,
        "cuda-graph-config": (),
        "cuda-graph-bs-decode": (),
        "cuda-graph-bs-prefill": (),
        "cuda-graph-max-bs-prefill": (),
        "json-model-override-args": (),
        "enable-two-batch-overlap": (),
        "quantize-and-serve": (),
    },
}
"""Each such option with the values that change nothing."""
IN_JSON = ("cudagraph_capture_sizes", "max_cudagraph_capture_size")
"""Of vLLM's --compilation-config."""


def uncounted(given: Mapping[str, str], runtime: str, shape: Shape) -> tuple[str, str] | None:
    """An option that the sum does not count, with its value; None where there is none."""
    rules = HARMLESS[runtime]
    kinds = {cache.kind for layer in shape.layers for cache in layer.caches}
    for option, value in given.items():
        name = option.partition(".")[0]
        if name in rules and value.lower() not in rules[name]:
            return option, value
        text = f"{option} {value}".replace("-", "_")
        if name in {"compilation-config", "cc"} and any(word in text for word in IN_JSON):
            return option, value
        if name == "block-size" and runtime == VLLM and value != str(default_block(shape)):
            return option, value
        if kinds & {Kind.SLIDING, Kind.CHUNKED} and _keeps_all(name, value):
            return option, value
    return None


def _keeps_all(option: str, value: str) -> bool:
    """Whether layers with a window are to keep more than the sum has for them."""
    if option == "swa-full-tokens-ratio":
        return value not in {"0.8", ".8"}
    return option in {"disable-hybrid-kv-cache-manager", "disable-hybrid-swa-memory"}
