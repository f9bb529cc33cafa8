"""Who read and wrote what, from the API server's audit log."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

WRITES = ("create", "update", "patch", "delete", "deletecollection")
POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "verbs": list(WRITES)},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
"""Metadata of every write, and of reads by service accounts: tests compare their rights with their use."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write that the API server answered.

    `resource` is the plural with its subresource, ``pods/binding``; `code` is the HTTP status of the answer, `at` when
    it was given, in seconds since 1970.
    """

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of request, as RBAC names it: `group` is empty for the core; `resource` has its subresource."""

    verb: str
    group: str
    resource: str
    allowed: bool


def parse_audit_log(lines: Iterator[str]) -> Iterator[Write]:
    """The writes of an audit log, without a last line that is incomplete."""
    for line in lines:
        if line.endswith("\n"):
            event = json.loads(line)
            if event["verb"] in WRITES:
                yield _write(event)


def read_writes(log: Path, user: str | None = None) -> tuple[Write, ...]:
    """The writes so far, of one user or of all, oldest first."""
    with log.open() as lines:
        return tuple(write for write in parse_audit_log(lines) if user is None or write.user == user)


def read_calls(log: Path, user: str) -> frozenset[Call]:
    """Every kind of request of one user so far."""
    with log.open() as lines:
        events = (json.loads(line) for line in lines if line.endswith("\n"))
        return frozenset(_call(event) for event in events if event["user"]["username"] == user and "objectRef" in event)


def _call(event: dict[str, Any]) -> Call:
    decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
    return Call(event["verb"], event["objectRef"].get("apiGroup", ""), _resource(event), decision == "allow")


def _resource(event: dict[str, Any]) -> str:
    target = event.get("objectRef", {})
    subresource = target.get("subresource")
    return str(target.get("resource", "")) + (f"/{subresource}" if subresource else "")


def _write(event: dict[str, Any]) -> Write:
    target = event.get("objectRef", {})
    return Write(
        user=event["user"]["username"],
        verb=event["verb"],
        resource=_resource(event),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        at=datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
    )
