"""`make oracle`: GGUF headers that the gguf package writes for small models of transformers' own classes.

For each architecture the table has the header's bytes, what gguf's own reader says of each tensor, and what
transformers reads of the metadata. Tensors have the mixed types of a Q4_K_M file. No values are kept.
"""

import base64
import json
import os
import sys
import tempfile
import zlib
from importlib.metadata import version
from pathlib import Path

os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1")

import gguf
import numpy as np
import torch
import transformers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SIZES = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 384,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 256}
CASES = {
    "llama": ("llama", {}),
    "mixtral": ("llama", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2": ("qwen2", {}),
    "qwen2_moe": ("qwen2moe", {"num_experts": 4, "shared_expert_intermediate_size": 512, **EXPERTS}),
    "qwen3": ("qwen3", {}),
    "qwen3_moe": ("qwen3moe", {"num_experts": 4, **EXPERTS}),
    "gemma": ("gemma", {}),
    "gemma2": ("gemma2", {"sliding_window": 1024}),
    "gemma3_text": ("gemma3", {"sliding_window": 512}),
    "phi3": ("phi3", {}),
    "starcoder2": ("starcoder2", {}),
    "cohere": ("command-r", {}),
    "cohere2": ("cohere2", {"sliding_window": 1024}),
    "olmo2": ("olmo2", {}),
    "glm4": ("glm4", {}),
    "granite": ("granite", {}),
    "smollm3": ("smollm3", {}),
    "gpt_oss": ("gpt-oss", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 128}),
}
"""model_type to the architecture's name in GGUF and what its config needs beside the sizes."""


def named(config, architecture: str):
    """Every tensor of transformers' class under its GGUF name: (name, shape)."""
    by_name = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(by_name[architecture], config.num_hidden_layers)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    for given, part in model.named_parameters():
        shape, name = tuple(part.shape), given.replace("up_proj_bias", "up_proj.bias")
        name = name.replace("down_proj_bias", "down_proj.bias")
        if ".experts." in name and "gate_up_proj" in name:
            block, kind = name.split(".")[2], "bias" if name.endswith("bias") else "weight"
            half = (shape[0], shape[1] // 2, *shape[2:]) if kind == "weight" and shape[1] < shape[-1] * 9 else shape
            if kind == "bias" or shape[1] == config.hidden_size:  # gpt_oss: experts x hidden x (gate and up)
                half = (*shape[:-1], shape[-1] // 2) if kind == "bias" else (shape[0], shape[2] // 2, shape[1])
            yield f"blk.{block}.ffn_gate_exps.{kind}", half
            yield f"blk.{block}.ffn_up_exps.{kind}", half
            continue
        stem, _, kind = name.rpartition(".")
        if kind not in {"weight", "bias"}:
            stem, kind = name, "weight"
        found = names.get_name(stem) or names.get_name(stem.replace("sinks", "sinks.weight"))
        if found is None:
            raise ValueError(f"{architecture}: {name} has no GGUF name")
        yield f"{found}.{kind}", shape


def kind_of(name: str, shape: tuple[int, ...]):
    """The type as a Q4_K_M file would have it."""
    if len(shape) == 1 or name.endswith("bias") or "ffn_gate_inp" in name:
        return gguf.GGMLQuantizationType.F32
    if name in {"token_embd.weight", "output.weight"}:
        return gguf.GGMLQuantizationType.Q6_K
    even = name.startswith("blk.") and int(name.split(".")[1]) % 2 == 0
    if even and ("attn_v" in name or "ffn_down" in name):
        return gguf.GGMLQuantizationType.Q6_K
    return gguf.GGMLQuantizationType.Q4_K if shape[-1] % 256 == 0 else gguf.GGMLQuantizationType.Q5_0


def write(path: Path, config, architecture: str) -> int:
    """A file of zeros with this model's header. Returns the header's length."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(getattr(config, "moe_intermediate_size", config.intermediate_size))
    if getattr(config, "shared_expert_intermediate_size", None):
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    for name, shape in named(config, architecture):
        kind = kind_of(name, shape)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = int(torch.Size(shape).numel())
        stored = gguf.quant_shape_to_byte_shape(shape, kind) if block > 1 else shape
        writer.add_tensor_info(name, stored, _numpy(kind), count // block * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header = path.stat().st_size
    ends = sum(-(-each.nbytes // 32) * 32 for shard in writer.tensors for each in shard.values())
    with path.open("r+b") as file:
        file.truncate(-(-header // 32) * 32 + ends)
    return header


def _numpy(kind):
    return np.dtype("float32") if kind == gguf.GGMLQuantizationType.F32 else np.dtype("uint8")


def case(model_type: str, architecture: str, more: dict) -> dict:
    """One architecture's row of the table."""
    config = CONFIG_MAPPING[model_type](**{**SIZES, **more})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        header = write(path, config, architecture)
        tensors = [[each.name, each.tensor_type.name, int(each.n_bytes)] for each in gguf.GGUFReader(path).tensors]
        try:
            read = load_gguf_checkpoint(str(path), return_tensors=False)["config"]
        except ValueError as error:
            read = {"refused": str(error)[:120]}
        body = path.read_bytes()[:header]
        size = path.stat().st_size
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return {
        "header": base64.b64encode(zlib.compress(body, 9)).decode(),
        "size": size,
        "tensors": tensors,
        "params": sum(part.numel() for part in model.parameters()),
        "config": {key: value for key, value in read.items() if isinstance(value, int | str | bool)},
    }


def main(out: Path) -> None:
    types = {one.name: [int(one), *gguf.GGML_QUANT_SIZES[one]] for one in gguf.GGMLQuantizationType}
    cases = {name: case(name, *rest) for name, rest in CASES.items()}
    found = {"package": f"gguf {version('gguf')}", "types": types, "files": cases}
    out.write_text(json.dumps(found, separators=(",", ":"), sort_keys=True).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
