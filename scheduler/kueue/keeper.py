"""Keeps the store's limits up to date: TenantQuotas, ResourceQuotas and live cards in, limits out.

Every replica has one, because every replica answers filter; writing to the cluster is the quota controller's part.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from kerf.kube.client import Json
from kerf.obs.loop import Loop, run_every
from kerf.values.hard_quota import HardQuota
from kerf.values.policy import QuotaEngine
from kerf.values.quota import TenantQuota
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.quota import conflicts, held_to_nothing, parse_tenant
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
        self._broken: dict[str, TenantQuota] = {}
        """The TenantQuotas that cannot be read: their namespaces are held to nothing."""
        self._hard: dict[tuple[str, str], Json] = {}
        self._window = PeakWindow(store.desk.policy.quota.shrink_after_s)
        self._seen: object = None
        self._said: set[str] = set()
        self._listed = self._hard_listed = False
        self.generations: dict[str, int] = {}
        """The generation of each TenantQuota that the limits in force were made from."""
        self.unreadable: dict[str, str] = {}
        """Sentences about TenantQuotas that cannot be read, by name."""

    # ---- what the watches say
    def replace_tenants(self, items: list[Json]) -> None:
        """The whole list of TenantQuotas."""
        with self._lock:
            self._listed = True
            before, self._tenants, self._broken = {**self._broken, **self._tenants}, {}, {}
            self.unreadable.clear()
            for item in items:
                self._read(item, before.get(_name(item)))
        self._changed.set()

    def change_tenant(self, kind: str, item: Json) -> None:
        """One event of a TenantQuota."""
        with self._lock:
            name = _name(item)
            broken, readable = self._broken.pop(name, None), self._tenants.pop(name, None)
            self.unreadable.pop(name, None)
            if kind != "DELETED":
                self._read(item, readable or broken)
        self._changed.set()

    def replace_hard(self, items: list[Json]) -> None:
        """The whole list of ResourceQuotas."""
        with self._lock:
            self._hard = {_key(item): item for item in items}
            self._hard_listed = True
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

    def tenants_by_namespace(self) -> dict[str, str]:
        """The tenant of each namespace, also where quota is off: its use is billed to that tenant.

        Of several the first by name, as for quota; before one that cannot be read, which keeps what no other has.
        """
        with self._lock:
            known = (*_from_the_last(self._broken), *_from_the_last(self._tenants))
        return {space: name for name, tenant in known for space in tenant.namespaces}

    # ---- the loop
    def run(self, stop: threading.Event) -> None:
        """Refresh whenever something changed, until stopped."""
        run_every(LOOP, self.refresh, stop, self._changed)

    def refresh(self) -> None:
        """Install the limits that the objects and the cards mean now, if any of them changed."""
        with self._lock:
            listed, tenants = self._listed and self._hard_listed, dict(self._tenants)
            broken, unreadable = dict(self._broken), dict(self.unreadable)
            hard = list(self._hard.values())
        policy, now = self._desk.policy, self._clock()
        names = self._desk.names
        limits = parse_hard(hard, names)
        if not listed:
            return  # no tenant known is not the same as no tenant there
        if policy.quota.engine is QuotaEngine.OFF:
            tenants, broken, unreadable = {}, {}, {}
        self._window = replace(self._window, seconds=policy.quota.shrink_after_s)
        settles = self._window.settles_at(now)
        seen = (tenants, broken, limits, policy, self._desk.inventory, settles)
        if seen == self._seen:
            return
        self._report(limits)
        found = capacity(self._desk.nodes(), policy) if tenants or limits else {}
        self._window = self._window.after(now, found)
        readable = list(tenants.values())
        nothing = [_without(tenant, readable) for tenant in broken.values()]
        shares = divide([*readable, *nothing], self._window.capacity, {**conflicts(readable), **unreadable})
        self._feed.set_quota(shares, self._window.capacity, limits)
        self._seen = seen

    def _report(self, limits: Mapping[str, HardQuota]) -> None:
        """Log, once, what of ResourceQuotas is not counted as it is written."""
        said = {f"namespace {name}: {text}" for name, quota in limits.items() for text in quota.problems}
        for sentence in sorted(said - self._said):
            _LOG.warning("%s", sentence)
        self._said = said

    def _read(self, item: Json, before: TenantQuota | None) -> None:
        meta = at(item, "metadata")
        name = _name(item)
        self.generations[name] = int(meta.get("generation") or 0)
        try:
            self._tenants[name] = parse_tenant(item, self._desk.names[0].vendor)
        except WireError as error:
            self.unreadable[name] = str(error)
            self._broken[name] = held_to_nothing(item, before.namespaces if before else ())
            _LOG.warning("TenantQuota %s: %s", name, error)


def _from_the_last(tenants: Mapping[str, TenantQuota]) -> list[tuple[str, TenantQuota]]:
    return [(name, tenants[name]) for name in sorted(tenants, reverse=True)]


def _without(broken: TenantQuota, readable: Iterable[TenantQuota]) -> TenantQuota:
    """A tenant that cannot be read takes no namespace from one that can."""
    taken = {namespace for tenant in readable for namespace in tenant.namespaces}
    return replace(broken, namespaces=tuple(name for name in broken.namespaces if name not in taken))


def _name(item: Json) -> str:
    return str(at(item, "metadata").get("name", ""))


def _key(item: Json) -> tuple[str, str]:
    meta = at(item, "metadata")
    return str(meta.get("namespace", "")), str(meta.get("name", ""))
