"""A small, strict RFC 6902 applier: add, replace and remove, failing wherever the standard says so."""

import copy
from typing import Any

from kerf.wire.admission import PatchOp


def apply(document: Any, operations: tuple[PatchOp, ...]) -> Any:
    """The patched document; the given one stays as it is."""
    result = copy.deepcopy(document)
    for operation in operations:
        _apply_one(result, operation)
    return result


def _apply_one(document: Any, operation: PatchOp) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation.path.split("/")[1:]]
    target = document
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target[part]
    if isinstance(target, list):
        assert operation.op in {"add", "replace"}
        if operation.op == "replace":
            target[int(last)] = operation.value
        else:
            target.insert(len(target) if last == "-" else int(last), operation.value)
        return
    assert isinstance(target, dict), f"{operation.path} has no parent"
    if operation.op != "add":
        assert last in target, f"{operation.op} of {operation.path}, which is not there"
    if operation.op == "remove":
        del target[last]
    else:
        target[last] = copy.deepcopy(operation.value)
