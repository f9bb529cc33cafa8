"""The tenants' books reach the rules as they change."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kerf.kube.errors import NotFound
from kerf.testing.fake_kube import FakeKube
from kerf.values.accounts import TenantAccount
from kerf.wire.quota import PATH
from sandbox.processes import await_until
from webhook.server.tenants import follow_tenants


def a_quota(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    spec = {"namespaces": [namespace], "classes": [{"model": "H100", "guaranteed": "2 cards"}], **spec}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": spec}


@contextmanager
def following(kube: FakeKube) -> Iterator[list[dict[str, TenantAccount]]]:
    """What was handed on, the newest last."""
    seen: list[dict[str, TenantAccount]] = []
    follower = follow_tenants(kube, lambda books: seen.append({book.name: book for book in books}))
    follower.start()
    try:
        await_until(lambda: follower.synced, "the first list")
        yield seen
    finally:
        follower.stop()


def test_tenants_come_change_and_go() -> None:
    kube = FakeKube(a_quota("a", "one"))
    with following(kube) as seen:
        assert {name: book.namespaces for name, book in seen[-1].items()} == {"a": ("one",)}

        kube.put({**a_quota("b", "two"), "status": {"enforced": True}})
        await_until(lambda: set(seen[-1]) == {"a", "b"}, "the new tenant")
        assert seen[-1]["b"].enforced

        kube.remove(f"{PATH}/a")
        await_until(lambda: set(seen[-1]) == {"b"}, "the end of a tenant")


def test_an_edit_that_cannot_be_read_holds_old_and_new_namespaces_to_nothing(caplog: pytest.LogCaptureFixture) -> None:
    kube = FakeKube(a_quota("a", "one"))
    with following(kube) as seen, caplog.at_level(logging.WARNING, "webhook"):
        kube.put(a_quota("a", "two", weight=0))
        kube.put(a_quota("b", "three"))
        await_until(lambda: "b" in seen[-1], "the tenant that came after")

        sentence = "spec.weight: '0': write a whole number from 1 to 1000"
        assert seen[-1]["a"] == TenantAccount("a", ("one", "two"), enforced=True, problems=(sentence,))
    assert "TenantQuota a: spec.weight: '0': write a whole number" in caplog.text


def test_a_cluster_without_the_kind_has_no_tenants() -> None:
    kube = FakeKube()

    def absent(_method: str, path: str) -> None:
        if path == PATH:
            raise NotFound(404, "NotFound", "no such kind")

    kube.fail = absent
    with following(kube) as seen:
        assert seen == [{}]
