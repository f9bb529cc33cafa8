"""The meter against a fake API server: bind to release, records, a new leader, nodes that fill in, clocks that step."""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from kerf.config.prices import read_prices
from kerf.kube.errors import Unreachable
from kerf.metering.bill import Bill, bill
from kerf.obs.clock import SteadyClock
from kerf.obs.metrics import Metrics
from kerf.pricing.prices import PriceList, PriceRow
from kerf.testing.builders import H100_MIB, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.grant import CardUse
from kerf.values.policy import MeteringSettings, SchedulingPolicy
from kerf.values.supply import Supply
from kerf.vendors.registry import VENDORS
from kerf.wire.records import PodRecord
from kerf.wire.usage import PATH, moment_text, parse_usage
from scheduler.metering.meter import PATIENCE_MS, Meter, Sources
from scheduler.metering.noderecords import NodeAnswers
from scheduler.metering.totals import MeterMetrics
from scheduler.state.bookings import Booking, State
from scheduler.state.ledger import Ledger
from scheduler.state.store import Store, load
from tests.kerf.metering.histories import START

PRICES = PriceList("USD", (PriceRow("H100", Supply.OWNED, Decimal(2), "me", "2026-01-01"),))
QUARTER = (H100_MIB + 3) // 4


@dataclass
class Clock:
    """A machine's two clocks, in milliseconds."""

    boot: int = 1_000
    wall: int = START

    def __post_init__(self) -> None:
        self.steady = SteadyClock(lambda: self.boot, lambda: self.wall)

    def pass_(self, seconds: float) -> None:
        self.boot += round(seconds * 1000)
        self.wall += round(seconds * 1000)


@dataclass
class FakeRecords:
    records: tuple[PodRecord, ...] = ()
    silent: tuple[str, ...] = ()
    asked: list[int] = field(default_factory=list)

    def read(self, since_ms: int, nodes: Any) -> NodeAnswers:
        self.asked.append(since_ms)
        return NodeAnswers(self.records, self.silent)


class World:
    """A scheduler's state with its meter; `restart` is another process that leads next."""

    def __init__(self, **settings: Any) -> None:
        self.kube = FakeKube()
        self.clock = Clock()
        self.nodes = FakeRecords()
        values = {"enabled": True, "cluster": "west", "write_s": 0.0, **settings}
        self.policy = SchedulingPolicy(metering=MeteringSettings(**values))
        self.pods: dict[str, dict[str, Any]] = {}
        self.prices = PRICES
        self.restart()

    def restart(self) -> None:
        self.clock = Clock(5, self.clock.wall)
        self.store = Store(self.policy, VENDORS)
        self.store.ledger._moments = self.clock.steady
        load(self.store, [a_node("node-1", 1)], self.pods.values())
        self.store.feed.replace_pods(list(self.pods.values()))
        self.metrics = MeterMetrics.build(Metrics())
        self.new_term()

    def new_term(self) -> None:
        sources = Sources(lambda: self.prices, lambda: {"team-space": "team"}, self.nodes)  # type: ignore[arg-type]
        self.meter = Meter(self.store, self.kube, sources, self.metrics)
        self.meter.run_once()

    def bind(self, name: str, *, mib: int = QUARTER, namespace: str = "team-space", **more: Any) -> None:
        grant = a_grant("GPU-node-1-0", mib, 0)
        pod = a_pod(name, namespace=namespace, grant=grant, node="node-1", phase="Running", **more)
        when = {"type": "PodScheduled", "status": "True", "lastTransitionTime": moment_text(self.clock.wall)}
        pod["status"]["conditions"] = [when]
        self.pods[name] = pod
        self.store.feed.apply_pod("MODIFIED", pod)

    def delete(self, name: str, *, seen: bool = True) -> None:
        pod = self.pods.pop(name)
        if seen:
            self.store.feed.apply_pod("DELETED", pod)

    def pass_(self, seconds: float) -> None:
        self.clock.pass_(seconds)
        self.meter.run_once()

    def bill(self, *by: str) -> Bill:
        return bill([parse_usage(item) for item in self.kube.objects(PATH)], by or ("tenant", "workload"))

    def costs(self, *by: str) -> dict[tuple[str, ...], Decimal]:
        return {tuple(filter(None, line.key)): line.cost for line in self.bill(*by).lines}


