"""What people read of a fleet: the statuses of Clusters and FleetWorkloads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kerf.values.fleet import Assigned, FleetSettings, FleetWorkload, Phase
from kerf.wire.fleet import condition
from kerf.wire.json import Json, items_at
from scheduler.fleet.assign import Decision
from scheduler.fleet.places import as_planned
from scheduler.fleet.shapes import Terms
from scheduler.fleet.view import View
from scheduler.solver.fleet.problem import MICRO

_SAYS = {
    Phase.JOINING: "it has not answered yet",
    Phase.LIVE: "it answers",
    Phase.SILENT: "it does not answer; what it has still counts",
    Phase.LOST: "it has not answered for too long; its replicas are placed elsewhere",
    Phase.RETURNED: "it answers again; replicas of an older epoch are being removed, and it has no capacity until then",
    Phase.RESTING: "nothing of an older epoch is left; it takes no new work before its back-off ends",
}


def cluster_status(view: View, settings: FleetSettings, broken: str) -> dict[str, Any]:
    """The part of a Cluster's status that is for people."""
    record, trusted = view.record, view.reliability >= settings.trusted
    reachable = record.phase not in (Phase.JOINING, Phase.SILENT, Phase.LOST)
    losses = len(record.losses)
    says = f"reliability {view.reliability:.2f} after {losses} loss{'es' if losses != 1 else ''}"
    found = [
        condition("Reachable", reachable, record.phase.value, broken or _SAYS[record.phase]),
        condition("Fresh", view.takes_work, record.phase.value, _fresh(view)),
        condition("Trusted", trusted, "Reliability", f"{says}; prices count {1 / view.reliability:.2f} times"),
        condition("Permitted", not view.lacks, "Rights", _rights(view)),
    ]
    return {
        "reliability": f"{view.reliability:.2f}",
        "classes": _classes(view),
        "nodes": len(view.nodes),
        "conditions": found,
    }


def _fresh(view: View) -> str:
    if view.takes_work:
        return (
            "what was seen of it is fresh: it takes new work" if not view.spec.cordoned else "it is fresh, and cordoned"
        )
    return f"it takes no new work: {_SAYS[view.record.phase]}"


def _rights(view: View) -> str:
    if not view.lacks:
        return "its credential may do all that the fleet does"
    words = ", ".join(view.lacks[:6]) + (f" and {len(view.lacks) - 6} more" if len(view.lacks) > 6 else "")
    return f"its credential lacks {words}: run kerf cluster add {view.name} again, which renews the rights"


def _classes(view: View) -> list[dict[str, Any]]:
    """Cards by model: all, usable, empty, and the memory that is free."""
    found: dict[str, Counter[str]] = {}
    for state in view.states:
        for each in state.cards:
            counts = found.setdefault(each.card.model, Counter())
            counts["cards"] += 1
            if each.usable:
                counts["usable"] += 1
                counts["empty"] += not each.used.slots
                counts["freeMiB"] += max(0, each.free.memory_mib)
    keys = ("cards", "usable", "empty", "freeMiB")
    return [{"model": model, **{key: found[model][key] for key in keys}} for model in sorted(found)]


def workload_status(decision: Decision, views: Sequence[View], terms: Terms) -> dict[str, Any]:
    """The part of a FleetWorkload's status that is for people."""
    one = decision.workload
    placed = sum(part.replicas - part.leaving for part in decision.parts)
    if decision.problem:
        said = condition("Placed", False, "Unreadable", decision.problem)
    elif decision.short:
        text = f"{decision.short} of {one.replicas} replicas have no place: {'; '.join(decision.why)}"
        said = condition("Placed", False, "NoClusterFits", text)
    else:
        text = _where(decision.parts) + _exposed(one, decision.parts) + _unpriced(decision.parts, views, terms)
        said = condition("Placed", True, "Placed", text)
    least = one.min_available or one.replicas
    return {
        "observedGeneration": one.generation,
        "replicas": one.replicas,
        "placed": placed,
        "readyReplicas": decision.ready,
        "costPerHour": f"{price_of(one.key, views, terms) / MICRO:.4f}",
        "conditions": [
            said,
            condition(
                "Available", decision.ready >= least, "Ready", f"{decision.ready} ready, {least} wanted at least"
            ),
            as_planned(one, terms.names),
        ],
    }


def _unpriced(parts: Sequence[Assigned], views: Sequence[View], terms: Terms) -> str:
    """Models of the parts without a price: costPerHour leaves them out, and the plan counts them as the dearest one."""
    specs = {view.name: view.spec for view in views}
    without = {
        part.model
        for part in parts
        if (spec := specs.get(part.cluster))
        and terms.prices.of(part.model, spec.supply.value, spec.region or None) is None
    }
    return f"; no price for {', '.join(sorted(without))}, so costPerHour is without it" if without else ""


def _exposed(one: FleetWorkload, parts: Sequence[Assigned]) -> str:
    """Where the loss of one cluster would take more than `survive` allows."""
    here = Counter[str]()
    for part in parts:
        here[part.cluster] += part.replicas
    worst = max(here, key=lambda name: (here[name], name), default="")
    safe = here.total() - here[worst]
    return f"; {safe} of survive {one.survive} are elsewhere than in {worst}" if safe < one.survive else ""


def _where(parts: Sequence[Assigned]) -> str:
    return ", ".join(f"{p.cluster}: {p.replicas} on {p.model}" for p in parts) or "no replicas are wanted"


def price_of(workload: str, views: Sequence[View], terms: Terms) -> float:
    """What a workload's pods cost an hour, in millionths: of each card as much as of the memory that pods hold there.

    An unreachable cluster's pods count as they were seen last, for a rented card is paid for all the same.
    """
    total = 0.0
    for view in views:
        mine = Counter[str]()
        for each_slice in (part for pod in view.pods if pod.workload == workload for part in pod.slices):
            mine[each_slice.card] += each_slice.memory_mib
        for state in view.states if mine else ():
            for each in state.cards:
                if each.card.id in mine and each.used.memory_mib > 0:
                    price = terms.prices.of(each.card.model, view.spec.supply.value, view.spec.region or None)
                    part = min(1.0, mine[each.card.id] / each.used.memory_mib)
                    total += part * float(price.per_hour * MICRO if price else 0)
    return total


def stamped(status: Mapping[str, Any], old: Json, now: float) -> dict[str, Any]:
    """The status with the time at which each condition's status changed last."""
    before = {each.get("type"): each for each in items_at(old, "conditions")}
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = []
    for each in status["conditions"]:
        known = before.get(each["type"], {})
        since = known.get("lastTransitionTime") if known.get("status") == each["status"] else None
        found.append({**each, "lastTransitionTime": since or moment})
    return {**status, "conditions": found}
