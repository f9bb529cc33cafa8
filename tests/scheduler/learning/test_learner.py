"""The learner against a fake API server: records of nodes become lessons that the next leader goes on from."""

import json
from dataclasses import replace
from typing import Any

import pytest

from kerf.catalogue import shipped
from kerf.sizing.catalogue import render_row
from kerf.sizing.estimate import MIB, estimate
from kerf.sizing.request import Ask
from kerf.testing.builders import a_node
from kerf.testing.fake_kube import FakeKube
from kerf.values.grant import CardUse
from kerf.values.learned import Learned, LearningMode, LearningSettings, ServerPeak
from kerf.values.policy import SchedulingPolicy
from kerf.values.usage import HOUR_MS
from kerf.vendors.registry import VENDORS
from kerf.wire.errors import WireError
from kerf.wire.learned import KEY, NAME, config_map, learned_in, path_of
from kerf.wire.records import PodRecord, parse_records, render_records
from scheduler.learning.learner import WEEK_MS, Learner, Sources
from scheduler.learning.metrics import LearningPage
from scheduler.metering.noderecords import NodeAnswers
from scheduler.state.store import Store, load

NAMESPACE = "kerf-system"
START = 1_000_000_000_000


class World:
    def __init__(self, **settings: Any) -> None:
        learning = LearningSettings(LearningMode.OBSERVE, **settings)
        self.store = Store(SchedulingPolicy(learning=learning), VENDORS)
        load(self.store, [a_node("node-1", 1)], [])
        (self.card,) = self.store.desk.nodes()[0].cards
        self.kube = FakeKube()
        self.records: tuple[PodRecord, ...] = ()
        self.asked: list[int] = []
        self.nodes: list[str] = []
        self.now = START
        self.fullest: dict[str, float] = {}
        self.new_leader()

    def new_leader(self) -> None:
        self.page = LearningPage()
        sources = Sources(self, self.fullest.get, shipped(), NAMESPACE, lambda: self.now)  # type: ignore[arg-type]
        self.learner = Learner(self.store, self.kube, sources, self.page)

    def read(self, since_ms: int, nodes: Any) -> NodeAnswers:
        self.asked.append(since_ms)
        self.nodes = nodes
        fresh = tuple(record for record in self.records if not record.end_ms or record.end_ms > since_ms)
        return NodeAnswers(parse_records(render_records(fresh)), ())

    @property
    def stored(self) -> Learned:
        return learned_in(self.kube.get(path_of(NAMESPACE)))

    def series(self) -> dict[str, float]:
        return {
            f"{sample.name} {' '.join(sample.labels.values())}".strip(): sample.value
            for family in self.page.collect()
            for sample in family.samples
        }

    def a_pod(self, uid: str, beside: int, *, hours: float = 30.0, end: int = 0, **changes: Any) -> PodRecord:
        return a_record(uid, beside, self.card.id, self.now - round(hours * HOUR_MS), end, **changes)


