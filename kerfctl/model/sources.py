"""Models from files: a folder as Hugging Face lays it out, a config.json, or a row of the catalogue."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kerf.sizing.estimate import Model, read_model
from kerf.sizing.headers import Stored, header_length, parse_header, parse_index, total
from kerf.sizing.modelhub import parse_spec, specs_of
from kerfctl.errors import CliError

CATALOGUE = Path(__file__).parent / "catalogue"
LARGEST_JSON = 64 * 2**20
Json = dict[str, Any]


def load_model(source: str) -> Model:
    """A model from a folder, a config.json, a ModelSpec file or a name. Raises CliError or WireError."""
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if path.suffix in {".yaml", ".yml"}:
        return _from_spec(path)
    if path.is_file():
        document = _json(path)
        return read_model(document.get("config") if _is_row(document) else document)
    row = CATALOGUE / f"{source}.json"
    if "/" not in source and row.is_file():
        return read_model(_json(row)["config"])
    raise CliError(f"{source}: no such folder, file or name of the catalogue, which docs/models.md lists")


def _from_spec(path: Path) -> Model:
    specs = specs_of(_yaml(path))
    if len(specs) != 1:
        raise CliError(f"{path}: holds {len(specs)} entries; give a file with one")
    repository = parse_spec(specs[0]).repository
    found = Finder().find(repository)
    if found is None:
        raise CliError(f"{path}: the shape of {repository} is not in the catalogue; give the model's folder")
    return found


def _is_row(document: Json) -> bool:
    return isinstance(document.get("config"), dict) and "source" in document


def _from_folder(folder: Path) -> Model:
    config = folder / "config.json"
    if not config.is_file():
        raise CliError(f"{folder}: has no config.json; name the folder of a model as Hugging Face lays it out")
    document = _json(config)
    beside = folder / "hf_quant_config.json"
    if beside.is_file() and not document.get("quantization_config"):
        document = {**document, "quantization_config": {"quant_method": "modelopt", **_json(beside)}}
    stored = _stored(folder)
    return read_model(document, stored.size if stored is not None else None)


def _stored(folder: Path) -> Stored | None:
    """Bytes of the weights: the files' own headers, else what their index says."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    wanted = _files_of(index) if index.is_file() else {path.name for path in files}
    if wanted and wanted <= {path.name for path in files}:
        return total(_header(folder / name) for name in sorted(wanted))
    if not index.is_file():
        return None
    size = parse_index(_json(index), str(index))
    return Stored(size, 0) if size is not None else None


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


def repository_of(source: str) -> str:
    """The repository of a catalogue row, empty for anything else."""
    row = CATALOGUE / f"{source}.json"
    return str(_json(row).get("repository", "")) if "/" not in source and row.is_file() else ""


class Finder:
    """The catalogue's models by repository, each read once."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] | None = None
        self._models: dict[str, Model | None] = {}

    def find(self, repository: str) -> Model | None:
        """The model of a repository, None where the catalogue has no row for it."""
        key = repository.lower()
        if key not in self._models:
            if self._paths is None:
                rows = {path: _json(path) for path in CATALOGUE.glob("*.json")}
                self._paths = {str(name).lower(): path for path, row in rows.items() for name in _names(row)}
            path = self._paths.get(key)
            self._models[key] = read_model(_json(path)["config"]) if path is not None else None
        return self._models[key]


def _names(row: Json) -> list[str]:
    return [row["repository"], *row.get("also", [])]


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
