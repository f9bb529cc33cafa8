"""Kernel logs as lines: files as they are, or as log rotation compressed them, and standard input."""

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, cast

from kerfctl.errors import CliError

_OPENERS: Mapping[bytes, Callable[[io.BufferedReader], object]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""By the bytes that a file begins with."""
_OTHERS: Mapping[bytes, str] = {
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd; run zstdcat FILE | kerf faults replay -",
    b"LPKSHHRH": "it is a journal of systemd; run journalctl -k --file FILE | kerf faults replay -",
}
_WIDE: Mapping[bytes, str] = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
"""What Windows' shell writes where the output of kubectl goes into a file."""
_LONGEST_MAGIC = 8


def read_lines(name: str) -> Iterator[str]:
    """The lines of a file, or of standard input for `-`. Bytes that are no text are kept as marks. Raises CliError."""
    try:
        with _raw(name) as raw:
            wide = _WIDE.get(raw.peek(2)[:2])
            if wide:
                yield from _wide_lines(raw, wide)
            for line in _opened(name, raw):
                yield line.decode(errors="replace")
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise CliError(f"{name}: its compressed text is damaged ({error}); copy it again") from error
    except OSError as error:
        raise CliError(f"{name}: {error.strerror or error}; name a readable file, or - for standard input") from error


def _wide_lines(raw: io.BufferedReader, encoding: str) -> Iterator[str]:
    wrapped = io.TextIOWrapper(raw, encoding=encoding, errors="replace")
    yield from wrapped
    wrapped.detach()


def _raw(name: str) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", sys.stdin.buffer) if name == "-" else io.FileIO(name))


def _opened(name: str, raw: io.BufferedReader) -> BinaryIO:
    beginning = raw.peek(_LONGEST_MAGIC)
    for magic, why in _OTHERS.items():
        if beginning.startswith(magic):
            raise CliError(f"{name}: {why}")
    opener = next((opener for magic, opener in _OPENERS.items() if beginning.startswith(magic)), None)
    return cast("BinaryIO", opener(raw) if opener else raw)
