"""Kubernetes documents from files: YAML or JSON, one or many, lists, dumps of kubectl, workloads with replicas."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from kerf.wire.json import Json
from kerfctl.doubles import refuse_doubles
from kerfctl.errors import CliError
from kerfctl.workloads.expand import expand


@dataclass(frozen=True, slots=True)
class Documents:
    """What the files held, in order."""

    nodes: tuple[Json, ...]
    pods: tuple[Json, ...]
    """Pods, and those that the files' workloads make."""
    others: tuple[Json, ...]
    """Everything that is neither node nor pod."""
    idle: tuple[tuple[str, str, str], ...] = ()
    """Workloads that make no pods now: namespace, name and the reason."""
    left_out: tuple[str, ...] = ()
    """A line for each object that makes pods, or changes them, and that is not read."""

    def of(self, kind: str) -> list[Json]:
        """What else there is of a kind."""
        return [item for item in self.others if item.get("kind") == kind]


def read_documents(paths: Iterable[str]) -> Documents:
    """Read files or folders (their *.yaml, *.yml and *.json by name); `-` is standard input. Raises CliError."""
    items = [pair for path in paths for pair in read_objects(path)]
    refuse_doubles(items)
    nodes = tuple(item for _, item in items if item.get("kind") == "Node")
    rest = [(path, item) for path, item in items if item.get("kind") != "Node"]
    found = expand(rest, nodes)
    others = tuple(item for _, item in rest if item.get("kind") != "Pod")
    return Documents(nodes, tuple(found.pods), others, tuple(found.idle), tuple(found.left_out))


def read_objects(path: str) -> Iterator[tuple[str, Json]]:
    """Every object of a file or folder with the name of its file. Raises CliError."""
    folder = Path(path)
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            if file.suffix in {".yaml", ".yml", ".json"}:
                yield from read_objects(str(file))
        return
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        documents = [json.loads(text)] if text.lstrip()[:1] in {"{", "["} else list(yaml.load_all(text, _LOADER))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from error
    except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as error:
        raise CliError(f"{path}: not YAML or JSON: {' '.join(str(error).split())}") from error
    for document in documents:
        for item in _flatten(document, path):
            yield path, item


def _flatten(document: object, path: str) -> Iterator[Json]:
    if document is None:
        return
    if isinstance(document, list):
        for item in document:
            yield from _flatten(item, path)
        return
    if not isinstance(document, dict):
        raise CliError(f"{path}: holds {type(document).__name__} {str(document)[:40]!r} where an object is expected")
    if isinstance(document.get("items"), list):
        kind = str(document.get("kind", "List")).removesuffix("List")
        for item in document["items"]:
            yield from _flatten({"kind": kind, **item} if isinstance(item, dict) and kind else item, path)
        return
    if not isinstance(document.get("metadata"), dict):
        raise CliError(f"{path}: {document.get('kind', 'an object')} without metadata: write metadata with a name")
    yield document


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
