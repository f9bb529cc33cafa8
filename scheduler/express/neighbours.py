"""Affinity of pods to other pods: whether a pod may meet one whose terms look at it. Pure.

The lane does not weigh such terms. It leaves every pod at which one looks to kube-scheduler.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kerf.wire.json import Json, at, items_at

_KINDS = ("podAffinity", "podAntiAffinity")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
Rule = tuple[str, str, tuple[str, ...]]
"""Key, operator and values of one expression."""


@dataclass(frozen=True, slots=True)
class Term:
    """Pods at which one term looks. `namespaces` is None where a selector of namespaces decides: any."""

    namespaces: frozenset[str] | None
    rules: tuple[Rule, ...]

    def looks_at(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod may be among them."""
        if self.namespaces is not None and namespace not in self.namespaces:
            return False
        return all(_holds(rule, labels) for rule in self.rules)


def terms_of(pod: Json) -> tuple[Term, ...]:
    """Every term of a pod that looks at other pods, required or preferred."""
    affinity = at(pod, "spec", "affinity")
    if not affinity:
        return ()
    namespace = str(at(pod, "metadata").get("namespace") or "default")
    return tuple(_term(term, namespace) for term in _raw(affinity) if at(term).get("labelSelector") is not None)


def _raw(affinity: Json) -> Iterable[Json]:
    for kind in _KINDS:
        yield from items_at(affinity, kind, _REQUIRED)
        for weighted in items_at(affinity, kind, _PREFERRED):
            yield at(weighted, "podAffinityTerm")


def _term(term: Json, own: str) -> Term:
    selector = at(term, "labelSelector")
    named = term.get("namespaces")
    names = frozenset(str(name) for name in named) if isinstance(named, list) else frozenset()
    anywhere = term.get("namespaceSelector") is not None
    equal = ((str(key), "In", (str(value),)) for key, value in at(selector, "matchLabels").items())
    return Term(
        namespaces=None if anywhere else names or frozenset({own}),
        rules=(*equal, *(_rule(rule) for rule in items_at(selector, "matchExpressions"))),
    )


def _rule(rule: Json) -> Rule:
    values = rule.get("values")
    words = tuple(str(value) for value in values) if isinstance(values, list) else ()
    return str(rule.get("key", "")), str(rule.get("operator", "")), words


def _holds(rule: Rule, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy an expression; an operator that is not known may hold."""
    key, operator, values = rule
    found = labels.get(key)
    match operator:
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case _:
            return True
