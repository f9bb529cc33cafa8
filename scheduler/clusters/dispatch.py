"""MultiKueue's external dispatcher ``kerf.dev/fit``: nominates for each workload the worker cluster whose cards fit.

Kueue on the manager reserves the quota and so picks the class of cards; this loop picks the cluster. It follows the
workloads of the manager and the cards of every worker, and writes two things: which flavors the worker may assign
(an annotation that MultiKueue copies with the workload) and then ``status.nominatedClusterNames``. It holds no state
that matters: nominations are in the workload itself.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kerf.kube.client import Kube
from kerf.kube.errors import Conflict, KubeError
from kerf.kube.events import Events
from kerf.kube.mirror import Mirror
from kerf.obs.loop import Loop, run_every
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.kueue import ROOT, VERSION
from kerf.wire.multikueue import (
    CONTROLLER,
    Dispatchable,
    parse_dispatchable,
    parse_kubeconfig,
    render_nomination,
    render_pin,
    secret_of,
)
from scheduler.clusters.nominate import Nomination, Offer, nominate
from scheduler.clusters.workers import Books, Need, Worker, need_of

_LOG = logging.getLogger("kerf.dispatch")
DISPATCHER = "kerf.dev/fit"
"""What `multiKueue.dispatcherName` of the manager's Kueue has to say."""
PATIENCE_S = 30.0
"""How long the nominated clusters may take to admit a workload before the next best is nominated too."""
LOOP = Loop("dispatch", every_s=5.0, settle_s=0.1, expected=(KubeError,))
SETTLE_S = 10.0
"""How long a new worker may take to be read before others are nominated without it."""
_FOLLOWED = {
    "Workload": "workloads",
    "AdmissionCheck": "admissionchecks",
    "MultiKueueConfig": "multikueueconfigs",
    "MultiKueueCluster": "multikueueclusters",
    "ResourceFlavor": "resourceflavors",
}
REREAD_S = 30.0
"""A kubeconfig is read again after this long."""


@dataclass(slots=True)
class _Known:
    """A worker, the version of the Secret it was made from, when that was last read, and since when it is followed."""

    worker: Worker
    version: str
    read: float
    since: float


