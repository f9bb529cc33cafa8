"""Models from files: a folder as Hugging Face lays it out, a config.json, or a row of the catalogue."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kerf.catalogue import shipped
from kerf.sizing.catalogue import Row, parse_row
from kerf.sizing.headers import Stored, header_length, parse_header, parse_index, total
from kerf.sizing.modelhub import parse_spec, specs_of
from kerf.sizing.read import TEXT_PARTS
from kerfctl.errors import CliError
from kerfctl.model.gguf import from_gguf, gguf_in
from kerfctl.model.hub import cached_name, hub_name, snapshot_of

LARGEST_JSON = 64 * 2**20
PART = re.compile(r"-\d+-of-(\d+)\.safetensors$")
Json = dict[str, Any]


def load_row(source: str) -> Row:
    """A model as a row of a catalogue, from a folder, a config.json, a ModelSpec file or a name.

    A folder's row has no name. Raises CliError or WireError.
    """
    path = Path(source)
    if path.is_dir():
        return _from_folder(snapshot_of(path))
    if path.suffix == ".gguf":
        return from_gguf(path)
    if path.suffix in {".yaml", ".yml"}:
        return _from_spec(path)
    if path.is_file() and (path.suffix == ".safetensors" or path.name.endswith(".index.json")):
        return _from_folder(path.parent)
    if path.is_file():
        document = _json(path)
        return parse_row(document, source) if _is_row(document) else Row("", "", document, source=path.name)
    if (found := shipped().find(hub_name(source))) is not None:
        return found
    raise CliError(f"{source}: no such folder, file or name of the catalogue{_instead(source)}")


def _instead(source: str) -> str:
    """What to do about a name that is not known. Kerf asks no hub, so it is the same for gated and for open models."""
    name = hub_name(source)
    near = shipped().near(name)
    known = f", which has {' and '.join(near)}" if near else ", which docs/models.md lists"
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name):
        return known
    fetch = f"hf download {name} config.json model.safetensors.index.json --local-dir m"
    return f"{known}. Kerf asks no hub: run `{fetch}` (with HF_TOKEN where it is gated) and name the folder m"


def plain_name(source: str) -> str:
    """A name for what came from a file, in Kubernetes' letters."""
    path = Path(hub_name(source).rstrip("/"))
    folder = path.parent if path.name.endswith((".safetensors", ".index.json")) or path.name == "config.json" else path
    last = cached_name(source) or folder.name or folder.absolute().name
    last = last.removesuffix(".json").removesuffix(".gguf")
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:53].strip("-") or "model"


def _from_spec(path: Path) -> Row:
    specs = specs_of(_yaml(path))
    if len(specs) != 1:
        raise CliError(f"{path}: holds {len(specs)} entries; give a file with one")
    repository = parse_spec(specs[0]).repository
    found = shipped().find(repository)
    if found is None:
        raise CliError(f"{path}: the shape of {repository} is not in the catalogue; give the model's folder")
    return found


def _is_row(document: Json) -> bool:
    return isinstance(document.get("config"), dict) and "source" in document


def _from_folder(folder: Path) -> Row:
    config = folder / "config.json"
    if not config.is_file() and (found := gguf_in(folder)) is not None:
        return from_gguf(found)
    if not config.is_file():
        raise CliError(f"{folder}: has no config.json{_has_instead(folder)}")
    document = _json(config)
    beside = folder / "hf_quant_config.json"
    if beside.is_file() and not document.get("quantization_config"):
        document = {**document, "quantization_config": {"quant_method": "modelopt", **_json(beside)}}
    stored = _stored(folder)
    return Row("", "", document, stored=_loaded(stored, document) if stored else None, source=folder.name)


