"""What a pod demands and prefers of a node by selector, affinity and tolerations. Pure."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from kerf.values.node import Node, Taint
from kerf.wire.json import Json, at, items_at
from scheduler.core.eligible import is_eligible, term_matches, tolerates
from scheduler.express.requests import Amounts, allocatable_of

ADVISES = "PreferNoSchedule"


@dataclass(frozen=True, slots=True)
class Place:
    """A node as the lane sees it: its labels, every taint, and what it has for pods."""

    name: str
    labels: tuple[tuple[str, str], ...]
    taints: tuple[Taint, ...]
    unschedulable: bool
    allocatable: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Demands:
    """A pod's selector, node affinity and tolerations. Equal for pods that demand and prefer the same."""

    text: bytes
    spec: Json = field(compare=False, repr=False)

    def allow(self, place: Place) -> bool:
        """Whether the pod may run on the node, apart from what the node has room for."""
        blocking = tuple(taint for taint in place.taints if taint.effect != ADVISES)
        node = Node(place.name, labels=place.labels, schedulable=not place.unschedulable, taints=blocking)
        return is_eligible(self.spec, node)

    def wish(self, place: Place) -> tuple[int, int]:
        """The weights of the preferred terms that match, and how many advising taints are not tolerated."""
        terms = items_at(self.spec, "affinity", "nodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution")
        labels = dict(place.labels)
        weights = sum(
            int(term.get("weight") or 0) for term in terms if term_matches(at(term, "preference"), labels, place.name)
        )
        tolerations = [each for each in items_at(self.spec, "tolerations") if each.get("effect") in (None, "", ADVISES)]
        advising = [taint for taint in place.taints if taint.effect == ADVISES]
        return weights, sum(not any(tolerates(each, taint) for each in tolerations) for taint in advising)


def place_of(node: Json) -> Place:
    """Read a node."""
    spec = at(node, "spec")
    return Place(
        name=str(at(node, "metadata").get("name", "")),
        labels=tuple(sorted((str(k), str(v)) for k, v in at(node, "metadata", "labels").items())),
        taints=tuple(
            Taint(str(item.get("key", "")), str(item.get("value") or ""), str(item.get("effect", "")))
            for item in items_at(spec, "taints")
        ),
        unschedulable=bool(spec.get("unschedulable")),
        allocatable=_sorted(allocatable_of(node)),
    )


def demands_of(spec: Json) -> Demands:
    """Read what a pod demands."""
    said: dict[str, Any] = {
        "nodeSelector": spec.get("nodeSelector") or {},
        "tolerations": spec.get("tolerations") or [],
        "affinity": {"nodeAffinity": at(spec, "affinity").get("nodeAffinity") or {}},
    }
    return Demands(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), said)


def _sorted(amounts: Amounts) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(amounts.items()))
