"""Engines of pods that hold slices: their pages read in turn, tokens counted, replicas recommended.

Pages are read from the pod's own address, never through a redirect or a proxy, and never of a pod on the host's
network: its page could be any service of the node.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily, Metric

from kerf.http.fetch import fetch
from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.metering.scale import Recommendation, Room, Signal, Steady, recommend, wanted
from kerf.metering.tokens import Start
from kerf.obs.loop import Loop, run_every
from kerf.values.engine import EngineReading
from kerf.values.policy import ScaleSettings
from kerf.values.subject import EnginePort
from kerf.wire.engines import parse_engine
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.usage import parse_moment
from scheduler.metering.meter import Meter
from scheduler.metering.room import room_for
from scheduler.state.bookings import Booking, State
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.metering.engines")
TICK_S = 1.0
AT_ONCE = 16
TIMEOUT_S = 3.0
LARGEST_PAGE = 4 << 20
FORGET_S = 60.0
"""An address that does not answer is asked for again after this."""
LABELS = ("namespace", "kind", "name", "cluster")
Fetch = Callable[[str], str]
Key = tuple[str, str]
"""(namespace, workload)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod's engine is: its page, its container's start, and the moment of that in milliseconds."""

    url: str
    started: str
    started_ms: int


@dataclass(slots=True)
class _Known:
    place: Place | None
    at: float


def _fetch(url: str) -> str:
    return fetch(url, TIMEOUT_S, {"Accept": "text/plain"}, LARGEST_PAGE).decode("utf-8", "replace")


@dataclass(slots=True)
class Scaled:
    """What was recommended last, by workload."""

    signals: dict[Key, Signal] = field(default_factory=dict)
    recommended: dict[Key, Recommendation] = field(default_factory=dict)


class EngineWatch:
    """One term's readings. `scaled` is replaced whole, so other threads may read it."""

    def __init__(self, store: Store, kube: Kube, meter: Meter, get: Fetch = _fetch) -> None:
        self._store = store
        self._kube = kube
        self._meter = meter
        self._get = get
        self._known: dict[str, _Known] = {}
        self._steady: dict[Key, Steady] = {}
        self._due = 0.0
        self.scaled = Scaled()
        self._fullest: dict[str, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Read until stopped."""
        run_every(Loop("metering.engines", TICK_S), self._tick, stop)

    def _tick(self) -> None:
        settings = self._store.desk.policy.metering
        if settings.enabled and settings.scrape_s and time.monotonic() >= self._due:
            self._due = time.monotonic() + settings.scrape_s
            self.run_once()

    def run_once(self) -> None:
        """Read every engine once, count its tokens, and recommend."""
        pods = [b for b in self._store.ledger.bookings(State.CONFIRMED) if b.uses and b.subject.engine is not None]
        self._known = {b.uid: self._known[b.uid] for b in pods if b.uid in self._known}
        with ThreadPoolExecutor(AT_ONCE, "engines") as pool:
            readings = list(pool.map(self._read, pods))
        self._meter.keep_counters([booking.uid for booking in pods])
        fullest = {booking.uid: self._fullest[booking.uid] for booking in pods if booking.uid in self._fullest}
        for booking, (_, reading) in zip(pods, readings, strict=True):
            if reading is not None and reading.models:
                used = max(model.kv_use for model in reading.models)
                fullest[booking.uid] = max(used, fullest.get(booking.uid, 0.0))
        self._fullest = fullest
        for booking, (place, reading) in zip(pods, readings, strict=True):
            if place is not None and reading is not None:
                watched = place.started_ms >= self._meter.watches_since_ms > 0
                self._meter.count_tokens(booking, Start(booking.uid, place.started, watched), reading.models)
        self._recommend(pods, [reading for _, reading in readings])

    def families(self, cluster: str) -> tuple[Metric, ...]:
        """The recommendations and their signals."""
        return tuple(scale_families(self.scaled, cluster))

    def fullest(self, uid: str) -> float | None:
        """The fullest that the cache of a pod's engine was in this term; None where nobody looked."""
        return self._fullest.get(uid)

    # ---- inside
    def _read(self, booking: Booking) -> tuple[Place | None, EngineReading | None]:
        engine = booking.subject.engine
        place = self._place(booking)
        if engine is None or place is None:
            return None, None
        try:
            return place, parse_engine(self._get(place.url), engine.engine)
        except OSError as error:
            _LOG.debug("%s: %s", booking.key, error)
            self._known.pop(booking.uid, None)
            return None, None

    def _place(self, booking: Booking) -> Place | None:
        known = self._known.get(booking.uid)
        if known is not None and (known.place is not None or time.monotonic() < known.at + FORGET_S):
            return known.place
        namespace, _, name = booking.key.partition("/")
        try:
            pod = self._kube.get(paths.pod(namespace, name))
        except KubeError as error:
            _LOG.debug("%s: %s", booking.key, error)
            return None
        same = text_at(pod, "metadata", "uid") == booking.uid
        place = place_of(pod, booking.subject.engine) if same and booking.subject.engine else None
        self._known[booking.uid] = _Known(place, time.monotonic() if place else float("-inf"))
        return place

    def _recommend(self, pods: Sequence[Booking], readings: Sequence[EngineReading | None]) -> None:
        settings = self._store.desk.policy.metering.scale
        groups: dict[Key, list[tuple[Booking, EngineReading | None]]] = defaultdict(list)
        for booking, reading in zip(pods, readings, strict=True):
            groups[booking.key.partition("/")[0], booking.subject.workload].append((booking, reading))
        scaled = Scaled()
        for key, members in groups.items():
            signal = signal_of(reading for _, reading in members)
            scaled.signals[key] = signal
            scaled.recommended[key] = self._one(key, members[0][0], signal, settings)
        self._steady = {key: steady for key, steady in self._steady.items() if key in groups}
        self.scaled = scaled

    def _one(self, key: Key, booking: Booking, signal: Signal, settings: ScaleSettings) -> Recommendation:
        grows = wanted(signal, settings) > signal.replicas
        room = room_for(booking, self._store.desk, settings.most_replicas) if grows else Room(0)
        found = recommend(signal, room, settings)
        steady = self._steady.setdefault(key, Steady(settings.cooldown_s))
        steady.seconds = settings.cooldown_s
        lasting = steady.after(time.monotonic(), found.replicas)
        return found if lasting <= found.replicas else Recommendation(found.wanted, lasting, found.why)


def place_of(pod: Json, engine: EnginePort) -> Place | None:
    """Where the engine of a pod answers; None while it does not run, or on the host's network."""
    address = text_at(pod, "status", "podIP")
    if not address or at(pod, "spec").get("hostNetwork") or at(pod, "metadata").get("deletionTimestamp"):
        return None
    for status in items_at(pod, "status", "containerStatuses"):
        started = text_at(status, "state", "running", "startedAt")
        if status.get("name") == engine.container and started:
            host = f"[{address}]" if ":" in address else address
            return Place(f"http://{host}:{engine.port}{engine.path}", started, _moment(started))
    return None


def signal_of(readings: Iterable[EngineReading | None]) -> Signal:
    """What a workload's engines say together."""
    found = list(readings)
    awake = [reading for reading in found if reading is not None and reading.models and not reading.asleep]
    models = [model for reading in awake for model in reading.models]
    waiting = sum(model.waiting for model in models)
    return Signal(len(found), len(awake), waiting, max((model.kv_use for model in models), default=0.0))


def scale_families(scaled: Scaled, cluster: str) -> Iterable[Metric]:
    """Families by workload."""
    replicas = GaugeMetricFamily("kerf_recommended_replicas", "Replicas that a workload should have", labels=LABELS)
    short = GaugeMetricFamily(
        "kerf_missing_replicas", "Replicas that a workload wants and cannot have", labels=(*LABELS, "reason")
    )
    waiting = GaugeMetricFamily("kerf_engine_waiting_requests", "Requests that wait for capacity", labels=LABELS)
    kv = GaugeMetricFamily("kerf_engine_kv_use_ratio", "KV cache in use, of the fullest replica", labels=LABELS)
    for key, signal in sorted(scaled.signals.items()):
        labels, found = _labels(key, cluster), scaled.recommended[key]
        replicas.add_metric(labels, found.replicas)
        waiting.add_metric(labels, signal.waiting)
        kv.add_metric(labels, signal.kv_use)
        if found.wanted > found.replicas:
            short.add_metric((*labels, found.why), found.wanted - found.replicas)
    yield from (replicas, short, waiting, kv)


def _labels(key: Key, cluster: str) -> tuple[str, ...]:
    kind, _, name = key[1].partition("/")
    return key[0], kind, name, cluster


def _moment(text: str) -> int:
    try:
        return parse_moment(text, "startedAt")
    except ValueError:
        return 0
