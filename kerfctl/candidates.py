"""The nodes that Kubernetes leaves to a pod before Kerf looks at cards, and why it leaves none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from kerf.values.node import Node
from kerf.wire.json import Json, at, items_at
from kerfctl.offers import Amounts, Offers
from scheduler.core.eligible import NOT_ELIGIBLE, is_eligible


@dataclass(frozen=True, slots=True)
class Candidates:
    """`names` are the nodes that are left. `barred` counts the others by reason; `sentence` says why none is left."""

    names: tuple[str, ...]
    barred: dict[str, int] = field(default_factory=dict)
    sentence: str = ""


def candidates(spec: Json, nodes: Sequence[Node], offers: Offers) -> Candidates:
    """Node selector, required affinity, taints, and extended resources."""
    asked, names, barred = offers.asked(spec), [], Counter[str]()
    for node in nodes:
        if not is_eligible(spec, node):
            barred["not_eligible"] += 1
        elif lacking := offers.lacks(asked, node.name):
            barred[f"too little {lacking}"] += 1
        else:
            names.append(node.name)
    return Candidates(tuple(names), dict(barred), "" if names else _none(barred, offers, asked))


ENDS = "it is being deleted: no scheduler binds it any more"


def waits(pod: Json, scheduler: str) -> str:
    """Why Kerf's scheduler is not asked about a pod that is not bound; empty where it is."""
    spec = at(pod, "spec")
    if gates := [str(gate.get("name")) for gate in items_at(spec, "schedulingGates")]:
        return f"scheduling gates hold it back: {', '.join(gates)}"
    named = str(spec.get("schedulerName") or scheduler)
    if named != scheduler:
        return f"it names scheduler {named}, which cannot divide cards; Kerf's is {scheduler}"
    return ""


def _none(barred: Counter[str], offers: Offers, asked: Amounts) -> str:
    if unserved := list(offers.unserved(asked)):
        return "; ".join(offers.explain(name) for name in unserved)
    if not barred or set(barred) == {"not_eligible"}:
        return NOT_ELIGIBLE
    short = [reason for reason in barred if reason != "not_eligible"]
    return f"no node that it may use has enough: {', '.join(short)}"
