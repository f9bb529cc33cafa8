"""Who wrote what, from the API server's audit log."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        {"level": "None"},
    ],
}
"""Metadata of every write, nothing of reads."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write that the API server answered.

    `resource` is the plural with its subresource, ``pods/binding``; `code` is the HTTP status of the answer.
    """

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int


def parse_audit_log(lines: Iterator[str]) -> Iterator[Write]:
    """The writes of an audit log. A last line that is still being written is left out."""
    for line in lines:
        if line.endswith("\n"):
            yield _write(json.loads(line))


def read_writes(log: Path, user: str | None = None) -> tuple[Write, ...]:
    """The writes so far, of one user or of all, oldest first."""
    with log.open() as lines:
        return tuple(write for write in parse_audit_log(lines) if user is None or write.user == user)


def _write(event: dict[str, Any]) -> Write:
    target = event.get("objectRef", {})
    subresource = target.get("subresource")
    return Write(
        user=event["user"]["username"],
        verb=event["verb"],
        resource=target.get("resource", "") + (f"/{subresource}" if subresource else ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
    )