def _loaded(stored: Stored, document: Json) -> int:
    """Bytes on the card: both engines load files of 32-bit numbers with 16 bits."""
    inner = next((part for key in TEXT_PARTS if isinstance(part := document.get(key), dict)), {})
    wide = "float32" in {one.get(key) for one in (document, inner) for key in ("torch_dtype", "dtype")}
    return stored.size - stored.wide // 2 if wide and not document.get("quantization_config") else stored.size


def _has_instead(folder: Path) -> str:
    """What a folder without a config.json is, and what to do."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        return f": it is an adapter (LoRA) of {_json(adapter).get('base_model_name_or_path')}; name that model"
    if (folder / "model_index.json").is_file():
        return ": it is a pipeline of several models (diffusers), which neither engine's planner sizes"
    fix = "; `hf download OWNER/NAME config.json --local-dir FOLDER` gets it"
    stored = _stored(folder)
    if stored is None:
        return f"; name the folder of a model as Hugging Face lays it out{fix}"
    size = f"{-(-stored.size // 2**20):,} MiB of weights"
    return f": {size} alone say neither heads nor layers, so the cache would be a guess{fix}"


def _stored(folder: Path) -> Stored | None:
    """Bytes of the weights: the files' own headers, else what their index says. None where files are missing."""
    files = {path.name for path in folder.glob("*.safetensors")}
    index = folder / "model.safetensors.index.json"
    whole = {"model.safetensors"} & files  # what lies beside it, consolidated.safetensors, are the same weights
    wanted = _files_of(index) if index.is_file() else whole or files
    if wanted and wanted <= files and _are_all(wanted):
        return total(_header(folder / name) for name in sorted(wanted))
    if not index.is_file():
        return None
    size = parse_index(_json(index), str(index))
    return Stored(size, 0, size) if size is not None else None  # an index says nothing of types


def _are_all(files: set[str]) -> bool:
    """Whether no part is missing of files that count themselves: model-00001-of-00002.safetensors."""
    parts = [found for name in files if (found := PART.search(name))]
    return all(len(parts) >= int(part[1]) for part in parts)


def _files_of(index: Path) -> set[str]:
    """The files that an index names."""
    files = _json(index).get("weight_map", {})
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise CliError(f"{index}: weight_map: write an object with the name of a file for each tensor")
    return set(files.values())


def _header(path: Path) -> Stored:
    try:
        with path.open("rb") as file:
            length = header_length(file.read(8), str(path))
            return parse_header(file.read(length), str(path))
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error


def _json(path: Path) -> Json:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise CliError(f"{path}: larger than {LARGEST_JSON:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from error
    except (ValueError, RecursionError) as error:
        raise CliError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise CliError(f"{path}: holds {type(found).__name__} where an object is expected")
    return found


def gguf_name(source: str) -> str:
    """The name of a GGUF file, or of the one in a folder; empty for anything else."""
    path = Path(source)
    if path.is_dir() and not (path / "config.json").is_file():
        path = gguf_in(path) or path
    return path.name if path.suffix == ".gguf" else ""


def row_name(source: str) -> str:
    """The name of a catalogue row, empty for anything else."""
    row = shipped().find(hub_name(source))
    return row.name if row is not None and not Path(source).exists() else ""


def repository_of(source: str) -> str:
    """The repository of a catalogue row, empty for anything else."""
    return "" if Path(source).exists() else shipped().repository(hub_name(source))


def spec_documents(paths: list[str]) -> list[Mapping[str, Any]]:
    """The entries of catalogue files and of folders of them, in order. Raises CliError or WireError."""
    found: list[Mapping[str, Any]] = []
    for name in paths:
        path = Path(name)
        files = sorted(path.rglob("*.y*ml")) if path.is_dir() else [path]
        if not files:
            raise CliError(f"{name}: has no YAML file")
        for file in files:
            found += specs_of(_yaml(file))
    return found


def _yaml(path: Path) -> list[object]:
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > LARGEST_JSON:
            raise CliError(f"{path}: larger than {LARGEST_JSON:,} characters")
        return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CliError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
