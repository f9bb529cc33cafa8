"""The cluster's own models reach the rules as they change."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kerf.catalogue import shipped
from kerf.sizing.catalogue import Row
from kerf.testing.builders import a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Review
from sandbox.processes import await_until
from tests.kerf.sizing.models import a_config
from webhook.core.settings import Settings
from webhook.server.models import follow_models
from webhook.server.rules import Rules

MAPS = "/api/v1/namespaces/kerf-system/configmaps"


def a_map(name: str, **rows: object) -> dict[str, Any]:
    meta = {"name": name, "namespace": "kerf-system", "labels": {"kerf.dev/catalogue": "true"}}
    data = {f"{key}.json": row if isinstance(row, str) else json.dumps(row) for key, row in rows.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def a_row(name: str, **changes: object) -> dict[str, object]:
    return {"name": name, "config": a_config(), **changes}


@contextmanager
def following(kube: FakeKube) -> Iterator[list[tuple[Row, ...]]]:
    """What was handed on, the newest last."""
    seen: list[tuple[Row, ...]] = []
    follower = follow_models(kube, "kerf-system", seen.append)
    follower.start()
    try:
        await_until(lambda: follower.synced, "the first list")
        yield seen
    finally:
        follower.stop()


def names(rows: tuple[Row, ...]) -> list[str]:
    return [row.name for row in rows]


def test_models_come_and_go() -> None:
    kube = FakeKube(a_map("one", ours=a_row("ours")))
    with following(kube) as seen:
        assert names(seen[-1]) == ["ours"]

        kube.put(a_map("two", theirs=a_row("theirs")))
        await_until(lambda: names(seen[-1]) == ["ours", "theirs"], "the new model")

        kube.remove(f"{MAPS}/one")
        await_until(lambda: names(seen[-1]) == ["theirs"], "the end of a model")


@pytest.mark.parametrize("broken", ["{", "[]", '{"name": "ours"}', '{"name": "ours", "config": 5}'])
def test_a_row_that_cannot_be_read_takes_no_model_away(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    kube = FakeKube(a_map("one", ours=a_row("ours")))
    with following(kube) as seen, caplog.at_level(logging.WARNING, "webhook"):
        kube.put(a_map("one", ours=broken, more=a_row("more")))
        await_until(lambda: "more" in names(seen[-1]), "the row beside it")

        assert names(seen[-1]) == ["more", "ours"]
    assert "ConfigMap one: ours.json:" in caplog.text


def test_a_clusters_row_is_sized_at_the_next_review_and_replaces_a_shipped_one() -> None:
    rules = Rules(Settings(VENDORS, catalogue=shipped()))
    pod = a_pod(annotations={"kerf.dev/model": "qwen3-0.6b;max-len=4096"}, containers=[{"name": "main"}])
    review = Review("u", "CREATE", "Pod", "default", "joe", pod, {})
    before = rules.decide(review).patch

    rules.offer((Row("qwen3-0.6b", "", a_config()),))

    assert before != rules.decide(review).patch
    assert rules.decide(review).allowed
    rules.offer(())
    assert rules.decide(review).patch == before
