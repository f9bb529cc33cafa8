"""TenantQuota objects at the door."""

from typing import Any

import pytest

from kerf.wire.admission import Answer
from tests.webhook.tenants import a_book, answer_to, settings_of

KNOWN = settings_of([a_book(name="first", namespaces=("taken",))])


def a_quota(name: str = "second", **spec: Any) -> dict[str, Any]:
    default = {"namespaces": ["free"], "classes": [{"model": "H100", "guaranteed": "2 cards"}]}
    version = "kerf.dev/v1alpha1"
    return {"apiVersion": version, "kind": "TenantQuota", "metadata": {"name": name}, "spec": {**default, **spec}}


def test_a_readable_one_passes() -> None:
    assert answer_to(a_quota(), KNOWN) == Answer(allowed=True)


@pytest.mark.parametrize("old", [None, a_quota(weight=2)], ids=["a new one", "a changed one"])
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"weight": 0}, "spec.weight: '0': write a whole number from 1 to 1000"),
        (
            {"wieght": 1},
            "spec.wieght: '1': unknown key; use one of namespaces, classes, weight, priority, whenOver, claims",
        ),
        (
            {"namespaces": ["free", "taken"]},
            "spec.namespaces[1]: 'taken': it belongs to tenant first already: drop it from one of the two",
        ),
    ],
    ids=["a number", "a word", "another's namespace"],
)
def test_one_that_cannot_be_kept_is_refused_with_the_fix(
    old: dict[str, Any] | None, spec: dict[str, Any], message: str
) -> None:
    assert answer_to(a_quota(**spec), KNOWN, old) == Answer(allowed=False, message=message)


def test_a_tenant_may_change_what_it_has() -> None:
    mine = a_quota("first", namespaces=["taken", "more"])

    assert answer_to(mine, KNOWN, a_quota("first", namespaces=["taken"])).allowed


@pytest.mark.parametrize("changes", [{"subresource": "status"}, {"operation": "DELETE"}], ids=["status", "deletion"])
def test_its_status_and_its_end_do_not_matter(changes: dict[str, Any]) -> None:
    assert answer_to(a_quota(weight=0), KNOWN, **changes).allowed


def test_an_unreadable_old_one_may_lose_its_finalizer() -> None:
    old = a_quota(weight=0)
    new = {**old, "metadata": {"name": "second", "finalizers": []}}

    assert answer_to(new, KNOWN, old).allowed
