"""Nodes allowed by a pod's selector, required node affinity and tolerations: kube-scheduler's first checks."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from kerf.values.node import Node, Taint
from kerf.wire.json import Json, at, items_at
from kerf.wire.node_demand import lasting_taints, read_demand

CORDONED = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
"""What a pod must tolerate to run on a cordoned node, whether or not the node has the taint yet."""
NOT_ELIGIBLE = "no node has what its node selector, node affinity and tolerations demand"

_WHOLE = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
"""Python reads more as a number than Kubernetes does."""


def eligible_nodes(spec: Json, nodes: Iterable[Node]) -> list[str]:
    """Names of the nodes on which a pod with this spec may run, cards apart, in the given order."""
    return [node.name for node in nodes if is_eligible(spec, node)]


def is_eligible(spec: Json, node: Node) -> bool:
    """Whether the node is one on which a pod with this spec may run, cards apart."""
    labels, tolerations = dict(node.labels), spec.get("tolerations") or []
    if not node.schedulable and not any(tolerates(toleration, CORDONED) for toleration in tolerations):
        return False
    if any(labels.get(key) != value for key, value in at(spec, "nodeSelector").items()):
        return False
    if not all(any(tolerates(toleration, taint) for toleration in tolerations) for taint in node.taints):
        return False
    affinity = at(spec, "affinity", "nodeAffinity")
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(term_matches(term, labels, node.name) for term in required.get("nodeSelectorTerms") or [])


def is_meant(demand: str, node: Node) -> bool:
    """Whether a pod that demands this of nodes (`kerf.wire.node_demand`) is meant for the node, cordons apart.

    What no API server lets in bars nothing.
    """
    if not demand and not node.taints:
        return True
    try:
        return is_eligible(read_demand(demand), replace(node, schedulable=True, taints=lasting_taints(node.taints)))
    except (KeyError, TypeError, AttributeError):
        return True


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes labels."""
    if any(labels.get(key) != value for key, value in at(selector, "matchLabels").items()):
        return False
    return all(matches(rule, labels) for rule in items_at(selector, "matchExpressions"))


def matches(rule: Json, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy one matchExpression (In, NotIn, Exists, DoesNotExist, Gt, Lt)."""
    value, values = labels.get(str(rule.get("key"))), rule.get("values")
    wanted = values if isinstance(values, list) else []
    match rule.get("operator"):
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
    if value is None or len(wanted) != 1 or not (_WHOLE.fullmatch(value) and _WHOLE.fullmatch(wanted[0])):
        return False
    found, bound = int(value), int(wanted[0])
    return found > bound if operator == "Gt" else found < bound


def term_matches(term: Json, labels: Mapping[str, str], name: str) -> bool:
    """Whether a node of this name with these labels satisfies a term; one that demands nothing matches no node."""
    rules, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not rules and not fields:
        return False
    return all(matches(rule, labels) for rule in rules) and all(
        matches(rule, {"metadata.name": name}) for rule in fields
    )


def tolerates(toleration: Json, taint: Taint) -> bool:
    """Whether a pod with this toleration may run in spite of the taint."""
    if toleration.get("effect") and toleration["effect"] != taint.effect:
        return False
    if not toleration.get("key"):
        return bool(toleration.get("operator") == "Exists")
    if toleration["key"] != taint.key:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.value
