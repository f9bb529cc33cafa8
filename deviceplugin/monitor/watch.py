"""The node monitor: what containers use against what they were granted, and what is used past the limiter."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from deviceplugin.core.usage import CardSample, ContainerRef, Overuse, lasting, overuses, sum_up
from deviceplugin.gate.pods import BoundPods, meta
from deviceplugin.monitor.hami import hami_families
from deviceplugin.monitor.picture import NOTHING, Picture, families, top
from deviceplugin.monitor.processes import Processes
from deviceplugin.state.ledgers import Ledgers
from deviceplugin.state.node import LocalNode
from kerf.kube.client import Json, Kube
from kerf.kube.errors import KubeError
from kerf.kube.evict import AlreadyGone, Evicted, NotEvicted, evict
from kerf.obs.loop import Loop, run_every
from kerf.probes.base import Probe, ProcessUse
from kerf.values.grant import Holding
from kerf.values.units import MIB
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.limiter import LedgerView
from kerf.wire.top import NodeTop

_LOG = logging.getLogger("kerf.deviceplugin.monitor")
Report = Callable[[Json, str], None]
LOOK_S = 1.0
"""The limiter ignores a measured share that is older than three seconds."""
PODS_S = 10.0
"""How long a list of the pods is used, unless a pod or container turns up that is not in it."""
RELIST_S = 2.0
"""Least time between two lists."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When use past the limiter matters, and what is shown."""

    tolerance_mib: int = 512
    """What the driver may take beyond a slice: contexts are created before the limiter can count them."""
    report_after_s: float = 5.0
    """How long it must last to be reported."""
    evict_after_s: float = 0.0
    """How long it must last for the pod to be evicted; 0 is never."""
    hami: bool = False
    """Whether series are shown under HAMi's names too."""


