"""The learner: the leader's loop that turns the nodes' peaks into lessons and stores them in one ConfigMap.

Peaks, refusals and failures are the greatest ever seen, so reading a record twice changes nothing. Pods and hours add
up once each pod has ended; those that still run are added to what is shown. Nothing is only in memory: the next leader
goes on from the ConfigMap, and the nodes keep their records for a week. What people take out of it is forgotten.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from kerf.kube.client import Json, Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.obs.loop import Loop, run_every
from kerf.sizing.catalogue import Catalogue, Row, parse_row
from kerf.sizing.learned import Evidence, evidence_of, folded, kept
from kerf.values.learned import Learned, LearningMode, LearningSettings, Lesson, ServerPeak, Setup
from kerf.values.usage import HOUR_MS
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.learned import MOST_LESSONS, config_map, learned_in, path_of
from kerf.wire.records import PodRecord
from scheduler.learning.metrics import LearningPage, OverAsk
from scheduler.metering.noderecords import NodeRecords
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.learning")
ROUND_S = 300.0
TICK_S = 5.0
WEEK_MS = 7 * 24 * HOUR_MS
"""How far back a new leader reads; nodes keep their records for so long."""
CATALOGUE = "kerf.dev/catalogue=true"
FIELD_MANAGER = "kerf-learning"


@dataclass(frozen=True, slots=True)
class Sources:
    """What the learner asks beside the store."""

    nodes: NodeRecords
    fullest: Callable[[str], float | None]
    """The fullest that the cache of a pod's engine was, by uid; None where nobody looked."""
    shipped: Catalogue
    namespace: str
    """Of the ConfigMaps with the cluster's models, and with what was learned."""
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    every_s: float = ROUND_S


