"""GGUF files as rows of a catalogue: the header of each file is read, never its weights."""

import mmap
import re
from pathlib import Path

from kerf.sizing.catalogue import Row
from kerf.sizing.gguf import Header, gguf_config, parse_gguf
from kerfctl.errors import CliError

PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
PROJECTOR = "mmproj"
"""Files with this in their name are vision towers beside a model."""


def from_gguf(path: Path) -> Row:
    """The model of a file, or of all files that it is a part of. Raises CliError or WireError."""
    found = [_header(file) for file in _parts(path)]
    return Row("", "", gguf_config(found, path.name), source=path.name)


def gguf_in(folder: Path) -> Path | None:
    """The one model among a folder's GGUF files, None where there is none. Raises CliError where there are several."""
    files = sorted(path for path in folder.glob("*.gguf") if PROJECTOR not in path.name.lower())
    models = {_stem(path): path for path in reversed(files)}
    if len(models) > 1:
        names = ", ".join(path.name for path in models.values())
        raise CliError(f"{folder}: holds several models; name one file: {names}")
    return next(iter(models.values()), None)


def _stem(path: Path) -> str:
    part = PART.fullmatch(path.name)
    return part[1] if part else path.name


def _parts(path: Path) -> list[Path]:
    part = PART.fullmatch(path.name)
    if part is None:
        return [path]
    found = sorted(path.parent.glob(f"{_escaped(part[1])}-?????-of-{part[2]}.gguf"))
    return found or [path]


def _escaped(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _header(path: Path) -> Header:
    try:
        if not path.stat().st_size:
            raise CliError(f"{path}: is empty; fetch it again")
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages,
            memoryview(pages) as body,
        ):
            return parse_gguf(body, path.name)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
