"""Catalogue rows and small configs for the tests of sizing."""

import json
from pathlib import Path
from typing import Any

from kerf.sizing.estimate import Model, read_model

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
