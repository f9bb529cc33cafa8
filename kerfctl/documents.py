"""Kubernetes documents from files: YAML or JSON, one or many, lists, dumps of kubectl, workloads with replicas."""

import copy
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from kerf.wire.json import Json, at
from kerfctl.errors import CliError

MOST_REPLICAS = 10_000
_TEMPLATES = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "Job", "DaemonSet", "ReplicationController"})


@dataclass(frozen=True, slots=True)
class Documents:
    """What the files held, in order."""

    nodes: tuple[Json, ...]
    pods: tuple[Json, ...]
    others: tuple[Json, ...]
    """Everything else: quotas, Kueue's objects, what means nothing here."""

    def of(self, kind: str) -> list[Json]:
        """What else there is of a kind."""
        return [item for item in self.others if item.get("kind") == kind]


def read_documents(paths: Iterable[str]) -> Documents:
    """Read files or folders (their *.yaml, *.yml and *.json by name); `-` is standard input. Raises CliError."""
    nodes: list[Json] = []
    pods: list[Json] = []
    others: list[Json] = []
    for path in paths:
        for _, document in read_objects(path):
            kind = str(document.get("kind", "?"))
            if kind == "Node":
                nodes.append(document)
            elif kind == "Pod":
                pods.append(document)
            elif kind in _TEMPLATES:
                pods.extend(_replicas(document, kind, path))
            else:
                others.append(document)
    named = [_named(pod, i) for i, pod in enumerate(pods)]
    return Documents(tuple(nodes), tuple(named), tuple(others))


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


def _replicas(workload: Json, kind: str, path: str) -> Iterator[Json]:
    spec = at(workload, "spec")
    template = spec.get("template")
    if not isinstance(template, dict):
        raise CliError(f"{path}: {kind} {workload['metadata'].get('name')}: spec.template is missing")
    count = spec.get("parallelism" if kind == "Job" else "replicas", 1)
    if not isinstance(count, int) or not 0 <= count <= MOST_REPLICAS:
        raise CliError(f"{path}: {kind}: replicas {count!r}: write a number from 0 to {MOST_REPLICAS}")
    for i in range(count):
        pod = copy.deepcopy(template)
        meta = pod.setdefault("metadata", {})
        meta["name"] = f"{workload['metadata'].get('name', kind.lower())}-{i}"
        meta.setdefault("namespace", workload["metadata"].get("namespace", "default"))
        yield {"apiVersion": "v1", "kind": "Pod", **pod}


def _named(pod: Json, position: int) -> Json:
    """A pod with a namespace and a uid, so that two of one name in two files stay two."""
    meta = {"namespace": "default", "uid": f"file-{position}", **pod["metadata"]}
    return {**pod, "metadata": meta}


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
