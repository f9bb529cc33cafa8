"""The quota controller: the leader's loop that writes the shares into the cluster.

Observe (the keeper's shares, Kueue's objects, workloads), decide (`scheduler.quota`, pure), apply: labels of classes
on nodes, Kueue's objects by server-side apply, the status of every TenantQuota, evictions where a file asks for them.
What fails (Kueue's webhooks are down for every restart of its manager) is retried with a growing pause.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.kube.mirror import Mirror
from kerf.obs.loop import Loop, run_every
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
from scheduler.quota.objects import Change, changes, desired
from scheduler.quota.shares import Shares
from scheduler.state.answers import Limits
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.quota")
LOOP = Loop("quota", every_s=0.25, longest_pause_s=15.0, expected=(KubeError,))
ACCOUNTS_S = 1.0
"""Between two comparisons with all workloads and pods."""
WRITERS = 8
"""Nodes labelled at once: the first round labels the whole fleet."""
WORKLOADS = f"{kueue.ROOT}/workloads"


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
        self._desk = store.desk
        self._kube = kube
        self._keeper = keeper
        self._metrics = metrics
        self._clock = clock
        self._managed = Mirror(
            kube, {kueue.path_of(kind): kind for kind in kueue.PLURALS}, {"labelSelector": kueue.MANAGED_SELECTOR}
        )
        self._workloads = Mirror(kube, {WORKLOADS: "Workload"})
        self._status = StatusWriter(kube, keeper, clock)
        self._overdraft = Overdraft(store, kube)
        self._following = False
        self._labelled = -1
        self._accounts_due = 0.0
        self._limits: object = None

    def run(self, stop: threading.Event) -> None:
        """Act until stopped."""
        mirrors = (self._managed, self._workloads)
        loop = replace(LOOP, failures=self._metrics.failures)
        run_every(loop, self._round, stop)
        for mirror in mirrors:
            mirror.stop()

    def run_once(self) -> None:
        """One round. Raises KubeError for what could not be written."""
        if not self._keeper.ready:
            return
        limits = self._desk.limits()
        self._label_nodes(limits)
        if self._engine is QuotaEngine.KUEUE and not (self._managed.synced and self._workloads.synced):
            return
        try:
            if self._engine is QuotaEngine.KUEUE:
                self._apply(limits.shares)
        finally:
            self._keep_accounts(limits)
        self._wake(limits)

    # ---- inside
    def _round(self) -> None:
        if self._engine is QuotaEngine.KUEUE and not self._following:
            self._following = True
            for mirror in (self._managed, self._workloads):
                mirror.start()
        self.run_once()

    def _keep_accounts(self, limits: Limits) -> None:
        """Compare what tenants may have with what they hold, report it, and evict what is too much."""
        if self._clock() < self._accounts_due:
            return
        self._accounts_due = self._clock() + ACCOUNTS_S
        workloads = self._workloads.items() if self._engine is QuotaEngine.KUEUE else None
        activity = activity_by_tenant(self._desk, workloads)
        accounts = tenant_accounts(limits.shares, limits.capacity, activity, enforced=self._engine is QuotaEngine.KERF)
        self._metrics.show(accounts)
        self._status.write(accounts, self._keeper.unreadable)
        self._overdraft.run_once(workloads)

    @property
    def _engine(self) -> QuotaEngine:
        return self._desk.policy.quota.engine

    def _label_nodes(self, limits: Limits) -> None:
        """Label every node with its classes, for flavors and selectors. Not as long as there is no quota."""
        inventory = self._desk.inventory
        if not limits.active or inventory == self._labelled:
            return
        with ThreadPoolExecutor(WRITERS, "class-labels") as pool:
            list(pool.map(self._label, self._desk.nodes()))
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
        names = self._desk.names
        failed: KubeError | None = None
        for change in changes(desired(shares, self._desk.policy.quota, names), live):
            try:
                apply_change(self._kube, change)
            except KubeError as error:
                if change.key[0] == "LocalQueue" and isinstance(error, NotFound):
                    continue  # its namespace does not exist yet; everything else goes on
                failed = failed or error
            else:
                self._metrics.writes.labels(change.action).inc()
                _LOG.info("%s", change)
        if failed is not None:
            raise failed

    def _wake(self, limits: Limits) -> None:
        """Limits have changed: what kube-scheduler holds back may fit now."""
        now = (limits.shares, tuple(sorted(limits.hard.items())))
        before, self._limits = self._limits, now
        if before is not None and now != before and self._desk.waiting() and (names := self._desk.node_names()):
            wake_scheduler(self._kube, names[0], f"quota-{self._clock():.3f}")


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
