"""What Prometheus scrapes of a cluster with something to show in every panel and reason for every alert.

The pages are rendered by the daemons' own metrics and collectors, a minute apart. What happens in a minute is made up.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from deviceplugin.metrics import PluginMetrics
from kerf.metering.opencost import Holder
from kerf.metering.scale import Recommendation, Signal
from kerf.metering.use import CardTime, Use
from kerf.obs.metrics import Metrics
from kerf.probes.base import ProcessUse
from kerf.testing.builders import a_grant, a_node, a_node_value, a_pod
from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.grant import CardUse
from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import Amount, Bound
from kerf.values.units import MIB
from kerf.values.usage import TokenPrice
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Answer
from kerf.wire.limiter import CARDS_AT
from scheduler.extender.gauges import Gauges
from scheduler.metering.engines import Scaled, scale_families
from scheduler.metering.totals import MeterMetrics, Shown
from scheduler.metrics import QuotaMetrics, RecoveryMetrics, SchedulerMetrics
from scheduler.state.store import Store, load
from tests.deviceplugin.monitor.test_watch import World as Node
from tests.kerf.metering.histories import H100, L4, START, a_card, a_hold
from webhook.server.app import Limits, Service

MINUTES = 30
MODEL = "NVIDIA H100 80GB HBM3"
Page = dict[str, Any]


def pages(root: Path) -> Iterator[Page]:
    """Three targets, every minute."""
    targets = (("kerf-scheduler", "10.0.0.1:9090", scheduler()), ("kerf-webhook", "10.0.0.2:8443", webhook()),
               ("kerf-deviceplugin", "10.0.0.3:9394", node(root)))  # fmt: skip
    for job, instance, texts in targets:
        for minute, text in enumerate(texts):
            at = START + minute * 60_000
            yield {"at": at, "labels": {"job": job, "instance": instance, "namespace": "kerf-system"}, "text": text}


def scheduler() -> Iterator[str]:
    """A leader on a day on which everything that can go wrong does."""
    registry = Metrics()
    made, quota, recovery = (each.build(registry) for each in (SchedulerMetrics, QuotaMetrics, RecoveryMetrics))
    meter = MeterMetrics.build(registry)
    store = Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node("gpu-1")], [a_pod("waits", mem=90_000)])
    gauges = Gauges(store, made, registry, hami=False)
    quota.show([tenant()])
    recovery.paused.labels("h100").set(1)
    recovery.held.set(3)
    made.leads.set(1)
    made.unmet.labels("team").set(2)
    made.unmet_claims.labels("team").set(1)
    for minute in range(MINUTES):
        for counter in (made.elections, made.plans_rejected, made.preemptions, quota.failures, meter.gaps):
            counter.inc()
        made.turned_away.labels("full").inc()
        made.binds.labels("bound").inc(20)
        made.binds.labels("unknown").inc(12)
        made.refusals.labels("CardInsufficientMemory").inc(40)
        made.plans.labels("solver").inc()
        made.seconds.labels("filter").observe(2.0)
        meter.page.show(metered(minute))
        yield (gauges.scrape() + meter.page.text).decode()


def tenant() -> TenantAccount:
    """One that is promised more than there is, and of which Kueue knows something else."""
    amount = Amount(50_000, 100, 2)
    entry = ClassAccount(
        slug=H100.card_class,
        vendor="nvidia",
        model=MODEL,
        mode="shared",
        smallest_mib=80_000,
        largest_mib=80_000,
        promised=Bound(90_000),
        guaranteed=Bound(80_000),
        limit=Bound(160_000),
        used=amount,
        pending=Amount(9_000, 10, 1),
        reserved=amount,
        drift=Amount(1_000, 0, 0),
    )
    return TenantAccount("team", classes=(entry,))


def metered(minute: int) -> Shown:
    """Four quarters of a card at 2 USD an hour beside one that is idle and one without a price, so many minutes."""
    us, cost = minute * 60_000_000, minute * 60 * 2_000_000 * 1_000_000
    holds = [a_hold(name, mib=20_000) for name in ("a", "b", "c", "d")]
    lines = {(hold.who, H100): Use(us // 4, minute * 60_000 * 20_000, 0, cost // 4) for hold in holds}
    cards = {"GPU-0": a_card(), "GPU-1": a_card(1), "GPU-2": a_card(2, L4, per_hour=0)}
    key = ("ns", "Deployment/a")
    scaled = Scaled({key: Signal(1, 1, 9, 0.97)}, {key: Recommendation(2, 1, "tenant team may hold 80,000 MiB")})
    return Shown(
        cluster="here",
        currency="USD",
        lines=lines,
        cards={H100: CardTime(2 * us, 2 * cost), L4: CardTime(us, 0)},
        known=cards,
        prices=(TokenPrice("m", Decimal("0.1"), Decimal("0.05"), Decimal("0.5556")),),
        holders=tuple(
            Holder(f"ns/{hold.uid}", "node-1", a_grant("GPU-0", 20_000, 0), {"GPU-0": CardUse(20_000, 0, 1)})
            for hold in holds
        ),
        nodes=(a_node_value(),),
        more=tuple(scale_families(scaled, "here")),
    )


def webhook() -> Iterator[str]:
    """One that fails, and whose certificate ends in a week."""
    registry = Metrics()
    service = Service(lambda review: Answer(allowed=True), registry, Limits())
    service.watch_certificates(lambda: "", lambda: START / 1000 + 7 * 86_400)
    for _ in range(MINUTES):
        service._requests.labels("failed").inc()
        yield registry.render().decode()


def node(root: Path) -> Iterator[str]:
    """A card that is ill, a container that uses more than its grant, and a process outside pods."""
    world, registry = Node(root), Metrics()
    made = PluginMetrics.build(registry)
    registry.registry.register(world.monitor)
    inside, outside = world.a_process(41), world.a_process(42, pod="")
    made.card_healthy.labels("GPU-0", MODEL).set(0)
    for minute in range(MINUTES):
        made.starts.labels("NoGrant").inc()
        made.probe_errors.inc()
        used = {"charged": 3000 * MIB, "peak": 4000 * MIB, "denied": 2 * minute}
        world.patch_ledger(CARDS_AT, "card", **used, busy_ns=minute * 15 * 10**9, throttled_ns=minute * 6 * 10**9)
        world.look(ProcessUse("GPU-0", inside, 9000 * MIB, 25), ProcessUse("GPU-0", outside, 3000 * MIB, 0))
        yield registry.render().decode()