class Dispatcher:
    """One thread; `run` it at the leader alone.

    `books_for` makes the empty books of a worker cluster of that name; `connect` makes a client from a kubeconfig.
    `honours_pin` says that the workers' Kueue runs with the feature gate ConcurrentAdmission: without it only
    clusters whose queue has no cards of another class are nominated. On a worker the kubeconfig's user needs, beside
    what MultiKueue needs, get, list and watch of nodes, pods, localqueues, clusterqueues and resourceflavors; with list
    and watch of tenantquotas and resourcequotas its tenants' quotas count too.
    """

    def __init__(
        self,
        kube: Kube,
        books_for: Callable[[str], Books],
        connect: Callable[[Mapping[str, Any]], Kube],
        *,
        namespace: str = "kueue-system",
        honours_pin: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._kube = kube
        self._books_for = books_for
        self._connect = connect
        self._namespace = namespace
        self._honours_pin = honours_pin
        self._patience_s = patience_s
        self._events = Events(kube, "kerf-dispatcher")
        self._changed = threading.Event()
        self._seen = Mirror(
            kube, {f"{ROOT}/{plural}": kind for kind, plural in _FOLLOWED.items()}, changed=self._changed
        )
        self._workers: dict[str, _Known] = {}
        self._since: dict[str, tuple[tuple[str, ...], float]] = {}

    def run(self, stop: threading.Event) -> None:
        """Nominate whenever a workload, a node or a pod changed, until stopped."""
        self._seen.start()
        run_every(LOOP, self._round, stop, self._changed)
        self._seen.stop()
        for known in self._workers.values():
            known.worker.stop()
        self._workers.clear()

    def _round(self) -> None:
        if self._seen.synced:
            self.run_once()

    def run_once(self) -> None:
        """One round: connect to new workers, then nominate for each waiting workload, oldest first."""
        self._connect_workers()
        if not self._settled():
            return
        waiting = self._waiting()
        uids = {one.uid for one in waiting}
        self._since = {uid: since for uid, since in self._since.items() if uid in uids}
        before: dict[str, list[Need]] = {}
        for known in self._workers.values():
            known.worker.forget(uids)
        for one in sorted(waiting, key=lambda one: (not one.nominated, one.created, one.key)):
            try:
                for cluster in self._dispatch(one, before):
                    if cluster in self._workers:
                        need = need_of(one, self._workers[cluster].worker.desk)
                        before.setdefault(cluster, []).append(need)
            except Conflict:
                _LOG.debug("workload %s changed meanwhile; its change starts another round", one.key)
            except (WireError, KubeError) as error:
                _LOG.warning("workload %s: %s", one.key, error)

    def _waiting(self) -> list[Dispatchable]:
        checks = [check["metadata"]["name"] for check in self._seen.items("AdmissionCheck") if _ours(check)]
        flavors = {
            each["metadata"]["name"]: at(each, "spec", "nodeLabels") for each in self._seen.items("ResourceFlavor")
        }
        found = []
        for item in self._seen.items("Workload"):
            try:
                one = parse_dispatchable(item, checks, flavors)
            except WireError as error:
                _LOG.warning("workload %s: %s", item["metadata"].get("name"), error)
                continue
            if one is not None:
                found.append(one)
        return found

    def _dispatch(self, one: Dispatchable, before: Mapping[str, list[Need]]) -> tuple[str, ...]:
        """Nominate for one workload; the clusters that are nominated now."""
        candidates, more = self._candidates(one), self._overdue(one)
        if one.nominated and not more and set(one.nominated) <= set(candidates):
            return one.nominated
        offers = [self._offer(cluster, one, before.get(cluster, [])) for cluster in candidates]
        chosen = nominate(offers, one.nominated, more=more)
        if not chosen.clusters:
            self._report(one, chosen)
        if chosen.clusters != one.nominated:
            self._write(one, chosen)
        return chosen.clusters

    def _write(self, one: Dispatchable, chosen: Nomination) -> None:
        path = f"{ROOT}/namespaces/{one.namespace}/workloads/{one.name}"
        version = one.version
        if chosen.flavors and one.allowed != ",".join(chosen.flavors):
            answer = self._kube.patch(path, render_pin(chosen.flavors))
            version = str(answer["metadata"]["resourceVersion"])
        self._kube.patch(f"{path}/status", render_nomination(chosen.clusters, version))
        self._since[one.uid] = (chosen.clusters, time.monotonic())
        _LOG.info("workload %s: nominated %s", one.key, ", ".join(chosen.clusters) or "no cluster")

    def _overdue(self, one: Dispatchable) -> bool:
        clusters, since = self._since.setdefault(one.uid, (one.nominated, time.monotonic()))
        if clusters != one.nominated:
            self._since[one.uid] = (one.nominated, time.monotonic())
            return False
        return time.monotonic() - since > self._patience_s

    def _report(self, one: Dispatchable, chosen: Nomination) -> None:
        about = {"apiVersion": VERSION, "kind": "Workload", "namespace": one.namespace, "name": one.name}
        none = f"{one.only}, which the fleet's plan chose, is no cluster" if one.only else "there is no cluster"
        text = "; ".join(chosen.refused) or f"{none} of admission check {one.check} that Kueue is connected to"
        self._events.emit({**about, "uid": one.uid}, "NoClusterFits", f"no worker cluster fits: {text}")

    # ---- workers
    def _offer(self, cluster: str, one: Dispatchable, before: list[Need]) -> Offer:
        known = self._workers.get(cluster)
        if known is None:
            return Offer(cluster, "there is no connection to it")
        return known.worker.offer(need_of(one, known.worker.desk), before)

    def _candidates(self, one: Dispatchable) -> list[str]:
        """The clusters that Kueue is connected to, in its configuration's order; for a fleet's, the one of its plan."""
        parameters = ((self._seen.get("AdmissionCheck", one.check) or {}).get("spec") or {}).get("parameters") or {}
        config = self._seen.get("MultiKueueConfig", str(parameters.get("name", ""))) or {}
        listed = at(config, "spec").get("clusters") or ()
        found = [name for name in listed if _active(self._seen.get("MultiKueueCluster", name) or {})]
        return [name for name in found if one.only in ("", name)]

    def _settled(self) -> bool:
        """Whether every worker was read, or had its time: else the first one read would get everything."""
        soon = time.monotonic() - SETTLE_S
        return all(known.worker.ready or known.since < soon for known in self._workers.values())

    def _connect_workers(self) -> None:
        wanted = {cluster["metadata"]["name"]: cluster for cluster in self._seen.items("MultiKueueCluster")}
        for name in [name for name in self._workers if name not in wanted]:
            self._workers.pop(name).worker.stop()
        for name, cluster in wanted.items():
            known = self._workers.get(name)
            if known is not None and time.monotonic() - known.read < REREAD_S:
                continue
            try:
                self._connect_worker(name, cluster, known)
            except (WireError, KubeError) as error:
                _LOG.warning("worker cluster %s: %s", name, error)

    def _connect_worker(self, name: str, cluster: Mapping[str, Any], known: _Known | None) -> None:
        secret = self._kube.get(f"/api/v1/namespaces/{self._namespace}/secrets/{secret_of(cluster)}")
        version = str(secret["metadata"].get("resourceVersion", ""))
        if known is not None and known.version == version:
            known.read = time.monotonic()
            return
        kube = self._connect(parse_kubeconfig(secret))
        worker = Worker(name, kube, self._books_for(name), self._changed, honours_pin=self._honours_pin)
        if known is not None:
            known.worker.stop()
        now = time.monotonic()
        self._workers[name] = _Known(worker, version, read=now, since=now)
        worker.start()
        _LOG.info("following worker cluster %s", name)


def _ours(check: Mapping[str, Any]) -> bool:
    return at(check, "spec").get("controllerName") == CONTROLLER


def _active(cluster: Mapping[str, Any]) -> bool:
    conditions = at(cluster, "status").get("conditions") or ()
    return any((each["type"], each["status"]) == ("Active", "True") for each in conditions)
