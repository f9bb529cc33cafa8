"""Catalogue rows and small configs for the tests of sizing."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

from kerf.sizing.estimate import Model, estimate, read_model
from kerf.sizing.gguf import gguf_config, parse_gguf
from kerf.sizing.request import Ask

HERE = Path(__file__).parent
ROWS = Path(__file__).parents[3] / "kerf" / "catalogue" / "rows"
NAMES = sorted(path.stem for path in ROWS.glob("*.json"))
Json = dict[str, Any]


def row(name: str) -> Json:
    """A row of the catalogue."""
    return json.loads((ROWS / f"{name}.json").read_text())


def model(name: str) -> Model:
    """A catalogue row's model."""
    return read_model(row(name)["config"])


def oracle(name: str) -> Any:
    """A table that `make oracle` wrote."""
    return json.loads((HERE / "oracle" / f"{name}.json").read_text())


def a_config(**changes: Any) -> Json:
    """A small llama. A change of None writes null; `...` leaves the key out."""
    config = {
        "model_type": "llama",
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
    }
    return {key: value for key, value in {**config, **changes}.items() if value is not ...}


def minimax_m3(**quantization: Any) -> Json:
    """MiniMax M3, by the defaults of vLLM 0.33.0's MiniMaxM3TextConfig and of transformers 5.20.0's vision config.

    As the published file does, its text part names an older family.
    """
    chosen = [0] * 3 + [1] * 57
    text = {
        "model_type": "minimax_m2", "vocab_size": 200064, "hidden_size": 6144, "intermediate_size": 3072,
        "dense_intermediate_size": 12288, "shared_intermediate_size": 3072, "num_hidden_layers": 60,
        "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128, "max_position_embeddings": 524288,
        "num_local_experts": 128, "num_experts_per_tok": 4, "n_shared_experts": 1, "rotary_dim": 64,
        "moe_layer_freq": chosen, "tie_word_embeddings": False,
        "sparse_attention_config": {
            "sparse_index_dim": 128, "sparse_num_index_heads": 4, "sparse_block_size": 128,
            "sparse_attention_freq": chosen,
        },
    }  # fmt: skip
    tower = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "patch_size": 14}
    more = {"quantization_config": quantization} if quantization else {}
    return {"model_type": "minimax_m3_vl", "text_config": text, "vision_config": tower, **more}


def a_gguf(name: str = "llama") -> bytes:
    """The header of a GGUF file that gguf 0.19.0 wrote, without its tensors."""
    return zlib.decompress(base64.b64decode(oracle("gguf")["files"][name]["header"]))


def read_gguf(body: bytes) -> object:
    """An estimate of a file that starts with these bytes."""
    config = gguf_config([parse_gguf(body, "model.gguf", 2**60)], "model.gguf")
    return estimate(read_model(config), Ask(max_len=16))