def a_record(uid: str, beside: int, card: str, start: int, end: int, **changes: Any) -> PodRecord:
    model = shipped().model("qwen3-0.6b")
    assert model is not None
    found = estimate(model, Ask(max_len=8192, concurrency=4))
    exact = -(-sum(term.high for term in found.terms[:3]) // MIB)
    given: dict[str, Any] = {"limit_mib": found.slice_mib, "peak_mib": exact + beside, **changes}
    command, args = ("vllm", "serve"), ("Qwen/Qwen3-0.6B", *found.args)
    server = ServerPeak("server", "qwen3-0.6b", "vllm/vllm-openai:v0.33.0", command, args, **given)
    return PodRecord(uid, "team", uid, "Job/x", "qwen3-0.6b", start, end, {card: CardUse(1, 0, 1)}, (server,))


def test_pods_that_run_and_pods_that_ended_are_one_lesson_with_its_provenance() -> None:
    world = World()
    world.records = (world.a_pod("a", 700), world.a_pod("b", 900, hours=50, end=world.now - HOUR_MS))
    world.fullest["a"] = 0.371

    world.learner.run_once()

    (lesson,) = world.stored.lessons
    assert (lesson.beside_mib, lesson.pods, lesson.running, lesson.hours, lesson.running_hours) == (900, 1, 1, 49, 30)
    assert (lesson.pod, lesson.kv_percent, lesson.setup.card) == ("team/b", 38, world.card.model)
    assert (lesson.first_ms, lesson.last_ms) == (world.now - 50 * HOUR_MS, world.now)


def test_a_new_leader_goes_on_and_counts_no_pod_twice_also_one_that_ran_when_the_last_one_wrote() -> None:
    world = World()
    world.records = (world.a_pod("a", 700), world.a_pod("b", 900, end=world.now - 1))
    world.learner.run_once()
    world.learner.run_once()

    world.now += HOUR_MS
    world.records = (replace(world.records[0], end_ms=world.now - 5), world.records[1])
    world.new_leader()
    world.learner.run_once()
    world.learner.run_once()

    (lesson,) = world.stored.lessons
    assert (lesson.pods, lesson.running, lesson.beside_mib) == (2, 0, 900)


def test_nodes_without_cards_are_not_asked() -> None:
    world = World()
    world.store.feed.apply_node("ADDED", a_node("cpu-1", 0))

    world.learner.run_once()

    assert world.nodes == ["node-1"]


def test_a_peak_stays_when_its_pod_and_the_nodes_record_are_gone() -> None:
    world = World()
    world.records = (world.a_pod("a", 1700, denied=3),)
    world.learner.run_once()
    world.records, world.now = (), world.now + 8 * 24 * HOUR_MS
    world.new_leader()

    world.learner.run_once()

    (lesson,) = world.stored.lessons
    assert (lesson.beside_mib, lesson.refused_mib > 0, lesson.running) == (1700, True, 0)


def test_over_ask_and_what_teaches_nothing_are_series_of_the_leader_alone() -> None:
    world = World()
    other = world.a_pod("c", 700)
    other = replace(other, servers=(replace(other.servers[0], model="nobody-knows"),))
    world.records = (world.a_pod("a", 700), other)
    world.fullest["a"] = 0.25

    world.learner.run_once()

    series, (server,) = world.series(), world.records[0].servers
    key = f"qwen3-0.6b vllm {world.card.model}"
    assert series[f"kerf_model_over_ask_bytes {key}"] == (server.limit_mib - server.peak_mib) * MIB
    assert 0 < series[f"kerf_model_idle_cache_bytes {key}"] < series[f"kerf_model_granted_bytes {key}"]
    assert series["kerf_learning_left_out its model is in no catalogue"] == 1
    world.page.clear()
    assert world.series() == {}


def test_models_of_the_clusters_own_catalogue_teach_too() -> None:
    world = World()
    row = shipped().find("qwen3-0.6b")
    assert row is not None
    text = json.dumps(render_row(replace(row, name="ours", repository="", also=())))
    labels = {"kerf.dev/catalogue": "true"}
    meta = {"name": "kerf-model-ours", "namespace": NAMESPACE, "labels": labels}
    world.kube.put({"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta, "data": {"ours.json": text, "x": "{"}})
    record = world.a_pod("a", 700)
    world.records = (replace(record, servers=(replace(record.servers[0], model="ours"),)),)

    world.learner.run_once()

    assert [lesson.setup.model for lesson in world.stored.lessons] == ["ours"]


def test_a_damaged_store_is_named_and_not_overwritten() -> None:
    world = World()
    broken = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": NAME, "namespace": NAMESPACE}}
    world.kube.put({**broken, "data": {KEY: '{"v": 1, "lessons": 7}'}})

    with pytest.raises(WireError, match=r"learned\.json\.lessons"):
        world.learner.run_once()

    assert world.kube.writes == []


def test_what_people_forget_stays_forgotten_until_the_nodes_teach_it_again() -> None:
    world = World()
    world.records = (world.a_pod("a", 700), world.a_pod("b", 1700, end=world.now - 1, denied=3))
    world.learner.run_once()

    world.kube.patch(path_of(NAMESPACE), config_map(replace(world.stored, lessons=()), NAMESPACE), "apply")
    world.records, world.now = (world.records[0],), world.now + HOUR_MS
    world.learner.run_once()

    (lesson,) = world.stored.lessons
    assert (lesson.beside_mib, lesson.refused_mib, lesson.pods, lesson.running) == (700, 0, 0, 1)
    world.learner.run_once()
    assert world.asked == [START - WEEK_MS, world.now - WEEK_MS, world.stored.until_ms]


def test_what_is_forgotten_and_taught_again_as_it_was_is_stored_again() -> None:
    world = World()
    world.records = (world.a_pod("a", 700),)
    world.learner.run_once()
    before = world.stored

    world.kube.patch(path_of(NAMESPACE), config_map(Learned(), NAMESPACE), "apply")
    world.learner.run_once()

    assert world.stored == before