def test_four_quarters_for_an_hour_are_one_gpu_hour_and_the_rest_is_idle() -> None:
    world = World()
    for i in range(4):
        world.bind(f"pod-{i}", mib=H100_MIB // 4)
    for _ in range(60):
        world.pass_(60)
    found = world.bill("tenant")

    (line,) = found.lines
    assert (line.tenant, round(line.vgpu_seconds), found.node_cost) == ("team", 3600, Decimal(2))
    assert line.cost + found.idle_cost == Decimal(2)


def test_a_pod_counts_from_its_bind_to_its_end_between_two_rounds() -> None:
    world = World()
    world.pass_(60)
    world.clock.pass_(10)
    world.bind("short", mib=H100_MIB)
    world.clock.pass_(7)
    world.delete("short")
    world.pass_(30)

    (line,) = world.bill().lines
    assert (line.workload, line.vgpu_seconds) == ("Pod/short", 7)


def test_a_new_leader_that_watched_loses_nothing() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    world.pass_(100)
    world.meter.close()
    world.clock.pass_(20)  # nobody leads
    world.delete("a")
    world.clock.pass_(30)
    world.new_term()

    assert [(line.workload, line.vgpu_seconds) for line in world.bill().lines] == [("Pod/a", 120)]
    assert world.nodes.asked == []


def test_after_a_time_without_any_replica_live_pods_count_on_and_nodes_say_which_came_and_went() -> None:
    world = World()
    world.bind("stays", mib=H100_MIB // 2)
    world.pass_(100)
    world.clock.pass_(600)  # no replica runs
    uses = {"GPU-node-1-0": CardUse(H100_MIB // 2, 0, 1)}
    begin = START + 200_000
    world.nodes = FakeRecords((PodRecord("u", "team-space", "x", "Job/x", "", begin, begin + 60_000, uses),))
    world.restart()
    world.pass_(1)

    seconds = {line.workload: round(line.vgpu_seconds) for line in world.bill().lines}
    assert seconds == {"Pod/stays": 350, "Job/x": 30}
    assert world.nodes.asked == [START + 100_000]


def test_a_node_that_does_not_answer_is_a_gap_that_the_bill_names() -> None:
    world = World()
    world.pass_(100)
    world.clock.pass_(600)
    world.nodes = FakeRecords(silent=("node-1",))
    world.restart()
    world.pass_(1)
    assert world.bill().notes == ()
    world.pass_(PATIENCE_MS / 1000)

    (note,) = world.bill().notes
    assert note.startswith("node node-1: pods that ended between 2025-11-27T16:01:40.000Z and 2025-11-27T16:11:40")


def test_a_node_without_cards_has_no_gap() -> None:
    world = World()
    world.pass_(100)
    world.clock.pass_(600)
    world.nodes = FakeRecords(silent=("cpu-1",))
    world.restart()
    world.store.feed.apply_node("ADDED", a_node("cpu-1", 0))
    world.pass_(1)

    assert world.nodes.asked == [START + 100_000]
    world.pass_(PATIENCE_MS / 1000)
    assert world.bill().notes == ()


def test_a_node_whose_device_plugin_is_replaced_in_the_same_upgrade_is_asked_again() -> None:
    world = World()
    world.bind("stays", mib=H100_MIB // 2)
    world.pass_(100)
    world.clock.pass_(4)
    world.nodes.silent = ("node-1",)
    world.restart()
    world.pass_(15)
    uses = {"GPU-node-1-0": CardUse(H100_MIB // 2, 0, 1)}
    begin = START + 101_000
    world.nodes.records, world.nodes.silent = (
        (PodRecord("u", "team-space", "x", "Job/x", "", begin, begin + 2_000, uses),),
        (),
    )
    world.pass_(1)

    found = world.bill()
    assert {line.workload: round(line.vgpu_seconds) for line in found.lines} == {"Pod/stays": 60, "Job/x": 1}
    assert found.notes == ()


@pytest.mark.parametrize("step_s", [-7200, 7200])
def test_a_clock_that_is_set_changes_nothing_for_a_running_leader(step_s: int) -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    world.pass_(60)
    world.clock.wall += step_s * 1000
    world.pass_(60)

    (line,) = world.bill().lines
    assert line.vgpu_seconds == 120


def test_a_leader_whose_clock_is_behind_counts_nothing_twice() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    world.pass_(600)
    world.clock.wall -= 300_000
    world.restart()
    world.pass_(100)
    world.pass_(200)
    world.pass_(50)

    found = world.bill()
    assert [line.vgpu_seconds for line in found.lines] == [650]
    assert found.node_cost == Decimal("0.361112")


def test_a_write_that_fails_is_written_by_the_next_round() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)

    def refuse(method: str, path: str) -> None:
        if method == "PATCH":
            raise Unreachable("no answer")

    world.kube.fail = refuse
    with pytest.raises(Unreachable):
        world.pass_(60)
    world.kube.fail = lambda method, path: None
    world.pass_(60)

    assert [line.vgpu_seconds for line in world.bill().lines] == [120]


def test_hours_are_closed_and_old_days_are_deleted() -> None:
    world = World(retention_days=1)
    world.bind("a", mib=H100_MIB)
    for _ in range(4 * 30):
        world.pass_(900)
    world.meter._swept_at = float("-inf")
    for _ in range(4 * 30):
        world.pass_(900)
    world.meter._swept_at = float("-inf")
    world.pass_(1)
    records = [parse_usage(item) for item in world.kube.objects(PATH)]

    assert min(record.hour_ms for record in records) == START + 32 * 3_600_000  # 2025-11-29T00
    ages = {record.closed for record in records if record.hour_ms < world.clock.wall - 2 * 3_600_000}
    assert ages == {True}


def test_a_card_that_left_the_inventory_counts_while_it_is_held() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    world.pass_(60)
    world.store.feed.apply_node("MODIFIED", a_node("node-1", ()))
    world.pass_(60)
    world.delete("a")
    world.pass_(60)

    found = world.bill()
    assert [line.vgpu_seconds for line in found.lines] == [120]
    assert found.idle_cost < Decimal("0.0351")  # the last round at most


def test_namespaces_without_a_tenant_have_records_of_their_own() -> None:
    world = World()
    world.bind("a", namespace="team-space")
    world.bind("b", namespace="free")
    world.pass_(3600)

    assert [item["metadata"]["name"] for item in world.kube.objects(PATH)] == [
        "2025112716",
        "2025112716-n-free",
        "2025112716-t-team",
    ]
    assert set(world.costs("tenant", "namespace")) == {("free",), ("team", "team-space")}


def test_metering_that_is_off_writes_nothing() -> None:
    world = World(enabled=False)
    world.bind("a")
    world.pass_(100)

    assert (world.kube.writes, world.metrics.page.text) == ([], b"")


def test_the_page_shows_use_costs_and_opencosts_series() -> None:
    world = World(open_cost=True)
    world.bind("a", mib=H100_MIB)
    world.pass_(1800)
    text = world.metrics.page.text.decode()

    labels = 'class="nvidia-h100-80gb-hbm3-shared",cluster="west"'
    who = 'model="",namespace="team-space",tenant="team",workload="Pod/a"'
    assert f"kerf_usage_vgpu_seconds_total{{{labels},{who}}} 1800.0" in text
    assert f'kerf_usage_cost_total{{{labels},currency="USD",{who}}} 1.0' in text
    assert f"kerf_card_seconds_total{{{labels}}} 1800.0" in text
    pod = 'container="main",instance="node-1",namespace="team-space",node="node-1",pod="a"'
    assert f"container_gpu_allocation{{{pod}}} 1.0" in text
    node = 'instance="node-1",instance_type="unknown",node="node-1",provider_id="node-1",region="unknown"'
    assert f"node_gpu_hourly_cost{{{node}}} 2.0" in text
    assert f"node_gpu_count{{{node}}} 1.0" in text


def test_totals_go_on_when_an_hour_leaves_the_books() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    for _ in range(12):
        world.pass_(900)

    line = next(text for text in world.metrics.page.text.decode().splitlines() if "vgpu_seconds_total{" in text)
    assert line.endswith(" 10800.0")


def test_records_are_json_of_kubernetes() -> None:
    world = World()
    world.bind("a")
    world.pass_(60)

    for item in world.kube.objects(PATH):
        json.dumps(item)
        assert item["metadata"]["labels"] == {"kerf.dev/usage-day": "20251127"}
    assert read_prices(None).currency == "USD"


def test_a_pod_that_ends_while_a_round_reads_what_pods_hold_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    bookings = Ledger.bookings

    def meanwhile(ledger: Ledger, *states: State) -> list[Booking]:
        if "a" in world.pods:
            world.delete("a")
        return bookings(ledger, *states)

    monkeypatch.setattr(Ledger, "bookings", meanwhile)
    world.pass_(3600)

    assert world.costs("tenant") == {("team",): Decimal(2)}


def in_euros(per_hour: str) -> PriceList:
    return PriceList("EUR", (PriceRow("H100", Supply.OWNED, Decimal(per_hour), "me", "2026-01-01"),))


def of_cards(world: World) -> list[tuple[str, Decimal]]:
    records = [parse_usage(item) for item in world.kube.objects(PATH)]
    return [(record.currency, record.cards[0].cost) for record in records if record.of_cards]


def test_a_price_list_in_another_currency_counts_from_the_next_full_hour_on() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    world.pass_(1800)
    world.prices = in_euros("3")
    world.pass_(1700)
    world.pass_(500)
    world.pass_(1400)
    text = world.metrics.page.text.decode()

    assert of_cards(world) == [("USD", Decimal(2)), ("EUR", Decimal("1.5"))]
    found = world.bill("tenant")
    assert [(line.cost, line.vgpu_seconds) for line in found.lines] == [(Decimal("3.5"), 5400)]
    costs = [line.rpartition("currency=")[2] for line in text.splitlines() if line.startswith("kerf_usage_cost_total{")]
    assert [line.partition(",")[0] for line in costs] == ['"EUR"']
    assert costs[0].endswith(" 1.5")
    assert "} 5400.0" in text


def test_a_card_that_left_the_inventory_follows_the_price_list_too() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    world.pass_(1800)
    world.store.feed.apply_node("MODIFIED", a_node("node-1", ()))
    world.pass_(0)
    world.prices = in_euros("3")
    world.pass_(1800)
    world.pass_(3600)

    assert of_cards(world) == [("USD", Decimal(2)), ("EUR", Decimal(3))]


def test_a_price_that_changes_in_mid_hour_counts_from_then_on() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    world.pass_(1800)
    world.prices = PriceList("USD", (PriceRow("H100", Supply.OWNED, Decimal(6), "me", "2026-01-01"),))
    world.pass_(1800)

    assert (of_cards(world), world.costs("tenant")) == ([("USD", Decimal(4))], {("team",): Decimal(4)})


@pytest.mark.parametrize("wrong_s", [-7200, 7200])
def test_a_scheduler_that_began_with_a_wrong_clock_counts_by_the_api_servers(wrong_s: int) -> None:
    """Its clock is set right after the start; binds carry the API server's time."""
    world = World(cluster="")
    world.clock.wall += wrong_s * 1000
    world.kube.moment = START
    world.restart()
    world.clock.wall -= wrong_s * 1000
    world.bind("a", mib=H100_MIB)
    world.pass_(60)
    world.delete("a")
    world.clock.pass_(60)
    world.kube.moment = world.clock.wall
    world.new_term()
    world.pass_(60)

    found = world.bill()
    assert [line.vgpu_seconds for line in found.lines] == [60]
    assert {item["metadata"]["name"] for item in world.kube.objects(PATH)} == {"2025112716", "2025112716-t-team"}


def test_what_ended_before_a_term_ends_by_the_clock_of_that_term() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    world.pass_(60)
    world.clock.pass_(10)
    world.delete("a")  # nobody leads
    world.clock.wall -= 3_600_000
    world.kube.moment = world.clock.wall + 3_600_000
    world.new_term()
    world.pass_(600)

    assert [line.vgpu_seconds for line in world.bill().lines] == [70]


def test_a_pod_that_ended_between_a_restart_and_the_term_is_counted_once() -> None:
    world = World()
    world.bind("a", mib=H100_MIB // 2)
    world.pass_(60)
    world.restart()  # it watches, and does not lead yet
    begun = world.store.ledger.ended_since_ms()
    uid, uses = next((b.uid, b.uses) for b in world.store.ledger.bookings())
    world.meter.close()
    world.clock.pass_(60)
    world.delete("a")
    record = PodRecord(uid, "team-space", "x", "Pod/a", "", START, START + 120_000, uses)
    world.nodes = FakeRecords((record,))
    world.store.ledger._history.since_ms = begun + 1  # pods were listed after the last record
    world.new_term()
    world.pass_(1)

    assert world.nodes.asked
    assert [round(line.vgpu_seconds) for line in world.bill().lines] == [60]


def test_a_copy_of_a_record_under_another_name_is_not_counted_on() -> None:
    world = World()
    world.bind("a", mib=H100_MIB)
    world.pass_(60)
    item = world.kube.objects(PATH)[1]
    world.kube.put({**item, "metadata": {**item["metadata"], "name": "backup"}})
    world.restart()
    world.pass_(60)
    world.kube.remove(f"{PATH}/backup")

    assert [line.vgpu_seconds for line in world.bill().lines] == [120]
