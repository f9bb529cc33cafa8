"""The node monitor: what containers use against what they were granted, and what was used past the limiter."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deviceplugin.core.usage import Overuse, Place, Seen, lasting, overuses, sum_up
from deviceplugin.kubelet.admission import Admission
from deviceplugin.kubelet.board import Board
from deviceplugin.kubelet.ledgers import Ledgers
from deviceplugin.kubelet.processes import Processes
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.kube.evict import AlreadyGone, Evicted, NotEvicted, evict
from kerf.probes.base import Probe, ProcessUse
from kerf.values.units import MIB
from kerf.wire.limiter import LedgerView

_LOG = logging.getLogger("kerf.deviceplugin.monitor")
Json = dict[str, Any]
LOOK_S = 1.0
"""The limiter ignores a measured share that is older than three seconds."""
PODS_S = 10.0
"""How long the pods' names and container ids are believed, unless an unknown one turns up."""
AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When use past the limiter matters."""

    tolerance_mib: int = 512
    """What the driver may take beyond a slice: contexts are made before the limiter can count them."""
    report_after_s: float = 5.0
    """How long it must last to be reported."""
    evict_after_s: float = 0.0
    """How long it must last for the pod to be evicted; 0 is never."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One look at the node."""

    ledgers: dict[Place, LedgerView]
    seen: tuple[Seen, ...]
    foreign: dict[str, int]
    """Bytes per card of processes outside of pods."""
    overuse: tuple[Overuse, ...]


class Monitor(Collector):
    """Looks once a second; `collect` and `top` show the last picture."""

    def __init__(self, kube: Kube, admission: Admission, board: Board, ledgers: Ledgers, limits: Limits) -> None:
        self._kube = kube
        self._admission = admission
        self._board = board
        self._ledgers = ledgers
        self._limits = limits
        self.processes = Processes()
        self._pods: dict[str, Json] = {}
        self._containers: dict[str, str] = {}
        self._pods_at = float("-inf")
        self._since: dict[tuple[Place, str], float] = {}
        self._told: set[tuple[Place, str]] = set()
        self._picture = Picture({}, (), {}, ())

    def run(self, probe: Probe, tell: Callable[[Json, str], None], stop: threading.Event) -> None:
        """Look until `stop`; never raises."""
        while not stop.wait(LOOK_S):
            try:
                self.look(probe.uses(), tell)
            except OSError as error:
                _LOG.warning("the node cannot be looked at: %s", error)

    def look(self, uses: tuple[ProcessUse, ...], tell: Callable[[Json, str], None]) -> None:
        """Take a picture; tell containers what only the host knows; report what bypassed the limiter."""
        ledgers = self._ledgers.read()
        placed = [(use, self.processes.place(use.pid)) for use in uses]
        self._refresh({place[0] for _, place in placed if place} | {place.uid for place in ledgers})
        seen = sum_up((self._named(*place), use.card, use.memory_bytes, use.percent) for use, place in placed if place)
        foreign = dict.fromkeys((card.id for card in self._board.cards), 0)
        for use, place in placed:
            if place is None:
                foreign[use.card] = foreign.get(use.card, 0) + use.memory_bytes
        granted = {
            place: {card.limit.uuid: card.limit.memory_bytes for card in view.cards} for place, view in ledgers.items()
        }
        over = overuses(seen, granted, self._limits.tolerance_mib * MIB)
        self._picture = Picture(ledgers, seen, foreign, over)
        self._tell_containers(ledgers, seen)
        self._report(over, tell)

    def top(self) -> Json:
        """The last picture for people and tools; MiB, percent and milliseconds."""
        picture = self._picture
        seen = {(s.place, s.card): s for s in picture.seen}
        over = {(o.place, o.card) for o in picture.overuse}
        cards = [
            {
                "card": card.id,
                "model": card.model,
                "memory_mib": card.memory_mib,
                "used_mib": (picture.foreign.get(card.id, 0) + _used(picture, card.id)) // MIB,
                "foreign_mib": picture.foreign.get(card.id, 0) // MIB,
                "healthy": card.healthy,
            }
            for card in self._board.cards
        ]
        containers = [
            {**self._who(place), **_row(view, index, seen.get((place, use.limit.uuid))),
             "bypassed": (place, use.limit.uuid) in over}
            for place, view in sorted(picture.ledgers.items())
            for index, use in enumerate(view.cards)
        ]  # fmt: skip
        return {"v": 1, "cards": cards, "containers": containers, "overuse": [o.sentence for o in picture.overuse]}

    def collect(self) -> Iterator[Metric]:
        """Prometheus families, one sample per container and card that exists now."""
        picture = self._picture
        labels = ("namespace", "pod", "container", "card")
        for name, words, kind, value in _FAMILIES:
            family = kind(name, words, labels=labels)
            for place, view in sorted(picture.ledgers.items()):
                who = self._who(place)
                for use in view.cards:
                    family.add_metric([who["namespace"], who["pod"], place.container, use.limit.uuid], value(use))
            yield family
        over = GaugeMetricFamily("kerf_container_overuse_bytes", "Memory used past the limiter", labels=labels)
        for overuse in picture.overuse:
            who = self._who(overuse.place)
            names = [who["namespace"], who["pod"], overuse.place.container, overuse.card]
            over.add_metric(names, overuse.used - overuse.granted)
        yield over
        used = GaugeMetricFamily("kerf_node_card_used_bytes", "Memory of all processes on the card", labels=["card"])
        foreign = GaugeMetricFamily("kerf_node_card_foreign_bytes", "Memory of processes outside pods", labels=["card"])
        for card in self._board.cards:
            outside = picture.foreign.get(card.id, 0)
            used.add_metric([card.id], outside + _used(picture, card.id))
            foreign.add_metric([card.id], outside)
        yield from (used, foreign)

    # ---- inside
    def _refresh(self, uids: set[str]) -> None:
        """List the pods again when their names are old or a uid is unknown."""
        age = time.monotonic() - self._pods_at
        unnamed = any(place.container == "" for place in (seen.place for seen in self._picture.seen))
        if age < AGAIN_S or (age < PODS_S and uids <= self._pods.keys() and not unnamed):
            return
        self._pods_at = time.monotonic()
        try:
            listed = self._admission.list_pods().pods
        except KubeError as error:
            _LOG.debug("pods are not listed: %s", error)
            return
        self._pods = {str(pod["metadata"].get("uid")): pod for pod in listed}
        self._containers = {id_: name for pod in listed for id_, name in _container_ids(pod)}

    def _named(self, uid: str, container_id: str) -> Place:
        return Place(uid, self._containers.get(container_id, ""))

    def _who(self, place: Place) -> dict[str, str]:
        meta = (self._pods.get(place.uid) or {}).get("metadata") or {}
        return {
            "namespace": str(meta.get("namespace", "")),
            "pod": str(meta.get("name", place.uid)),
            "container": place.container,
        }

    def _tell_containers(self, ledgers: dict[Place, LedgerView], seen: tuple[Seen, ...]) -> None:
        now = time.monotonic_ns()
        busy = {(use.place, use.card): use.percent * 10 for use in seen if use.percent}
        for place, view in ledgers.items():
            for index, card in enumerate(view.cards):
                if (place, card.limit.uuid) in busy:
                    self._ledgers.tell_share(place, index, busy[place, card.limit.uuid], now)
            if any(process.alive and not process.host_pid for process in view.processes):
                self._ledgers.tell_host_pids(place, self.processes)

    def _report(self, over: tuple[Overuse, ...], tell: Callable[[Json, str], None]) -> None:
        now = time.monotonic()
        self._since = lasting(over, self._since, now)
        self._told &= self._since.keys()
        for overuse in over:
            key = (overuse.place, overuse.card)
            age, pod = now - self._since[key], self._pods.get(overuse.place.uid)
            if pod is None or age < self._limits.report_after_s:
                continue
            if key not in self._told:
                self._told.add(key)
                _LOG.warning("pod %s: %s", overuse.place.uid, overuse.sentence)
                tell(pod, overuse.sentence)
            if self._limits.evict_after_s and age >= self._limits.evict_after_s:
                self._since[key] = now  # an eviction that a budget forbids is asked for again as much later
                self._evict(pod)

    def _evict(self, pod: Json) -> None:
        key = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        match evict(self._kube, key, pod["metadata"]["uid"]):
            case Evicted():
                _LOG.warning("evicted pod %s for use past the limiter", key)
            case NotEvicted(reason):
                _LOG.warning("pod %s is not evicted: %s", key, reason)
            case AlreadyGone():
                pass