class Learner:
    """One term's learning."""

    def __init__(self, store: Store, kube: Kube, sources: Sources, page: LearningPage) -> None:
        self._store = store
        self._kube = kube
        self._sources = sources
        self._page = page
        self._written: Learned | None = None
        """What this term stored last. Where there is something else, the nodes are asked for all that they have."""
        self._due = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Learn until stopped."""
        run_every(Loop("learning", TICK_S, at_once=True, expected=(KubeError, WireError)), self._tick, stop)
        self._page.clear()

    def _tick(self) -> None:
        if self._settings.mode is LearningMode.OFF:
            self._page.clear()
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + self._sources.every_s
            self.run_once()

    def run_once(self) -> None:
        """Read the nodes, and write what they taught. Raises KubeError; WireError where what is stored is damaged."""
        settings, now = self._settings, self._sources.now_ms()
        before = self._stored()
        ours = before == self._written
        back = before.until_ms if ours else now - WEEK_MS
        nodes = [node for node in self._store.desk.nodes() if node.cards]
        answers = self._sources.nodes.read(max(back, 0), [node.name for node in nodes])
        catalogue = self._catalogue()
        cards = {card.id: card.model for node in nodes for card in node.cards}
        found = [(record, self._taught(record, cards, catalogue)) for record in answers.records if record.servers]
        learned = learn(before, found, settings, now)
        self._page.show(learned.lessons, _asks(found), _left_out(found), answers.silent)
        if not ours or learned != before:
            query = {"fieldManager": FIELD_MANAGER, "force": "true"}
            namespace = self._sources.namespace
            answer = self._kube.patch(path_of(namespace), config_map(learned, namespace), "apply", query)
            self._written = learned_in(answer)

    # ---- inside
    @property
    def _settings(self) -> LearningSettings:
        return self._store.desk.policy.learning

    def _stored(self) -> Learned:
        try:
            return learned_in(self._kube.get(path_of(self._sources.namespace)))
        except NotFound:
            return Learned()

    def _catalogue(self) -> Catalogue:
        path = f"/api/v1/namespaces/{self._sources.namespace}/configmaps"
        items, _ = self._kube.list(path, {"labelSelector": CATALOGUE})
        rows = [row for item in items for row in _rows(item)]
        return self._sources.shipped.beside(rows) if rows else self._sources.shipped

    def _taught(
        self, record: PodRecord, cards: Mapping[str, str], catalogue: Catalogue
    ) -> list[tuple[ServerPeak, Evidence | str]]:
        card = next((cards[uuid] for uuid in record.uses if uuid in cards), "")  # "": not in the inventory any more
        full = self._sources.fullest(record.uid)
        found = []
        for server in record.servers:
            evidence = evidence_of(server, card, catalogue)
            if isinstance(evidence, Evidence) and full is not None:
                lesson = replace(evidence.lesson, kv_percent=min(-int(-full * 100 // 1), 100))
                evidence = replace(evidence, lesson=lesson)
            found.append((server, evidence))
        return found


Found = list[tuple[PodRecord, list[tuple[ServerPeak, Evidence | str]]]]


def learn(before: Learned, found: Found, settings: LearningSettings, now_ms: int) -> Learned:
    """What all pods taught, those that still run included."""
    lessons = [replace(lesson, running=0, running_hours=0.0) for lesson in before.lessons]
    until = before.until_ms
    for record, servers in found:
        over = 0 < record.end_ms <= now_ms
        until = max(until, record.end_ms) if over else until
        for _, each in servers:
            if isinstance(each, Evidence):
                lesson, hours = _placed(record, each, now_ms)
                if not over:
                    lesson = replace(lesson, running=1, running_hours=hours)
                elif record.end_ms > before.until_ms:
                    lesson = replace(lesson, pods=1, hours=hours)
                lessons.append(lesson)  # one that was counted before adds nothing but its peaks
    return Learned(kept(folded(lessons), now_ms, MOST_LESSONS), settings.least_pods, settings.least_hours, until)


def _placed(record: PodRecord, evidence: Evidence, now_ms: int) -> tuple[Lesson, float]:
    """The lesson with its pod and times, and for how many hours the pod ran."""
    end = record.end_ms or now_ms
    name = f"{record.namespace}/{record.name}"[:500]
    lesson = replace(evidence.lesson, pod=name, first_ms=record.start_ms, last_ms=end)
    return lesson, max(end - record.start_ms, 0) / HOUR_MS


def _asks(found: Found) -> dict[tuple[str, str, str], OverAsk]:
    """What live servers were granted and never used, by model, engine and card."""
    totals: dict[tuple[str, str, str], OverAsk] = {}
    for record, servers in found:
        for server, each in servers if not record.end_ms else ():
            if isinstance(each, Evidence):
                setup: Setup = each.lesson.setup
                key = setup.model, setup.runtime, setup.card
                totals[key] = totals.get(key, OverAsk()) + over_ask(server, each)
    return totals


def over_ask(server: ServerPeak, evidence: Evidence) -> OverAsk:
    """What one server was granted on all of its cards, what it never held, and what of its cache was never used."""
    never = max(server.limit_mib - server.peak_mib, 0)
    percent = evidence.lesson.kv_percent
    idle = evidence.pool_mib * (100 - percent) // 100 if percent is not None else 0
    return OverAsk(1, server.limit_mib * server.cards, never * server.cards, idle * server.cards)


def _left_out(found: Found) -> dict[str, int]:
    """Live servers that teach nothing, by the reason."""
    counts: dict[str, int] = {}
    for record, servers in found:
        for _, each in servers if not record.end_ms else ():
            if isinstance(each, str):
                counts[each] = counts.get(each, 0) + 1
    return counts


def _rows(item: Json) -> Iterable[Row]:
    data = at(item, "data")
    for key, text in data.items() if isinstance(data, Mapping) else ():
        try:
            if key.endswith(".json"):
                yield parse_row(json.loads(text), key)
        except (WireError, ValueError, TypeError, RecursionError) as error:
            _LOG.warning("%s: %s", key, error)
