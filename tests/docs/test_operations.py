"""docs/operations.md lists every metric, alert and chart value that exists, and no other."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from deviceplugin.metrics import PluginMetrics
from deviceplugin.monitor.instances import InstanceSeries
from deviceplugin.monitor.watch import Limits, Monitor
from deviceplugin.state.node import LocalNode
from kerf.obs.metrics import Metrics
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import MeteringSettings, SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Answer
from scheduler.extender.gauges import Gauges
from scheduler.learning.metrics import LearningPage
from scheduler.metering.engines import Scaled, scale_families
from scheduler.metering.reported import ReportWatch
from scheduler.metering.totals import MeterMetrics, Shown
from scheduler.metering.totals import families as usage_families
from scheduler.metrics import GatewayMetrics, QuotaMetrics, RecoveryMetrics, SchedulerMetrics
from scheduler.state.store import Store
from scheduler.usage.metrics import UsageMetrics
from webhook.core.settings import Settings as WebhookSettings
from webhook.server.advice import Adviser
from webhook.server.app import Limits as WebhookLimits
from webhook.server.app import Service
from webhook.server.claims import ClaimDesk
from webhook.server.line import Line
from webhook.server.rules import Rules

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
RULES = yaml.safe_load((ROOT / "charts/kerf/alerts/kerf.rules.yaml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]


def registries() -> list[Metrics]:
    """What each daemon registers when it starts."""
    scheduler, webhook, plugin = Metrics(), Metrics(), Metrics()
    QuotaMetrics.build(scheduler)
    RecoveryMetrics.build(scheduler)
    Gauges(Store(SchedulingPolicy(), VENDORS), SchedulerMetrics.build(scheduler), scheduler, hami=True)
    Service(lambda review: Answer(allowed=True), webhook, WebhookLimits()).watch_certificates(lambda: "", lambda: 0.0)
    line = Line("scheduler", 9090)
    Adviser(Rules(WebhookSettings(VENDORS)), line, webhook)
    ClaimDesk(line, webhook)
    PluginMetrics.build(plugin)
    nothing = cast("Any", None)
    plugin.registry.register(Monitor(nothing, nothing, LocalNode("n"), nothing, Limits(hami=True)))
    none = cast("Any", SimpleNamespace(records=lambda: (), pods=lambda: ()))
    plugin.registry.register(InstanceSeries(none, LocalNode("n"), none, hami=True))
    MeterMetrics.build(scheduler)
    GatewayMetrics.build(scheduler)
    UsageMetrics.build(scheduler)
    return [scheduler, webhook, plugin]


def existing() -> dict[str, str]:
    """Type by name, as it is exposed."""
    families = [family for metrics in registries() for family in metrics.registry.collect()]
    watch = ReportWatch(FakeKube(), lambda: MeteringSettings(enabled=True, gateway_reports=True), dict)
    watch.run_once()
    families += watch.families("")
    families += [*usage_families(Shown("", "USD", {}, {}, {})), *scale_families(Scaled(), "")]
    page = LearningPage()
    page.show((), {}, {}, ())
    families += page.collect()
    return {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families}


def listed() -> dict[str, str]:
    return dict(re.findall(r"^\| `((?:kerf|hami)_\w+)` \| (\w+) \|", PAGE, re.MULTILINE))


def test_the_tables_name_every_metric_with_its_type_and_no_other() -> None:
    assert listed() == existing()


@pytest.mark.parametrize("alert", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_every_alert_asks_for_metrics_that_exist(alert: dict[str, Any]) -> None:
    histograms = {name for name, kind in existing().items() if kind == "histogram"}
    names = set(existing()) | {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")}
    asked = set(re.findall(r"\b(?:kerf|hami)_\w+", alert["expr"]))

    assert asked
    assert asked <= names


def test_every_alert_is_explained_and_no_other() -> None:
    section = PAGE.split("\n## Alerts\n")[1].split("\n## ")[0]

    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == [rule["alert"] for rule in ALERTS]


@pytest.mark.parametrize("page", ["operations.md", "migrate-from-hami.md"])
def test_every_chart_value_that_is_named_exists(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    values = yaml.safe_load((ROOT / "charts/kerf/values.yaml").read_text())

    def known(path: str) -> bool:
        found: Any = values
        for part in path.split("."):
            if not isinstance(found, dict) or part not in found:
                return False
            found = found[part]
        return True

    tops = "|".join(values)
    named = set(re.findall(rf"(?:`|--set )((?:{tops})(?:\.\w+)+)", text))
    assert named
    assert [path for path in sorted(named) if not known(path)] == []
