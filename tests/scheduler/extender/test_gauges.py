"""Gauges tell the present of the store; HAMi's names appear on demand only."""

from typing import Any

import pytest

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_grant, a_node, a_pod
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.extender.gauges import Gauges, _HamiGauges
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store, load


def scrape(*, hami: bool) -> str:
    store = Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node("n", 1)], [a_pod("held", node="n", grant=a_grant("GPU-n-0", 8000, 30)), a_pod("waits")])
    registry = Metrics()
    Gauges(store, SchedulerMetrics.build(registry), registry, hami=hami).refresh()
    return registry.render().decode()


def test_the_ledger_and_the_waiting_pods_are_counted():
    text = scrape(hami=False)

    assert 'kerf_ledger_pods{state="confirmed"} 1.0' in text
    assert "kerf_waiting_pods 1.0" in text
    assert "hami_" not in text


def test_dashboards_made_for_hami_find_their_series():
    text = scrape(hami=True)

    card = 'device_index="0",device_type="NVIDIA H100 80GB HBM3",device_uuid="GPU-n-0",node="n",zone="vGPU"'
    assert f"hami_gpu_shared_count{{{card}}} 1.0" in text
    assert f"hami_gpu_core_allocated_ratio{{{card}}} 30.0" in text
    assert 'pod="held"' in text


def test_a_scrape_reads_again_only_nodes_that_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    store, registry = Store(SchedulingPolicy(), VENDORS), Metrics()
    held = a_pod("held", node="n", grant=a_grant("GPU-n-0", 8000, 30))
    load(store, [a_node("n", 1), a_node("m", 1), a_node("gone", 1)], [held])
    gauges = Gauges(store, SchedulerMetrics.build(registry), registry, hami=True)
    gauges.refresh()
    read: list[str] = []
    cards = _HamiGauges._cards

    def recorded(self: _HamiGauges, node: Any) -> Any:
        read.append(node.name)
        return cards(self, node)

    monkeypatch.setattr(_HamiGauges, "_cards", recorded)
    gauges.refresh()
    assert read == []

    store.feed.apply_pod("DELETED", held)
    store.feed.apply_node("DELETED", {"metadata": {"name": "gone"}})
    gauges.refresh()

    text = registry.render().decode()
    assert read == ["n"]
    assert 'pod="held"' not in text
    assert 'device_uuid="GPU-n-0",node="n",zone="vGPU"} 0.0' in text
    assert 'node="m"' in text
    assert 'node="gone"' not in text
