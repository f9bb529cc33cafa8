"""Affinity of pods to other pods: whether a pod may meet one whose terms look at it. Pure.

Kerf does not weigh such terms. Where one looks at a pod, kube-scheduler chooses the node.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kerf.wire.json import Json, at, items_at

LOOKED_AT = "spec.affinity of another pod looks at it"
"""Why a pod is left."""
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


class Terms:
    """The terms of all pods, found by a label that they demand: most demand one, and few demand the same."""

    def __init__(self) -> None:
        self._counts: Counter[Term] = Counter()
        self._by_label: defaultdict[tuple[str, str] | None, set[Term]] = defaultdict(set)
        """By each label of which a term demands one; None for a term that demands no value."""

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, terms: Iterable[Term]) -> None:
        """A pod with these terms is there."""
        for term in terms:
            self._counts[term] += 1
            for label in _demanded(term):
                self._by_label[label].add(term)

    def drop(self, terms: Iterable[Term]) -> None:
        """A pod with these terms, which was added, is gone."""
        for term in terms:
            self._counts[term] -= 1
            if not self._counts[term]:
                del self._counts[term]
                for label in _demanded(term):
                    self._by_label[label].discard(term)
                    if not self._by_label[label]:
                        del self._by_label[label]

    def look_at(self, namespace: str, labels: Iterable[tuple[str, str]]) -> bool:
        """Whether one of them looks at a pod."""
        found = dict(labels)
        near = (self._by_label.get(label, ()) for label in (*found.items(), None))
        return any(term.looks_at(namespace, found) for terms in near for term in terms)


def _demanded(term: Term) -> Iterable[tuple[str, str] | None]:
    """Labels of which every pod has one at which the term looks."""
    for key, operator, values in term.rules:
        if operator == "In":
            return {(key, value) for value in values}
    return (None,)


def terms_of(pod: Json) -> tuple[Term, ...]:
    """Every term of a pod that looks at other pods, required or preferred."""
    affinity = at(pod, "spec", "affinity")
    if not affinity:
        return ()
    namespace = str(at(pod, "metadata").get("namespace") or "default")
    return tuple(read_term(term, namespace) for term in _raw(affinity) if at(term).get("labelSelector") is not None)


def _raw(affinity: Json) -> Iterable[Json]:
    for kind in _KINDS:
        yield from items_at(affinity, kind, _REQUIRED)
        for weighted in items_at(affinity, kind, _PREFERRED):
            yield at(weighted, "podAffinityTerm")


def read_term(term: Json, own: str) -> Term:
    """A term of a pod in the namespace `own`."""
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
