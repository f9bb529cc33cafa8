"""Weights as their files list them: safetensors headers, a safetensors index, a GGUF tensor table."""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kerf.wire.errors import WireError

LONGEST_HEADER = 100_000_000
"""Bytes; the safetensors library refuses longer ones."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is in a file: bytes of all tensors, and how many tensors."""

    size: int
    tensors: int
    wide: int = 0
    """Bytes of those that are 32-bit numbers."""


def header_length(start: bytes, where: str) -> int:
    """The length of a safetensors header from the file's first eight bytes. Raises WireError."""
    if len(start) < 8:
        raise WireError(
            where, f"{len(start)} bytes", "give a whole safetensors file: the first 8 bytes are the header's length"
        )
    length = int(struct.unpack("<Q", start[:8])[0])
    if not 2 <= length <= LONGEST_HEADER:
        raise WireError(
            where, length, f"the header's length must be from 2 to {LONGEST_HEADER}: is it a safetensors file?"
        )
    return length


def parse_header(body: bytes, where: str) -> Stored:
    """A safetensors header, blanks at its end included. Sizes are differences of offsets, never shape x type.

    A 4-bit tensor has its logical shape in the header and half a byte per value in the file. Raises WireError.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(where, body[:40].decode(errors="replace"), f"the header is not JSON ({error})") from error
    if not isinstance(found, Mapping):
        raise WireError(where, found, "the header must be an object")
    sizes = {name: _size(name, entry, where) for name, entry in found.items() if name != "__metadata__"}
    wide = sum(size for name, size in sizes.items() if found[name].get("dtype") == "F32")
    return Stored(sum(sizes.values()), len(sizes), wide)


def _size(name: str, entry: object, where: str) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, Mapping) else None
    if isinstance(offsets, list) and len(offsets) == 2 and all(type(one) is int for one in offsets):
        begin, end = offsets
        if 0 <= begin <= end < 2**62:
            return int(end - begin)
    raise WireError(f"{where}: {name}", offsets, "data_offsets must be a beginning and an end")


def parse_index(document: object, where: str) -> int | None:
    """`metadata.total_size` of a model.safetensors.index.json, None where it is not written. Raises WireError."""
    if not isinstance(document, Mapping):
        raise WireError(where, document, "the index must be an object")
    meta = document.get("metadata")
    size = meta.get("total_size") if isinstance(meta, Mapping) else None
    if size is None:
        return None
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    if type(size) is not int or not 0 <= size < 2**62:
        raise WireError(f"{where}: metadata.total_size", size, "write the number of bytes")
    return size


def total(parts: Iterable[Stored]) -> Stored:
    """Several files as one."""
    found = list(parts)
    size, wide = sum(part.size for part in found), sum(part.wide for part in found)
    return Stored(size, sum(part.tensors for part in found), wide)
