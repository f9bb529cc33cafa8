"""Whether another pod's affinity may look at a pod."""

from typing import Any

import pytest

from kerf.testing.builders import a_pod
from scheduler.express.neighbours import terms_of

WEB = {"labelSelector": {"matchLabels": {"app": "web"}}}
HOST = {"topologyKey": "kubernetes.io/hostname"}


def expression(operator: str, *values: str) -> dict[str, Any]:
    return {"labelSelector": {"matchExpressions": [{"key": "app", "operator": operator, "values": list(values)}]}}


def looks(term: dict[str, Any], namespace: str = "default", kind: str = "podAntiAffinity", **labels: str) -> bool:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [{**term, **HOST}]}
    weighted = [{"weight": 1, "podAffinityTerm": {**term, **HOST}}]
    found = []
    for rules in (required, {"preferredDuringSchedulingIgnoredDuringExecution": weighted}):
        (one,) = terms_of(a_pod(spec={"affinity": {kind: rules}}))
        found.append(one.looks_at(namespace, labels))
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    ("term", "seen"),
    [
        (WEB, True),
        ({"labelSelector": {}}, True),
        (expression("In", "web", "api"), True),
        (expression("NotIn", "web"), False),
        (expression("Exists"), True),
        (expression("DoesNotExist"), False),
        (expression("Near"), True),
        ({**WEB, "namespaces": ["other"]}, False),
        ({**WEB, "namespaces": ["other"], "namespaceSelector": {"matchLabels": {"a": "b"}}}, True),
        ({**WEB, "namespaceSelector": {}}, True),
    ],
)
@pytest.mark.parametrize("kind", ["podAffinity", "podAntiAffinity"])
def test_a_term_looks_at_what_it_may_select(term: dict[str, Any], seen: bool, kind: str) -> None:
    assert looks(term, kind=kind, app="web") is seen


def test_a_term_without_words_on_namespaces_is_about_its_own() -> None:
    assert not looks(WEB, namespace="other", app="web")


def test_a_term_without_a_selector_looks_at_no_pod() -> None:
    rules = {"requiredDuringSchedulingIgnoredDuringExecution": [HOST]}

    assert terms_of(a_pod(spec={"affinity": {"podAntiAffinity": rules}})) == ()
    assert terms_of(a_pod()) == ()
