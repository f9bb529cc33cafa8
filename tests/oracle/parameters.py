"""`make oracle`: counts the parameters of transformers' own classes, on the meta device, for the catalogue and more.

Runs in a virtual environment of its own; writes the table that tests/kerf/sizing compares with ours.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1")
warnings.simplefilter("ignore")

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402

CLASSES = """
llama arcee mistral ministral3 mixtral qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next gemma gemma2 gemma3_text phi phi3
granite granitemoehybrid smollm3 olmo2 olmo3 olmoe exaone4 cohere cohere2 glm glm4 glm4_moe glm4_moe_lite deepseek_v2
deepseek_v3 deepseek_v32 glm_moe_dsa minimax_m2 gpt_oss llama4_text ernie4_5 ernie4_5_moe seed_oss starcoder2
nemotron_h falcon_h1 bamba lfm2 gemma3 gemma4_text qwen2_vl qwen2_5_vl qwen3_vl qwen3_5 qwen3_5_moe voxtral bert roberta
xlm-roberta modernbert jina_embeddings_v3 whisper granitemoe exaone_moe apertus phimoe afmoe hy_v3
"""
"""Every family that has a class with defaults that can be built."""
MORE = (
    ("hunyuan_v1_dense", {"head_dim": 128}),
    ("granitemoeshared", {"shared_intermediate_size": 1024}),
    ("phimoe", {"attention_bias": True, "lm_head_bias": True}),
    ("apertus", {"num_key_value_heads": 8, "tie_word_embeddings": True}),
    ("gemma4_text", {"num_kv_shared_layers": 10, "use_double_wide_mlp": True}),
    ("gemma4_text", {"attention_k_eq_v": True, "num_global_key_value_heads": 2, "hidden_size_per_layer_input": 0}),
    ("gemma4_text", {"enable_moe_block": True, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 512}),
)
"""Classes again, with what changes which layers hold which matrices."""
HEADLESS = {"bert", "roberta", "xlm-roberta", "modernbert", "jina_embeddings_v3"}
NOISE = (
    "id2label",
    "label2id",
    "transformers_version",
    "_name_or_path",
    "output_hidden_states",
    "return_dict",
    "architectures",
)


def parameters(config) -> int:
    """Parameters of the class that serves this config; shared ones count once."""
    autos = (
        transformers.AutoModelForImageTextToText,
        transformers.AutoModelForSpeechSeq2Seq,
        transformers.AutoModelForCausalLM,
        transformers.AutoModel,
    )
    for auto in autos:
        if config.model_type in HEADLESS and auto is not transformers.AutoModel:
            continue
        if type(config) in auto._model_mapping:
            with torch.device("meta"):
                model = auto.from_config(config)
            return sum(part.numel() for part in model.parameters())
    raise ValueError(config.model_type)


def clean(value):
    """A config without what says nothing of its size."""
    if isinstance(value, dict):
        return {key: clean(one) for key, one in value.items() if key not in NOISE}
    return None if value == float("inf") else value


def from_row(config: dict):
    """The class's config of a catalogue row; kimi_k2 has the shape of deepseek_v3."""
    config = {key: value for key, value in config.items() if key not in {"quantization_config", "auto_map"}}
    kind = {"kimi_k2": "deepseek_v3"}.get(config["model_type"], config["model_type"])
    return CONFIG_MAPPING[kind].from_dict({**config, "model_type": kind})


def main(catalogue: Path, out: Path) -> None:
    rows = {path.stem: json.loads(path.read_text())["config"] for path in sorted(catalogue.glob("*.json"))}
    found = {"package": f"transformers {transformers.__version__}", "catalogue": {}, "classes": {}}
    for name, config in rows.items():
        found["catalogue"][name] = parameters(from_row(config))
    for kind in CLASSES.split():
        config = CONFIG_MAPPING[kind]()
        shown = clean(json.loads(config.to_json_string(use_diff=False)))
        found["classes"][kind] = {"params": parameters(config), "config": shown}
    for number, (kind, changes) in enumerate(MORE):
        config = CONFIG_MAPPING[kind](**changes)
        shown = clean(json.loads(config.to_json_string(use_diff=False)))
        found["classes"][f"{kind} {number}"] = {"params": parameters(config), "config": shown}
    out.write_text(json.dumps(found, indent=None, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
