"""What the scopes of a ResourceQuota look at in a pod's spec, as Kubernetes reads it."""

from collections.abc import Iterator

from kerf.values.traits import Traits
from kerf.wire.json import Json, at, items_at

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def traits_of(spec: Json) -> Traits:
    """The traits of a pod with this spec. Never raises."""
    deadline, priority_class = spec.get("activeDeadlineSeconds"), spec.get("priorityClassName")
    return Traits(
        terminating=deadline is not None,
        best_effort=not any(_asks(holder) for holder in (spec, *_containers(spec))),
        priority_class=priority_class if isinstance(priority_class, str) else "",
        cross_namespace="affinity" in spec and any(_looks_elsewhere(term) for term in _terms(at(spec, "affinity"))),
    )


def _containers(spec: Json) -> tuple[Json, ...]:
    return (*items_at(spec, "containers"), *items_at(spec, "initContainers"))


def _asks(holder: Json) -> bool:
    resources = at(holder, "resources")
    asked = {**at(resources, "limits"), **at(resources, "requests")} if resources else {}
    return any(str(asked.get(name, 0)) not in {"0", ""} for name in ("cpu", "memory"))


def _terms(affinity: Json) -> Iterator[Json]:
    for kind in ("podAffinity", "podAntiAffinity"):
        yield from items_at(affinity, kind, _REQUIRED)
        yield from (at(weighted, "podAffinityTerm") for weighted in items_at(affinity, kind, _PREFERRED))


def _looks_elsewhere(term: Json) -> bool:
    return bool(term.get("namespaces")) or term.get("namespaceSelector") is not None
