"""Whether another pod's affinity may look at a pod."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.testing.builders import a_pod
from scheduler.core.neighbours import Term, Terms, terms_of
from tests.effort import examples

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


WORDS = st.sampled_from(["a", "b", "c"])
RULES = st.tuples(
    WORDS, st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Near"]), st.lists(WORDS, max_size=2).map(tuple)
)
TERMS = st.builds(Term, st.none() | st.frozensets(WORDS, max_size=2), st.lists(RULES, max_size=2).map(tuple))


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(TERMS, st.booleans()), max_size=6), WORDS, st.dictionaries(WORDS, WORDS))
def test_the_terms_of_the_pods_that_are_left_look_at_what_one_of_them_looks_at(
    terms: list[tuple[Term, bool]], namespace: str, labels: dict[str, str]
) -> None:
    every = Terms()
    every.add(term for term, _ in terms)
    every.drop(term for term, stays in terms if not stays)

    left = [term for term, stays in terms if stays]
    assert bool(every) is bool(left)
    assert every.look_at(namespace, labels.items()) is any(term.looks_at(namespace, labels) for term in left)
