"""A pod that a controller would make, and reading the numbers that say how many."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kerf.wire.errors import WireError
from kerf.wire.json import Json, items_at

MOST_REPLICAS = 10_000


@dataclass(frozen=True, slots=True)
class Replica:
    """One pod of a workload. `labels` are those by which its controller distinguishes it from the workload's others."""

    name: str
    template: Json
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    """The node that its controller chose for it; empty where the scheduler chooses."""


@dataclass(frozen=True, slots=True)
class Idle:
    """A workload that makes no pods now, and why."""

    reason: str


class NotRead(ValueError):
    """Pods of a workload that kerf cannot count; the message says which."""


ENDED = Idle("it has ended")
SUSPENDED = Idle("it is suspended and makes no pods")


def template_at(holder: Json, key: str, where: str) -> Json:
    """A pod template that must be there. Raises WireError."""
    found = holder.get(key)
    if not isinstance(found, dict):
        raise WireError(f"{where}.{key}", found, "write a pod template")
    return found


def count_at(holder: Json, key: str, where: str, default: int = 1) -> int:
    """How many; the default where nothing is written. Raises WireError."""
    found = holder.get(key)
    if found is None:
        return default
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= MOST_REPLICAS:
        raise WireError(f"{where}.{key}", found, f"write a number from 0 to {MOST_REPLICAS}")
    return found


def copies(name: str, template: Json, count: int, **labels: str) -> Iterator[Replica]:
    """`count` equal pods."""
    return (Replica(f"{name}-{i}", template, labels) for i in range(count))


def has_ended(item: Json) -> bool:
    """Whether a condition says that a job is over."""
    over = {"Complete", "Completed", "Succeeded", "Failed"}
    return any(c.get("type") in over and c.get("status") == "True" for c in items_at(item, "status", "conditions"))


def named(item: Json) -> str:
    """The object's name, or its kind's where it has none."""
    meta: Any = item["metadata"]
    return str(meta.get("name") or str(meta.get("generateName") or item.get("kind", "")).rstrip("-").lower())
