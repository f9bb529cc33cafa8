"""GGUF files: the header's metadata and tensor table, read without their values, and what they say as a config.json.

The layout is that of gguf 0.19.0, versions 2 and 3. Names of keys are llama.cpp's; which of them are a config's keys
follows transformers 5.20.0's own reader of GGUF, with which vLLM and SGLang load such files.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerf.sizing.ggml import TYPES, split_experts
from kerf.wire.errors import WireError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_ENTRIES = 2**20
LONGEST_LIST = 2**24
LONGEST_TEXT = 2**26
ALIGNMENT = 32
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9
KEPT_ITEMS = 1024
"""Items of a list that are kept: lists of words are skipped, those of numbers by layer are short."""


Body = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor: its sizes, the innermost first, its type's number, and where it starts behind the header."""

    name: str
    sizes: tuple[int, ...]
    kind: int
    start: int

    @property
    def count(self) -> int:
        """Values."""
        found = 1
        for size in self.sizes:
            found *= size
        return found

    @property
    def bytes(self) -> int:
        """Bytes in the file."""
        form = TYPES[self.kind]
        return self.count // form.values * form.size


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. `ends` is where its last tensor ends."""

    values: Mapping[str, Any]
    tensors: tuple[Stored, ...]
    ends: int


class _Reader:
    """A cursor over a file's bytes that never reads behind its end."""

    def __init__(self, body: Body, where: str) -> None:
        self._body, self.at, self.where = body, 0, where
        self._size = len(body)

    def skip(self, count: int) -> int:
        """The place of the next `count` bytes. Raises WireError."""
        at, self.at = self.at, self.at + count
        if self.at > self._size:
            raise WireError(self.where, f"{self._size:,} bytes", "the file ends inside its header: fetch it again")
        return at

    def number(self, letter: str) -> int | float | bool:
        """One number."""
        form = f"<{letter}"
        (found,) = struct.unpack_from(form, self._body, self.skip(struct.calcsize(form)))
        return found  # type: ignore[no-any-return] # struct's types are dynamic

    def count(self, what: str, most: int) -> int:
        """A number of things. Raises WireError."""
        found = int(self.number("Q"))
        if found > most:
            raise WireError(f"{self.where}: {what}", found, f"write at most {most:,}: is it a GGUF file?")
        return found

    def text(self) -> str:
        """One text."""
        size = self.count("length of a text", LONGEST_TEXT)
        at = self.skip(size)
        return bytes(self._body[at : at + size]).decode("utf-8", errors="replace")

    def value(self, kind: int) -> object:
        """One value of the metadata; of long lists only their first items."""
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == TEXT:
            return self.text()
        if kind != LIST:
            raise WireError(f"{self.where}: type of a value", kind, "use a type of GGUF 2 or 3, from 0 to 12")
        inner, size = int(self.number("I")), self.count("length of a list", LONGEST_LIST)
        if inner in SCALARS:
            width, kept = struct.calcsize(f"<{SCALARS[inner]}"), min(size, KEPT_ITEMS)
            at = self.skip(size * width)
            return list(struct.unpack_from(f"<{kept}{SCALARS[inner]}", self._body, at))
        if inner != TEXT:
            raise WireError(f"{self.where}: type of a list", inner, "use numbers or texts")
        self._skip_texts(size)
        return []

    def _skip_texts(self, size: int) -> None:
        body, at, end = self._body, self.at, self._size
        read = struct.Struct("<Q").unpack_from
        for _ in range(size):
            if at + 8 > end:
                break
            at += 8 + read(body, at)[0]
        else:
            self.at = at
            self.skip(0)
            return
        self.skip(end)


