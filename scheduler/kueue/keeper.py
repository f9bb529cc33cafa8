"""Keeps the store's limits up to date: TenantQuotas, ResourceQuotas and live cards in, limits out.

Every replica has one, because every replica answers filter; writing to the cluster is the quota controller's part.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kerf.kube.client import Json
from kerf.obs.loop import Loop, run_every
from kerf.values.policy import QuotaEngine
from kerf.values.quota import TenantQuota
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.quota import conflicts, parse_tenant
from kerf.wire.resourcequota import parse_hard
from scheduler.quota.capacity import capacity
from scheduler.quota.peak_window import PeakWindow
from scheduler.quota.shares import divide
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.quota")
LOOP = Loop("quota", every_s=0.25)
"""A round that fails leaves the limits in force: they are better than none."""


class QuotaKeeper:
    """Follows the objects (`replace_…`, `change_…` are a Follower's callbacks) and installs what they mean."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._desk = store.desk
        self._feed = store.feed
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._tenants: dict[str, TenantQuota] = {}
        self._hard: dict[tuple[str, str], Json] = {}
        self._window = PeakWindow(store.desk.policy.quota.shrink_after_s)
        self._seen: object = None
        self._listed = False
        self.generations: dict[str, int] = {}
        """The generation of each TenantQuota that the limits in force were made from."""
        self.unreadable: dict[str, str] = {}
        """Sentences about TenantQuotas that cannot be read, by name."""

    # ---- what the watches say
    def replace_tenants(self, items: list[Json]) -> None:
        """The whole list of TenantQuotas."""
        with self._lock:
            self._listed = True
            self._tenants.clear()
            self.unreadable.clear()
            for item in items:
                self._read(item)
        self._changed.set()

    def change_tenant(self, kind: str, item: Json) -> None:
        """One event of a TenantQuota."""
        with self._lock:
            name = str(at(item, "metadata").get("name", ""))
            self._tenants.pop(name, None)
            self.unreadable.pop(name, None)
            if kind != "DELETED":
                self._read(item)
        self._changed.set()

    def replace_hard(self, items: list[Json]) -> None:
        """The whole list of ResourceQuotas."""
        with self._lock:
            self._hard = {_key(item): item for item in items}
        self._changed.set()

    def change_hard(self, kind: str, item: Json) -> None:
        """One event of a ResourceQuota."""
        with self._lock:
            self._hard.pop(_key(item), None)
            if kind != "DELETED":
                self._hard[_key(item)] = item
        self._changed.set()

    @property
    def ready(self) -> bool:
        """Whether limits were installed once."""
        return self._seen is not None

    # ---- the loop
    def run(self, stop: threading.Event) -> None:
        """Refresh whenever something changed, until stopped."""
        run_every(LOOP, self.refresh, stop, self._changed)

    def refresh(self) -> None:
        """Install the limits that the objects and the cards mean now, if any of them changed."""
        with self._lock:
            listed, tenants = self._listed, dict(self._tenants)
            hard = list(self._hard.values())
        policy, now = self._desk.policy, self._clock()
        names = self._desk.names
        limits = parse_hard(hard, names)
        off = policy.quota.engine is QuotaEngine.OFF
        if not (listed or off):
            return  # no tenant known is not the same as no tenant there
        if off:
            tenants = {}
        self._window = replace(self._window, seconds=policy.quota.shrink_after_s)
        settles = self._window.settles_at(now)
        seen = (tenants, limits, policy, self._desk.inventory, settles)
        if seen == self._seen:
            return
        self._seen = seen
        found = capacity(self._desk.nodes(), policy) if tenants or limits else {}
        self._window = self._window.after(now, found)
        shares = divide(tenants.values(), self._window.capacity, conflicts(tenants.values()))
        enforced = policy.quota.engine is QuotaEngine.KERF
        self._feed.set_quota(shares, self._window.capacity, limits, enforced=enforced)

    def _read(self, item: Mapping[str, Any]) -> None:
        meta = at(item, "metadata")
        name = str(meta.get("name", ""))
        self.generations[name] = int(meta.get("generation") or 0)
        try:
            self._tenants[name] = parse_tenant(item, self._desk.names[0].vendor)
        except WireError as error:
            self.unreadable[name] = str(error)
            _LOG.warning("TenantQuota %s: %s", name, error)


def _key(item: Json) -> tuple[str, str]:
    meta = at(item, "metadata")
    return str(meta.get("namespace", "")), str(meta.get("name", ""))
