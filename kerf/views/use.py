"""Live use of slices, one line each: against the grant, and against what the pod's model was estimated to need."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from kerf.wire.json import Json, at, text_at
from kerf.wire.subject import subject_of
from kerf.wire.top import NodeTop, TopContainer

SIZED = "kerf.dev/sized"
"""The webhook's record of what it sized for a pod's model."""
ORDERS = ("pod", "used", "free", "peak", "over-ask", "busy", "refused")


@dataclass(frozen=True, slots=True)
class UseLine:
    """One container on one card. `estimate_mib` is None where its pod names no model that was sized."""

    node: str
    tenant: str
    row: TopContainer
    estimate_mib: int | None = None
    model: str = ""
    """What its pod serves, where anything says so."""

    @property
    def over_ask_mib(self) -> int | None:
        """What is granted and was never used; None without a limit."""
        return None if self.row.limit_mib is None else max(self.row.limit_mib - self.row.peak_mib, 0)

    @property
    def free_mib(self) -> int:
        """What is granted and not used."""
        return max((self.row.limit_mib or 0) - self.row.used_mib, 0)


_NUMBERS: Mapping[str, Callable[[UseLine], int]] = {
    "used": lambda line: line.row.used_mib,
    "free": lambda line: line.free_mib,
    "peak": lambda line: line.row.peak_mib,
    "over-ask": lambda line: line.over_ask_mib or 0,
    "busy": lambda line: line.row.busy_percent,
    "refused": lambda line: line.row.denied,
}


def use_lines(nodes: Mapping[str, NodeTop], pods: Iterable[Json], tenants: Mapping[str, str]) -> Iterator[UseLine]:
    """Every container of every node. `tenants` are by namespace."""
    listed = list(pods)
    estimates = dict(_estimates(listed))
    models = {
        (text_at(pod, "metadata", "namespace"), text_at(pod, "metadata", "name")): subject_of(pod).model
        for pod in listed
    }
    for node, top in nodes.items():
        for row in top.containers:
            estimate = estimates.get((row.namespace, row.pod, row.container))
            model = models.get((row.namespace, row.pod), "")
            yield UseLine(node, tenants.get(row.namespace, ""), row, estimate, model)


@dataclass(frozen=True, slots=True)
class ModelUse:
    """All servers of a model together, in MiB of all their cards."""

    model: str
    slices: int
    granted_mib: int
    used_mib: int
    peak_mib: int
    over_ask_mib: int


def by_model(lines: Iterable[UseLine]) -> list[ModelUse]:
    """The servers of each model, those who ask for most too much first. Slices without a limit ask for nothing."""
    groups: dict[str, list[UseLine]] = {}
    for line in lines:
        if line.model and line.row.limit_mib is not None:
            groups.setdefault(line.model, []).append(line)
    found = [
        ModelUse(
            model,
            len(each),
            sum(line.row.limit_mib or 0 for line in each),
            sum(line.row.used_mib for line in each),
            sum(line.row.peak_mib for line in each),
            sum(line.over_ask_mib or 0 for line in each),
        )
        for model, each in groups.items()
    ]
    return sorted(found, key=lambda one: (-one.over_ask_mib, one.model))


def ordered(lines: Iterable[UseLine], by: str) -> list[UseLine]:
    """The lines by one of ORDERS, the greatest first; pods by name."""

    def rank(line: UseLine) -> tuple[int, str, str, str]:
        return -_NUMBERS[by](line) if by in _NUMBERS else 0, line.row.namespace, line.row.pod, line.row.container

    return sorted(lines, key=rank)


def _estimates(pods: Iterable[Json]) -> Iterator[tuple[tuple[str, str, str], int]]:
    for pod in pods:
        text = text_at(pod, "metadata", "annotations", SIZED)
        if not text:
            continue
        try:
            record = json.loads(text)
            limits = at(record, "limits")
            mib = next(int(limits[key]) for key in limits if key.endswith("gpumem"))
        except (ValueError, TypeError, StopIteration, RecursionError):
            continue
        yield (
            (text_at(pod, "metadata", "namespace"), text_at(pod, "metadata", "name"), text_at(record, "container")),
            mib,
        )
