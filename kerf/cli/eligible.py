"""Which nodes a pod's own words allow: node selector, required node affinity, taints; kube-scheduler's first checks."""

from collections.abc import Iterable, Mapping
from typing import Any

Json = Mapping[str, Any]
_BLOCKING = frozenset({"NoSchedule", "NoExecute"})


def eligible_nodes(pod: Json, nodes: Iterable[Json]) -> list[str]:
    """Names of the nodes on which the pod may run, cards apart, in the given order."""
    return [str(node["metadata"]["name"]) for node in nodes if is_eligible(pod, node)]


def is_eligible(pod: Json, node: Json) -> bool:
    """Whether one node is allowed."""
    spec = pod.get("spec") or {}
    meta, node_spec = node["metadata"], node.get("spec") or {}
    labels = meta.get("labels") or {}
    if node_spec.get("unschedulable"):
        return False
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    tolerations = spec.get("tolerations") or []
    taints = [taint for taint in node_spec.get("taints") or [] if taint.get("effect") in _BLOCKING]
    if not all(any(_tolerates(toleration, taint) for toleration in tolerations) for taint in taints):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term(term, labels, meta["name"]) for term in required.get("nodeSelectorTerms") or [])


def matches(rule: Json, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy one matchExpression (In, NotIn, Exists, DoesNotExist, Gt, Lt)."""
    value, wanted = labels.get(rule["key"]), rule.get("values") or []
    match rule["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compares(operator, value, wanted)
        case _:
            return False


def _compares(operator: str, value: str | None, wanted: list[str]) -> bool:
    try:
        found, bound = int(value or ""), int(wanted[0])
    except (ValueError, IndexError):
        return False
    return found > bound if operator == "Gt" else found < bound


def _term(term: Json, labels: Mapping[str, str], name: str) -> bool:
    rules, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not rules and not fields:
        return False
    return all(matches(rule, labels) for rule in rules) and all(
        matches(rule, {"metadata.name": name}) for rule in fields
    )


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint.get("key"):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
