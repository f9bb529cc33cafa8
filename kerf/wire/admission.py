"""AdmissionReview (admission.k8s.io/v1) to values and back, and JSON-patch operations."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kerf.wire.body import object_of
from kerf.wire.errors import WireError
from kerf.wire.json import at

API_VERSION = "admission.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Review:
    """One admission question."""

    uid: str
    operation: str
    kind: str
    namespace: str
    user: str
    object: Mapping[str, Any]
    old: Mapping[str, Any]
    subresource: str = ""
    group: str = ""
    """API group of the kind; empty is the core group."""
    dry_run: bool = False
    """The object will not be stored: the question must leave no trace."""


@dataclass(frozen=True, slots=True)
class PatchOp:
    """One RFC 6902 operation; `path` is a JSON pointer, `value` is absent for `remove`."""

    op: str
    path: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Allowed, possibly with a patch and warnings, or refused with one sentence."""

    allowed: bool
    patch: tuple[PatchOp, ...] = ()
    message: str = ""
    warnings: tuple[str, ...] = ()


def pointer(*parts: str | int) -> str:
    """A JSON pointer: ("metadata", "annotations", "a/b") → /metadata/annotations/a~1b."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def parse_review(body: bytes) -> Review:
    """Read an AdmissionReview of v1. Raises WireError."""
    document = object_of(body)
    if document.get("apiVersion") != API_VERSION:
        raise WireError("apiVersion", document.get("apiVersion"), f"send {API_VERSION}")
    request = document.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise WireError("request", request, "send a request with a uid")
    return Review(
        uid=request["uid"],
        operation=str(request.get("operation", "")),
        kind=str(at(request, "kind").get("kind", "")),
        group=str(at(request, "kind").get("group") or ""),
        namespace=str(request.get("namespace") or ""),
        user=str(at(request, "userInfo").get("username", "")),
        object=at(request, "object"),
        old=at(request, "oldObject"),
        subresource=str(request.get("subResource") or ""),
        dry_run=request.get("dryRun") is True,
    )


def render_answer(uid: str, answer: Answer) -> bytes:
    """The AdmissionReview that goes back."""
    response: dict[str, Any] = {"uid": uid, "allowed": answer.allowed}
    if answer.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(render_patch(answer.patch)).decode()
    if answer.message:
        response["status"] = {"code": 403, "reason": "Forbidden", "message": answer.message}
    if answer.warnings:
        response["warnings"] = list(answer.warnings)
    return orjson.dumps({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})


def apply_patch(document: Any, operations: tuple[PatchOp, ...]) -> Any:  # noqa: ANN401
    """The document after these operations, as the API server applies them. The document itself stays as it was."""
    found = document
    for operation in operations:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in operation.path.split("/")[1:]]
        found = _changed(found, parts, operation)
    return found


def _changed(value: Any, parts: list[str], operation: PatchOp) -> Any:  # noqa: ANN401
    if not parts:
        return operation.value
    key, rest = parts[0], parts[1:]
    if isinstance(value, list):
        copied = list(value)
        if key == "-":
            return [*copied, operation.value]
        if rest or operation.op == "replace":
            copied[int(key)] = _changed(copied[int(key)], rest, operation)
        elif operation.op == "add":
            copied.insert(int(key), operation.value)
        else:
            del copied[int(key)]
        return copied
    fields = dict(value)
    if operation.op == "remove" and not rest:
        del fields[key]
    else:
        fields[key] = _changed(fields.get(key), rest, operation)
    return fields


def render_patch(operations: tuple[PatchOp, ...]) -> bytes:
    """RFC 6902 as JSON."""
    return orjson.dumps(
        [
            {"op": op.op, "path": op.path} if op.op == "remove" else {"op": op.op, "path": op.path, "value": op.value}
            for op in operations
        ]
    )
