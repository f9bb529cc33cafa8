"""What the webhook asks the scheduler about a new pod that accepts several kinds of cards, and the answer: JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kerf.wire.accepts import LONGEST_PROMISE, LONGEST_WHY, MOST_KINDS
from kerf.wire.body import object_of
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at

PATH = "/kinds"


@dataclass(frozen=True, slots=True)
class KindQuestion:
    """The kinds that may be chosen, the preferred one first, each with the pod as it would be stored."""

    kinds: tuple[tuple[str, Json], ...]
    keep: bool = True
    """The pod is about to be stored: keep its place free for a moment."""


@dataclass(frozen=True, slots=True)
class KindAnswer:
    """The kind, why, and what names the place that is kept free for a moment; `fits` is whether there is one now."""

    kind: str
    why: str
    fits: bool = True
    promise: str = ""


def render_question(question: KindQuestion) -> bytes:
    """The body of a request."""
    kinds = [{"kind": name, "pod": _short(pod)} for name, pod in question.kinds]
    return orjson.dumps({"v": 1, "kinds": kinds, "keep": question.keep})


def parse_question(body: bytes) -> KindQuestion:
    """Read a request. Raises WireError."""
    document = object_of(body)
    if document.get("v") != 1:
        raise WireError("v", document.get("v"), "send 1")
    listed = document.get("kinds")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_KINDS:
        raise WireError("kinds", listed, f"send 1 to {MOST_KINDS} kinds")
    kinds = []
    for i, item in enumerate(listed):
        name, pod = (item.get("kind"), item.get("pod")) if isinstance(item, Mapping) else (None, None)
        if not isinstance(name, str) or not name or not isinstance(pod, Mapping):
            raise WireError(f"kinds[{i}]", item, "send a kind and a pod")
        kinds.append((name, pod))
    keep = document.get("keep", True)
    if not isinstance(keep, bool):
        raise WireError("keep", keep, "send true or false")
    return KindQuestion(tuple(kinds), keep)


def render_kind(answer: KindAnswer) -> bytes:
    """The body of an answer."""
    return orjson.dumps(
        {"v": 1, "kind": answer.kind, "why": answer.why, "fits": answer.fits, "promise": answer.promise}
    )


def parse_kind(body: bytes) -> KindAnswer:
    """Read an answer. Raises WireError."""
    document = object_of(body)
    kind, why, fits, promise = (document.get(key) for key in ("kind", "why", "fits", "promise"))
    if not isinstance(kind, str) or not kind:
        raise WireError("kind", kind, "send the kind that was chosen")
    return KindAnswer(
        kind,
        why[:LONGEST_WHY] if isinstance(why, str) else "",
        fits is True,
        promise[:LONGEST_PROMISE] if isinstance(promise, str) else "",
    )


def _short(pod: Json) -> dict[str, Any]:
    """What decides where a pod may go; the rest of a pod may have megabytes."""
    meta, spec = at(pod, "metadata"), at(pod, "spec")
    whole = {"name", "generateName", "namespace", "uid", "labels", "annotations", "ownerReferences"}
    kept = {"nodeSelector", "affinity", "tolerations", "priority", "resources", "overhead", "schedulerName"}
    containers = {
        part: [_container(each) for each in items_at(spec, part)]
        for part in ("initContainers", "containers")
        if part in spec
    }
    return {
        "metadata": {key: value for key, value in meta.items() if key in whole},
        "spec": {key: value for key, value in spec.items() if key in kept} | containers,
    }


def _container(container: Json) -> dict[str, Any]:
    kept = {"name", "resources", "restartPolicy"}
    return {key: value for key, value in container.items() if key in kept}
