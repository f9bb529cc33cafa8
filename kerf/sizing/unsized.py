"""Families that the engines serve and that are refused by name, with what is missing for each.

Read from the model registries of vLLM 0.33.0 and SGLang 0.5.23 and from transformers 5.20.0's classes.
"""

import re

from kerf.sizing.config import Config

LINEAR = "its linear attention layers keep a state whose size is not read yet"
TOWER = "its vision or audio tower is not read yet; give the text part alone if the engine serves that"
MIXED = "its layers mix latent attention with a recurrent state, and the size of that state is not read yet"
GONE_FROM_VLLM = "vLLM 0.33.0 serves it no more, and it is not read for SGLang"
OLD = "it is older than grouped heads and gated networks, and its class was not compared"
NEEDS_HOPPER = "vLLM 0.33.0 and SGLang 0.5.23 have kernels of sparse latent attention from Hopper on: use H100, H20, …"
UNSERVED = {
    "bamba": "vLLM refuses it since 0.23.0, and SGLang 0.5.23 has no class for it: use an older engine, by hand"
}
"""Families whose weights are read and that neither engine serves."""
UNSIZED: dict[str, str] = {
    "deepseek_v41": "its layers share compressed keys and have tables of n-grams, which are not read yet",
    "minimax": GONE_FROM_VLLM,
    "kimi_linear": MIXED,
    "kimi_k3": MIXED,
    "bailing_hybrid": LINEAR,
    "qwen4_exp": LINEAR,
    "olmo_hybrid": LINEAR,
    "glm5_next": "its sparse attention's caches are not read yet",
    "longcat_flash": "it has two attention caches to a layer, which are not read yet",
    "mistral4": "its latent attention with scaled queries was not compared with a class yet",
    "gemma3n": "its layers share keys and values and have embeddings of their own, which are not read yet",
    "hunyuan_v1_moe": "its files give experts and widths by layer as lists, which are not read yet",
    "hy_v4": "its attention is not read yet",
    "step3p5": "its heads and windows differ by layer, which is not read yet",
    "step3p7": "its heads and windows differ by layer, which is not read yet",
    "step5": "its attention is not read yet",
    "nemotron-nas": "its heads and widths differ by layer (block_configs), which is not read yet",
    "bailing_moe": "its class was not compared yet",
    "bailing_moe_v2": "its class was not compared yet",
    "mimo_v2": "its class was not compared yet",
    "cwm": "vLLM 0.33.0 serves it by transformers' class alone, whose memory is not read yet",
    "gpt2": OLD,
    "gpt_neox": OLD,
    "gptj": OLD,
    "opt": OLD,
    "bloom": OLD,
    "falcon": OLD,
    "stablelm": OLD,
    "laguna": "its heads differ by layer, which is not read yet",
    "jamba": "its Mamba layers of the first kind keep a state whose size is not read yet",
    "mamba": "its Mamba layers of the first kind keep a state whose size is not read yet",
    "mamba2": "a model without attention has no cache of keys and values, which the sum does not cover yet",
    "falcon_mamba": "its Mamba layers of the first kind keep a state whose size is not read yet",
    "zamba2": "its attention layers share weights, which is not read yet",
    "dots1": GONE_FROM_VLLM,
    "llava": TOWER,
    "internvl_chat": TOWER,
    "intern_s1": TOWER,
    "idefics3": TOWER,
    "smolvlm": TOWER,
    "paligemma": TOWER,
    "pixtral": TOWER,
    "kimi_vl": TOWER,
    "dots_ocr": TOWER,
    "granite_speech": TOWER,
    "glm4v": TOWER,
    "glm4v_moe": TOWER,
    "glm46v": TOWER,
    "qwen2_5_omni": TOWER,
    "qwen3_omni_moe": TOWER,
    "qwen3_asr": TOWER,
    "phi4_multimodal": TOWER,
    "phi4mm": TOWER,
    "minicpmv": TOWER,
    "llava_next": TOWER,
    "llava_onevision": TOWER,
    "molmo2": TOWER,
    "mllama": GONE_FROM_VLLM,
    "ernie4_5_vl_moe": TOWER,
    "cohere2_vision": TOWER,
    "lfm2_vl": TOWER,
    "paddleocr_vl": TOWER,
    "deepseek_ocr2": TOWER,
    "deepseek_vl_v2": TOWER,
    "muse_spark": TOWER,
    "inkling": TOWER,
    "nemotron_h_omni": TOWER,
}
"""`model_type` to what is missing. A name with `_text` or `_vl` behind one of these means the same."""


DRAFTS = re.compile(r"LMEagle3?$|^eagle3?$|^Eagle3?\w*ForCausalLM$|medusa|speculator|dspark|dflash", re.IGNORECASE)
"""Of names of models that only guess ahead for another one."""


def not_served(top: Config) -> str:
    """Why a config is none of a model that an engine serves by itself; empty where it may be one."""
    names = (top.text("model_type"), top.text("speculators_model_type"), *(top.words("architectures") or ()))
    if top.has("peft_type"):
        base = top.values.get("base_model_name_or_path")
        return f"this is an adapter: name its base model ({base}), and count it with --loras and --lora-rank"
    if top.has("_class_name", "_diffusers_version"):
        return "this is a part of a pipeline of several models (diffusers), which no engine's planner sizes"
    if any(map(DRAFTS.search, names)) or top.has("speculators_model_type"):
        return "this is a draft model, which an engine loads beside another one: it is not sized"
    return ""


def missing_of(kind: str) -> str:
    """What is missing for a family; empty where nothing is known of it."""
    for name in (kind, kind.removesuffix("_text"), kind.removesuffix("_vl"), kind.removesuffix("_vl_text")):
        if name in UNSIZED:
            return UNSIZED[name]
    return ""
