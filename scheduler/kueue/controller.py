"""The quota controller: the leader's loop that makes the cluster say what the shares are.

Observe (the keeper's shares, Kueue's objects, workloads), decide (`scheduler.quota`, pure), apply: labels of classes
on nodes, Kueue's objects by server-side apply, the status of every TenantQuota, evictions where a file asks for them.
Whatever fails (Kueue's webhooks are down for every restart of its manager) is tried again with a growing pause.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.kube.mirror import Mirror
from kerf.values.node import Node
from kerf.values.policy import QuotaEngine
from kerf.wire import kueue
from kerf.wire.classes import class_labels
from scheduler.kueue.activity import activity_by_tenant
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.kueue.overdraft import Overdraft
from scheduler.kueue.status import StatusWriter
from scheduler.metrics import QuotaMetrics
from scheduler.placing.wake import wake_scheduler
from scheduler.quota.accounts import tenant_accounts
from scheduler.quota.capacity import Capacity
from scheduler.quota.objects import Change, changes, desired
from scheduler.quota.shares import Shares
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.quota")
LOOK_S = 0.25
BOOKS_S = 1.0
"""Between two looks at all workloads and pods."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
WRITERS = 8
"""Nodes labelled at once: the first round labels the whole fleet."""
WORKLOADS = f"{kueue.ROOT}/workloads"
Json = Mapping[str, Any]


class QuotaController:
    """Acts for the shares that `keeper` installs in the store."""

    def __init__(
        self,
        store: Store,
        kube: Kube,
        keeper: QuotaKeeper,
        metrics: QuotaMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._kube = kube
        self._keeper = keeper
        self._metrics = metrics
        self._clock = clock
        self._managed = Mirror(
            kube, {kind: kueue.path_of(kind) for kind in kueue.PLURALS}, {"labelSelector": kueue.MANAGED_SELECTOR}
        )
        self._workloads = Mirror(kube, {"Workload": WORKLOADS})
        self._status = StatusWriter(kube, keeper, clock)
        self._overdraft = Overdraft(store, kube)
        self._pause, self._not_before = FIRST_PAUSE_S, 0.0
        self._labelled = -1
        self._books_due = 0.0
        self._limits: object = None

    def run(self, stop: threading.Event) -> None:
        """Act until told to stop."""
        mirrors = (self._managed, self._workloads)
        following = False
        while not stop.wait(LOOK_S):
            if self._engine is QuotaEngine.KUEUE and not following:
                following = True
                for mirror in mirrors:
                    mirror.start()
            try:
                self.run_once()
            except KubeError as error:
                self._wait_after(error)
            except Exception as error:  # noqa: BLE001 (a defect in one round must not end quota)
                _LOG.exception("quota round failed")
                self._wait_after(error)
        for mirror in mirrors:
            mirror.stop()

    def run_once(self) -> None:
        """One round. Raises KubeError for what could not be written."""
        if not self._keeper.ready or self._clock() < self._not_before:
            return
        with self._store.lock:
            shares, capacity = self._store.quotas.shares, self._store.quotas.capacity
        self._label_nodes()
        if self._engine is QuotaEngine.KUEUE and not (self._managed.synced and self._workloads.synced):
            return
        try:
            if self._engine is QuotaEngine.KUEUE:
                self._apply(shares)
        finally:
            self._keep_books(shares, capacity)
        self._wake()
        self._pause = FIRST_PAUSE_S

    # ---- inside
    def _keep_books(self, shares: Shares, capacity: Capacity) -> None:
        """Compare what tenants may have with what they hold, tell them, and take back what is too much."""
        if self._clock() < self._books_due:
            return
        self._books_due = self._clock() + BOOKS_S
        workloads = self._workloads.items() if self._engine is QuotaEngine.KUEUE else None
        seen = activity_by_tenant(self._store, workloads)
        books = tenant_accounts(shares, capacity, seen, enforced=self._engine is QuotaEngine.KERF)
        self._metrics.show(books)
        self._status.write(books, self._keeper.unreadable)
        self._overdraft.run_once(workloads)

    @property
    def _engine(self) -> QuotaEngine:
        return self._store.policy.quota.engine

    def _wait_after(self, error: Exception) -> None:
        _LOG.warning("quota: %s; again in %.1f s", error, self._pause)
        self._metrics.failures.inc()
        self._not_before = self._clock() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)

    def _label_nodes(self) -> None:
        """Every node says its classes, so that flavors and selectors find it. Not while nobody has a quota."""
        inventory = self._store.inventory
        with self._store.lock:
            active = self._store.quotas.active
        if not active or inventory == self._labelled:
            return
        with ThreadPoolExecutor(WRITERS, "class-labels") as pool:
            list(pool.map(self._label, self._store.node_values()))
        self._labelled = inventory

    def _label(self, node: Node) -> None:
        wanted = class_labels(node.cards)
        found = {key: value for key, value in node.labels if key.startswith("class.kerf.dev/")}
        if wanted != found:
            labels: dict[str, str | None] = {**dict.fromkeys(found), **wanted}
            with suppress(NotFound):
                self._kube.patch(paths.node(node.name), {"metadata": {"labels": labels}})

    def _apply(self, shares: Shares) -> None:
        live = self._managed.items()
        if not shares.tenants and not live:
            return
        names = self._store.names
        failed: KubeError | None = None
        for change in changes(desired(shares, self._store.policy.quota, names), live):
            try:
                apply_change(self._kube, change)
            except KubeError as error:
                if change.key[0] == "LocalQueue" and isinstance(error, NotFound):
                    continue  # its namespace is not there yet: no reason to wait with anything else
                failed = failed or error
            else:
                self._metrics.writes.labels(change.action).inc()
                _LOG.info("%s", change)
        if failed is not None:
            raise failed

    def _wake(self) -> None:
        """Limits have changed: what kube-scheduler holds back may fit now."""
        with self._store.lock:
            book = self._store.quotas
            limits = (book.shares, tuple(sorted(book.hard.items())), book.enforced)
            waits, names = bool(self._store.pending.pods), self._store.node_names()
        if self._limits is not None and limits != self._limits and waits and names:
            wake_scheduler(self._kube, names[0], f"quota-{self._clock():.3f}")
        self._limits = limits


def apply_change(kube: Kube, change: Change) -> None:
    """Make one write. Raises KubeError."""
    kind, namespace, name = change.key
    path = kueue.path_of(kind, name, namespace)
    if change.action == "delete":
        try:
            kube.delete(path)
        except NotFound:
            return
    else:
        kube.patch(path, change.document, "apply", {"fieldManager": kueue.FIELD_MANAGER, "force": "true"})
