"""Evictions for quota: when cards are gone and a tenant's file says `whenOver: evict`, its newest borrower goes.

With Kueue a workload is deactivated and, once Kueue has taken its pods back, activated again, so that it waits in its
queue. Without Kueue the pod is evicted through the Eviction API, so budgets hold.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress

from kerf.kube.client import Kube
from kerf.kube.errors import NotFound
from kerf.kube.evict import AlreadyGone, Evicted, NotEvicted, evict
from kerf.wire import kueue
from kerf.wire.json import Json, at
from scheduler.quota.evict import Running, victims
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.quota")
Workloads = Sequence[Json]
TAKEN = "kerf.dev/quota-evicted"
"""Annotation of a workload that Kerf deactivated: the leader activates it again."""


class Overdraft:
    """One decision a round, so that the next round sees what it did."""

    def __init__(self, store: Store, kube: Kube) -> None:
        self._desk = store.desk
        self._kube = kube
        self._asked: set[str] = set()
        """Pods that were evicted and are still terminating."""

    def run_once(self, workloads: Workloads | None) -> None:
        """One round of evictions; `workloads` are Kueue's, None without Kueue. Raises KubeError."""
        if workloads is None:
            if not self._desk.overdrawn():
                self._asked.clear()
                return
            running = self._desk.running()
            self._asked &= {one.name for one in running}
            for one in self._victims(running):
                if one.name not in self._asked:
                    self._evict(one)
            return
        self._reactivate(workloads)
        for one in self._victims(self._admitted(workloads)):
            self._deactivate(one)

    def _victims(self, running: Iterable[Running]) -> tuple[Running, ...]:
        limits = self._desk.limits()
        return victims(limits.capacity, limits.shares, running) if limits.shares.tenants else ()

    # ---- without Kueue
    def _evict(self, one: Running) -> None:
        key, _, uid = one.name.rpartition("/")
        match evict(self._kube, key, uid):
            case Evicted():
                self._asked.add(one.name)
                _LOG.info("evicted %s: tenant %s is over its guarantee and capacity was lost", key, one.tenant)
            case NotEvicted(reason):
                _LOG.warning("%s is not evicted for quota now: %s", key, reason)
            case AlreadyGone():
                pass

    # ---- with Kueue
    def _admitted(self, workloads: Workloads) -> list[Running]:
        names, shares = self._desk.names, self._desk.limits().shares
        tenant_of = {name: share.tenant.name for share in shares.tenants for name in share.tenant.namespaces}
        found = []
        for workload in workloads:
            tenant = tenant_of.get(str(workload["metadata"].get("namespace", "")))
            held = kueue.parse_reserved(workload, names) if tenant and kueue.is_active(workload) else {}
            if tenant and held:
                since, priority = kueue.admitted_at(workload), kueue.priority_of(workload)
                found.append(Running(_path(workload), tenant, tuple(sorted(held.items())), since, priority))
        return found

    def _deactivate(self, one: Running) -> None:
        self._patch(one.name, {"metadata": {"annotations": {TAKEN: "true"}}, "spec": {"active": False}})
        _LOG.info(
            "workload %s goes back to its queue: tenant %s is over its guarantee and capacity was lost",
            one.name,
            one.tenant,
        )

    def _reactivate(self, workloads: Workloads) -> None:
        """Activate what Kueue has taken back."""
        for workload in workloads:
            marked = TAKEN in at(workload["metadata"], "annotations")
            if marked and not kueue.is_active(workload) and kueue.is_taken_back(workload):
                self._patch(_path(workload), {"metadata": {"annotations": {TAKEN: None}}, "spec": {"active": True}})

    def _patch(self, path: str, body: Json) -> None:
        with suppress(NotFound):
            self._kube.patch(path, body)


def _path(workload: Json) -> str:
    meta = workload["metadata"]
    return f"{kueue.ROOT}/namespaces/{meta.get('namespace', '')}/workloads/{meta.get('name', '')}"
