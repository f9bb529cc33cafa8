"""What a template says of the pods beside its own: what a plan weighs of it, and what is left to each cluster. Pure.

kube-scheduler honours every rule before it asks Kerf, so a place of a plan never breaks one.
"""

from collections.abc import Iterator

from kerf.values.fleet import FleetWorkload
from kerf.wire.json import Json, at, items_at
from scheduler.core.eligible import selects

HOSTNAME = "kubernetes.io/hostname"
_REQUIRED, _PREFERRED = (f"{word}DuringSchedulingIgnoredDuringExecution" for word in ("required", "preferred"))


def stays_apart(one: FleetWorkload) -> bool:
    """Whether a node takes only one of its pods: required anti-affinity, by hostname, to what has its own labels."""
    return any(_is_own(term, one) for term in items_at(one.template, "spec", "affinity", "podAntiAffinity", _REQUIRED))


def preferences(one: FleetWorkload) -> tuple[str, ...]:
    """The fields by which its pods prefer nodes; each cluster weighs them before the places of a plan."""
    affinity = at(one.template, "spec", "affinity")
    found = [f"{kind}.{_PREFERRED}" for kind in sorted(affinity) if at(affinity, kind).get(_PREFERRED)]
    return (*found, *_spread(one, soft=True))


def rules_of_clusters(one: FleetWorkload) -> tuple[str, ...]:
    """The fields with rules about neighbours that no plan weighs; only a cluster knows whether a pod keeps them."""
    affinity = at(one.template, "spec", "affinity")
    found = ["podAffinity"] if items_at(affinity, "podAffinity", _REQUIRED) else []
    if not all(_is_own(term, one) for term in items_at(affinity, "podAntiAffinity", _REQUIRED)):
        found.append("podAntiAffinity")
    return (*found, *_spread(one, soft=False))


def _spread(one: FleetWorkload, *, soft: bool) -> Iterator[str]:
    for each in items_at(one.template, "spec", "topologySpreadConstraints"):
        if (each.get("whenUnsatisfiable") == "ScheduleAnyway") is soft:
            yield f"topologySpreadConstraints of {each.get('topologyKey')}"


def _is_own(term: Json, one: FleetWorkload) -> bool:
    """Whether a term is about the workload's own pods, node by node."""
    named, labels = term.get("namespaces") or (), at(one.template, "metadata", "labels")
    here = one.namespace in named if named else not term.get("namespaceSelector")
    here = here and not term.get("mismatchLabelKeys")
    selector = term.get("labelSelector")
    return bool(
        here and term.get("topologyKey") == HOSTNAME and isinstance(selector, dict) and selects(selector, labels)
    )