def _row(view: LedgerView, index: int, seen: Seen | None) -> Json:
    use = view.cards[index]
    return {
        "card": use.limit.uuid,
        "limit_mib": None if use.limit.memory_bytes is None else use.limit.memory_bytes // MIB,
        "used_mib": use.charged_bytes // MIB,
        "peak_mib": use.peak_bytes // MIB,
        "driver_mib": seen.memory_bytes // MIB if seen else 0,
        "denied": use.denied,
        "cores": use.limit.cores or 0,
        "busy_percent": seen.percent if seen else 0,
        "throttled_ms": use.throttled_ns // 1_000_000,
        "launches": use.launches,
        "processes": [
            {"pid": p.pid, "host_pid": p.host_pid, "command": p.command, "used_mib": p.bytes_by_card[index] // MIB}
            for p in view.processes
            if p.alive
        ],
        "events": view.events,
    }


def _used(picture: Picture, card: str) -> int:
    return sum(seen.memory_bytes for seen in picture.seen if seen.card == card)


def _container_ids(pod: Json) -> Iterator[tuple[str, str]]:
    status = pod.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for item in status.get(key) or ():
            yield str(item.get("containerID", "")).rpartition("/")[2], str(item.get("name", ""))


_FAMILIES: tuple[tuple[str, str, Any, Callable[[Any], float]], ...] = (
    ("kerf_container_memory_used_bytes", "Memory charged by the limiter", GaugeMetricFamily,
     lambda use: use.charged_bytes),
    ("kerf_container_memory_limit_bytes", "Memory granted; -1 is no limit", GaugeMetricFamily,
     lambda use: -1 if use.limit.memory_bytes is None else use.limit.memory_bytes),
    ("kerf_container_memory_peak_bytes", "Highest memory charged", GaugeMetricFamily, lambda use: use.peak_bytes),
    ("kerf_container_cores_limit_percent", "Share of the SMs granted; 0 is no limit", GaugeMetricFamily,
     lambda use: use.limit.cores or 0),
    ("kerf_container_denied", "Allocations refused at the limit", CounterMetricFamily, lambda use: use.denied),
    ("kerf_container_gpu_seconds", "GPU time used, by timing events", CounterMetricFamily,
     lambda use: use.busy_ns / 1e9),
    ("kerf_container_throttled_seconds", "Time that launches were held back", CounterMetricFamily,
     lambda use: use.throttled_ns / 1e9),
)  # fmt: skip