class Monitor(Collector):
    """Looks once a second. `collect` and `top` show the last look."""

    def __init__(self, kube: Kube, pods: BoundPods, node: LocalNode, ledgers: Ledgers, limits: Limits) -> None:
        self._kube = kube
        self._bound = pods
        self._node = node
        self._ledgers = ledgers
        self._limits = limits
        self.processes = Processes()
        self._pods: dict[str, Json] = {}
        self._containers: dict[str, str] = {}
        self._pods_at = float("-inf")
        self._since: dict[tuple[ContainerRef, str], float] = {}
        self._reported: set[tuple[ContainerRef, str]] = set()
        self._picture = NOTHING

    def run(self, probes: tuple[Probe, ...], report: Report, stop: threading.Event) -> None:
        """Look until `stop`; never raises."""
        loop = Loop("deviceplugin.monitor", LOOK_S, expected=(OSError,))
        run_every(loop, lambda: self.run_once(tuple(use for probe in probes for use in probe.uses()), report), stop)

    def run_once(self, uses: tuple[ProcessUse, ...], report: Report) -> None:
        """Look once: write measured shares and host PIDs into the ledgers, report what bypassed the limiter."""
        ledgers = self._ledgers.read()
        owned = [(use, self.processes.owner_of(use.pid)) for use in uses]
        self._list_pods({owner[0] for _, owner in owned if owner} | {ref.uid for ref in ledgers})
        samples = sum_up((self._ref(*owner), use.card, use.memory_bytes, use.percent) for use, owner in owned if owner)
        foreign = dict.fromkeys((card.id for card in self._node.cards), 0)
        for use, owner in owned:
            if owner is None:
                foreign[use.card] = foreign.get(use.card, 0) + use.memory_bytes
        granted = {
            ref: {card.limit.uuid: card.limit.memory_bytes for card in view.cards} for ref, view in ledgers.items()
        }
        granted |= {ref: cards for pod in self._pods.values() for ref, cards in self._by_hami(pod).items()}
        over = overuses(samples, granted, self._limits.tolerance_mib * MIB)
        names = {uid: (meta(pod, "namespace"), meta(pod, "name")) for uid, pod in self._pods.items()}
        self._picture = Picture(ledgers, samples, foreign, over, names)
        self._patch_ledgers(ledgers, samples)
        self._act_on(over, report)

    def pods(self) -> tuple[Json, ...]:
        """The node's pods, as last listed."""
        return tuple(self._pods.values())

    def top(self) -> NodeTop:
        """The last look for people and tools."""
        return top(self._picture, self._node.cards)

    def collect(self) -> Iterator[Metric]:
        """The last look for Prometheus, on demand under HAMi's names too."""
        yield from families(self._picture, self._node.cards)
        if self._limits.hami:
            yield from hami_families(self._picture, self._node.cards, self._node.name)

    # ---- inside
    def _list_pods(self, uids: set[str]) -> None:
        """List the pods again if the list is old, or lacks a uid or a container."""
        age = time.monotonic() - self._pods_at
        unnamed = any(sample.ref.container == "" for sample in self._picture.samples)
        if age < RELIST_S or (age < PODS_S and uids <= self._pods.keys() and not unnamed):
            return
        self._pods_at = time.monotonic()
        try:
            listed = self._bound.list().pods
        except KubeError as error:
            _LOG.debug("cannot list the pods: %s", error)
            return
        self._pods = {meta(pod, "uid"): pod for pod in listed}
        self._containers = {id_: name for pod in listed for id_, name in _container_ids(pod)}

    def _by_hami(self, pod: Json) -> dict[ContainerRef, dict[str, int | None]]:
        """What HAMi gave the containers of a pod that it placed: no ledger of Kerf's says so."""
        if not self._bound.placed_by_hami(pod):
            return {}
        try:
            holding = self._bound.parse(pod)
        except WireError as error:
            _LOG.debug("what HAMi gave pod %s cannot be read: %s", meta(pod, "name"), error)
            return {}
        names = [name for name, _ in holding.stages] if holding else []
        return {ContainerRef(meta(pod, "uid"), name): _bytes(holding, name) for name in names if holding}

    def _ref(self, uid: str, container_id: str) -> ContainerRef:
        return ContainerRef(uid, self._containers.get(container_id, ""))

    def _patch_ledgers(self, ledgers: dict[ContainerRef, LedgerView], samples: tuple[CardSample, ...]) -> None:
        now = time.monotonic_ns()
        busy = {(sample.ref, sample.card): sample.percent * 10 for sample in samples if sample.percent}
        for ref, view in ledgers.items():
            for index, card in enumerate(view.cards):
                if (ref, card.limit.uuid) in busy:
                    self._ledgers.write_share(ref, index, busy[ref, card.limit.uuid], now)
            if any(process.alive and not process.host_pid for process in view.processes):
                self._write_host_pids(ref)

    def _write_host_pids(self, ref: ContainerRef) -> None:
        missing = self._ledgers.without_host_pid(ref)
        for host, inside, start in self.processes.in_pod(ref.uid) if missing else ():
            if (inside, start) in missing:
                self._ledgers.write_host_pid(ref, missing[inside, start], host)

    def _act_on(self, over: tuple[Overuse, ...], report: Report) -> None:
        now = time.monotonic()
        self._since = lasting(over, self._since, now)
        self._reported &= self._since.keys()
        for overuse in over:
            key = (overuse.ref, overuse.card)
            age, pod = now - self._since[key], self._pods.get(overuse.ref.uid)
            if pod is None or age < self._limits.report_after_s:
                continue
            if key not in self._reported:
                self._reported.add(key)
                _LOG.warning("pod %s: %s", overuse.ref.uid, overuse.sentence)
                report(pod, overuse.sentence)
            if self._limits.evict_after_s and age >= self._limits.evict_after_s:
                self._since[key] = now  # if a PodDisruptionBudget forbids the eviction, retry after the same time
                self._evict(pod)

    def _evict(self, pod: Json) -> None:
        key = f"{meta(pod, 'namespace')}/{meta(pod, 'name')}"
        match evict(self._kube, key, meta(pod, "uid")):
            case Evicted():
                _LOG.warning("evicted pod %s for use past the limiter", key)
            case NotEvicted(reason):
                _LOG.warning("pod %s is not evicted: %s", key, reason)
            case AlreadyGone():
                pass


def _bytes(holding: Holding, container: str) -> dict[str, int | None]:
    """Bytes by card; where a record does not say whose a slice is, any container of the pod may use it."""
    known = {name for name, _ in holding.stages}
    found: dict[str, int | None] = {}
    for part in holding.grant.containers:
        for piece in part.slices if part.name == container or part.name not in known else ():
            found[piece.card] = (found.get(piece.card) or 0) + piece.memory_mib * MIB
    return found


def _container_ids(pod: Json) -> Iterator[tuple[str, str]]:
    status = at(pod, "status")
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for item in status.get(key) or ():
            yield str(item.get("containerID", "")).rpartition("/")[2], str(item.get("name", ""))