def parse_gguf(body: Body, where: str, size: int | None = None) -> Header:
    """The header at the start of a file's bytes. `size`: of the whole file, where more than that is not read.

    Raises WireError, also where the file is shorter than its tensors.
    """
    reader = _Reader(body, where)
    if bytes(body[:4]) != MAGIC:
        raise WireError(where, bytes(body[:4]), "a GGUF file starts with the letters GGUF")
    reader.skip(4)
    version = int(reader.number("I"))
    if version not in VERSIONS:
        raise WireError(f"{where}: version", version, "use version 2 or 3, little-endian: convert it again")
    tensors, pairs = reader.count("tensors", MOST_ENTRIES), reader.count("metadata", MOST_ENTRIES)
    values: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text()
        values[key] = reader.value(int(reader.number("I")))
    found = tuple(_tensor(reader) for _ in range(tensors))
    step = values.get("general.alignment", ALIGNMENT)
    if type(step) is not int or not 1 <= step <= 2**20:
        raise WireError(f"{where}: general.alignment", step, "write a number of bytes, for example 32")
    ends = -(-reader.at // step) * step + max((one.start + one.bytes for one in found), default=0)
    whole = len(body) if size is None else size
    if ends > whole:
        fix = f"its tensors end at {ends:,}: the file is not whole, fetch it again"
        raise WireError(where, f"{whole:,} bytes", fix)
    return Header(values, found, ends)


def _tensor(reader: _Reader) -> Stored:
    name, ranks = reader.text(), int(reader.number("I"))
    if not 1 <= ranks <= 4:
        raise WireError(f"{reader.where}: {name}", ranks, "a tensor has one to four sizes")
    sizes = tuple(reader.count(f"{name}: a size", 2**40) for _ in range(ranks))
    kind, start = int(reader.number("I")), reader.count(f"{name}: offset", 2**50)
    if kind not in TYPES:
        raise WireError(f"{reader.where}: {name}", kind, "this type is not known: its bytes would be a guess")
    found = Stored(name, sizes, kind, start)
    if sizes[0] % TYPES[kind].values or found.count > 2**50:
        fix = f"rows of {TYPES[kind].name} have a multiple of {TYPES[kind].values} values"
        raise WireError(f"{reader.where}: {name}", list(sizes), fix)
    return found


ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "phi3": "phi3",
    "starcoder2": "starcoder2",
    "command-r": "cohere",
    "cohere2": "cohere2",
    "olmo2": "olmo2",
    "glm4": "glm4",
    "granite": "granite",
    "smollm3": "smollm3",
    "gpt-oss": "gpt_oss",
}
"""general.architecture to the family. `llama` with experts is a mixtral."""
KEYS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "leading_dense_block_count": "first_k_dense_replace",
}
EXPERT_KEYS = {"mixtral": "num_local_experts", "gpt_oss": "num_local_experts"}
TABLES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors that are no weights of the model: tables of its positions."""
NEEDED = ("block_count", "embedding_length", "attention.head_count", "context_length")


def gguf_config(files: Sequence[Header], where: str) -> dict[str, Any]:
    """The files of one model as a config.json. Raises WireError that names what is not known."""
    first = files[0].values
    _check_parts(files, where)
    tensors = [tensor for file in files for tensor in file.tensors]
    table = {tensor.name: tensor for tensor in tensors}
    architecture = first.get("general.architecture")
    family = ARCHITECTURES.get(str(architecture))
    if family is None:
        fix = f"this architecture is not known in GGUF; known are {', '.join(ARCHITECTURES)}"
        raise WireError(f"{where}: general.architecture", architecture, fix)
    found: dict[str, Any] = {"model_type": family, **_keys(first, str(architecture), where)}
    experts = first.get(f"{architecture}.expert_count")
    if experts:
        found["model_type"] = family = "mixtral" if family == "llama" else family
        found[EXPERT_KEYS.get(family, "num_experts")] = experts
    if "token_embd.weight" not in table or len(table["token_embd.weight"].sizes) != 2:
        raise WireError(f"{where}: token_embd.weight", None, "the table of tensors has no embedding: is it a model?")
    found["vocab_size"] = table["token_embd.weight"].sizes[1]
    found["tie_word_embeddings"] = "output.weight" not in table
    return {**found, **_flags(table), "quantization_config": _storage(table, len(files), where)}


def _check_parts(files: Sequence[Header], where: str) -> None:
    wanted = next((file.values["split.count"] for file in files if "split.count" in file.values), 1)
    if wanted not in {0, 1, len(files)} or (len(files) > 1 and wanted != len(files)):
        fix = f"the model has {wanted} files and {len(files)} are here: name the folder with all of them"
        raise WireError(where, f"{len(files)} files", fix)


def _keys(values: Mapping[str, Any], architecture: str, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in NEEDED:
        if f"{architecture}.{key}" not in values:
            raise WireError(f"{where}: {architecture}.{key}", None, "the metadata must have it")
    for key, ours in KEYS.items():
        value = values.get(f"{architecture}.{key}")
        if isinstance(value, list):
            if len(set(value)) != 1:
                fix = "layers of different sizes are not known in GGUF: give the folder with its config.json"
                raise WireError(f"{where}: {architecture}.{key}", value, fix)
            value = value[0]
        if value is not None:
            found[ours] = value
    value_length = values.get(f"{architecture}.attention.value_length")
    if value_length is not None and value_length != found.get("head_dim", value_length):
        raise WireError(
            f"{where}: {architecture}.attention.value_length", value_length, "values must be as wide as keys"
        )
    return found


def _flags(table: Mapping[str, Stored]) -> dict[str, bool]:
    """What a config says by flags and a file by having the tensor."""
    bias, mlp = "blk.0.attn_q.bias" in table or "blk.0.attn_qkv.bias" in table, "blk.0.ffn_up.bias" in table
    return {
        "attention_bias": bias,
        "qkv_bias": bias,
        "use_bias": bias,
        "mlp_bias": mlp,
        "use_qk_norm": "blk.0.attn_q_norm.weight" in table,
    }


def _storage(table: Mapping[str, Stored], files: int, where: str) -> dict[str, Any]:
    """Each matrix's type: `types` lists, for each type, the tensors' names without `.weight`."""
    types: dict[str, list[str]] = {}
    for name, tensor in table.items():
        if name.endswith(".weight") and len(tensor.sizes) > 1 and name not in TABLES:
            form = TYPES[tensor.kind]
            if not form.engines:
                fix = "vllm-gguf-plugin 0.0.5 and SGLang 0.5.23 do not compute with this type: convert the model again"
                raise WireError(f"{where}: {name}", form.name, fix)
            types.setdefault(form.name, []).append(name.removesuffix(".weight"))
    flat = {name: kind for kind, names in types.items() for name in names}
    for name, one, other in split_experts(flat):
        raise WireError(f"{where}: {name}", one, f"its other half is {other}, and engines load both as one matrix")
    weights = sum(tensor.count for name, tensor in table.items() if name not in TABLES)
    return {"quant_method": "gguf", "files": files, "weights": weights, "types": types}
