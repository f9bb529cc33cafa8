"""What the page shows of everything, kept up to date: only nodes that have changed are read again.

A round is a generator: its caller lets others work between the pieces.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from kerf.kube.client import Json
from kerf.pricing.prices import PriceList
from kerf.values.policy import QuotaEngine
from kerf.views.page.picture import SECTIONS, Row
from kerf.views.page.rows import cluster_row, cost_rows, node_row
from kerf.views.tenants import account_json
from scheduler.kueue.activity import activity_by_tenant
from scheduler.page.sums import Sums, facts_of
from scheduler.quota.accounts import tenant_accounts
from scheduler.state.pending import Waiting
from scheduler.state.sight import NodeSight, Why
from scheduler.state.store import Store

SLOW_S = 5.0
"""How often what is summed over everything is made again: tenants and costs."""
MOST_WAITING = 2000
REASONS_A_ROUND = 8
"""Sentences made in one round; pods that ask for the same share one."""
STALE_S = 2.0
"""A sentence is made again after so long, if any node has changed."""
LINGER_S = 600.0
"""A namespace stays known for so long after its last pod: a sentence that is not made again yet may still name it."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What is asked beside the store."""

    prices: Callable[[], PriceList]
    tenants: Callable[[], Mapping[str, str]]
    """Tenants by namespace."""
    clusters: Callable[[], list[Json]] = list
    """The fleet's clusters, as last listed."""
    leads: Callable[[], bool] = lambda: True
    lost: Callable[[], float] = lambda: 0.0
    """When the API server answered last, where it does not answer now; 0 where it does."""


@dataclass(slots=True)
class _Reason:
    why: Why
    version: int
    at: float


Rows = dict[str, dict[str, Row]]
Changed = dict[str, dict[str, Row | None]]


class Collector:
    """One thread uses it."""

    def __init__(self, store: Store, sources: Sources, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._sources = sources
        self._clock = clock
        self._version = -1
        self._sums = Sums()
        self._priced: tuple[PriceList, str] | None = None
        """The list by which nodes were read, and the supply of those that do not say theirs."""
        self._reasons: dict[object, _Reason] = {}
        self._slow_at = float("-inf")
        self._changed: Changed = {}
        self._asking: frozenset[str] = frozenset()
        """The namespaces of all pods that wait."""
        self._seen_at: dict[str, float] = {}
        """When a namespace was last one of which something is known."""
        self.rows: Rows = {name: {} for name in SECTIONS}

    def namespaces(self) -> frozenset[str]:
        """Every namespace of which a row knows something, or did until a short while ago."""
        found: set[str] = {*self._sources.tenants(), *self._asking}
        found.update(self._sums.namespaces)
        found.update(str(name) for row in self.rows["tenants"].values() for name in row["namespaces"])
        now = self._clock()
        self._seen_at = {name: at for name, at in self._seen_at.items() if now - at < LINGER_S}
        self._seen_at.update(dict.fromkeys(found, now))
        return frozenset(self._seen_at)

    def take(self) -> Changed:
        """What has changed since the last call."""
        changed, self._changed = self._changed, {}
        return changed

    def round(self) -> Iterator[None]:
        """Bring everything up to date, a piece at a time."""
        yield from self._nodes()
        yield from self._waiting()
        self._replace("gangs", self._gangs())
        if self._clock() - self._slow_at >= SLOW_S:
            self._slow_at = self._clock()
            yield
            self._replace("tenants", self._tenants())
            yield
            self._replace("costs", self._costs())
            self._replace("clusters", {row["name"]: row for row in map(cluster_row, self._sources.clusters())})
        self._replace("about", {"scheduler": self._about()})

    # ---- nodes
    def _nodes(self) -> Iterator[None]:
        prices, supply = self._sources.prices(), self._store.desk.policy.metering.supply
        if self._priced is None or self._priced[0] is not prices or self._priced[1] != supply:
            self._priced, self._version = (prices, supply), -1
        version, names, changed = self._store.sight.changed_nodes(self._version)
        for gone in self._sums.nodes() - set(names):
            self._sums.drop(gone)
            self._put("nodes", gone, None)
        for name in changed:
            seen = self._store.sight.node(name)
            if seen is not None:
                self._sums.put(name, facts_of(seen, prices, supply, self._sums.get(name)))
                self._put("nodes", name, _row_of(seen))
            yield
        self._version = version

    # ---- pods that wait
    def _waiting(self) -> Iterator[None]:
        pods = sorted(self._store.sight.waiting(), key=lambda one: (-one.ask.priority, one.created, one.ask.key))
        self._asking = frozenset(one.ask.namespace for one in pods)
        shown = [(one, _kind(one)) for one in pods[:MOST_WAITING]]
        groups: dict[object, Waiting] = {}
        for one, kind in shown:
            groups.setdefault(kind, one)
        yield
        self._reasons = {kind: known for kind, known in self._reasons.items() if kind in groups}
        for kind in self._stale(groups):
            why = self._store.sight.why(groups[kind])
            self._reasons[kind] = _Reason(why, self._version, self._clock())
            yield
        planned = self._store.sight.plan()
        held = {booking.uid: booking.node for booking in planned.reserved}
        found = {}
        for one, kind in shown:
            known = self._reasons.get(kind)
            place = held.get(one.ask.uid) or planned.nodes.get(one.ask.uid, "")
            found[one.ask.uid] = _waiting_row(one, known.why if known else Why(""), place, one.ask.uid in held)
        self._replace("waiting", found)

    def _stale(self, groups: Mapping[object, Waiting]) -> list[object]:
        now = self._clock()
        new = [kind for kind in groups if kind not in self._reasons]
        old = [
            kind
            for kind, known in self._reasons.items()
            if known.version != self._version and now - known.at >= STALE_S
        ]
        return (new + sorted(old, key=lambda kind: self._reasons[kind].at))[:REASONS_A_ROUND]

    # ---- sums
    def _gangs(self) -> dict[str, Row]:
        running, reserved, waiting = self._sums.running, self._sums.reserved, Counter[str]()
        said: dict[str, tuple[str, int]] = {}
        for row in self.rows["waiting"].values():
            if row["gang"]:
                waiting[row["gang"]] += 1
                said[row["gang"]] = (row["why"], row["size"])
        return {
            gang: {
                "ns": gang.partition("/")[0],
                "size": said.get(gang, ("", 0))[1],
                "running": running[gang],
                "reserved": reserved[gang],
                "waiting": waiting[gang],
                "why": said.get(gang, ("", 0))[0],
                "nodes": sorted(self._sums.nodes_of(gang)),
            }
            for gang in running.keys() | reserved.keys() | waiting.keys()
        }

    def _tenants(self) -> dict[str, Row]:
        desk = self._store.desk
        limits = desk.limits()
        if not limits.shares.tenants:
            return {}
        enforced = desk.policy.quota.engine is QuotaEngine.KERF
        activity = activity_by_tenant(desk, None)
        return {
            account.name: account_json(account)
            for account in tenant_accounts(limits.shares, limits.capacity, activity, enforced=enforced)
        }

    def _costs(self) -> dict[str, Row]:
        currency = self._priced[0].currency if self._priced else "USD"
        sums = self._sums
        return cost_rows(sums.per_hour, sums.free, sums.spent, self._sources.tenants(), currency)

    def _about(self) -> Row:
        desk = self._store.desk
        return {
            "cluster": desk.policy.metering.cluster,
            "leads": self._sources.leads(),
            "lost": self._sources.lost(),
            "waiting": len(desk.waiting()),
            "shown": len(self.rows["waiting"]),
        }

    # ---- inside
    def _replace(self, section: str, rows: Mapping[str, Row]) -> None:
        for gone in self.rows[section].keys() - rows.keys():
            self._put(section, gone, None)
        for key, row in rows.items():
            self._put(section, key, row)

    def _put(self, section: str, key: str, row: Row | None) -> None:
        known = self.rows[section]
        if row is None:
            known.pop(key, None)
        elif known.get(key) == row:
            return
        else:
            known[key] = row
        self._changed.setdefault(section, {})[key] = row


def _kind(one: Waiting) -> object:
    """What decides the sentence: pods that ask for the same in one namespace and gang wait for the same reason."""
    return replace(one.ask, name="", uid="", owner="", admission=""), one.problem, one.gates


def _waiting_row(one: Waiting, why: Why, place: str, reserved: bool) -> Row:
    ask = one.ask
    return {
        "ns": ask.namespace,
        "name": ask.name,
        "created": one.created,
        "why": why.sentence,
        "fix": why.fix,
        "gang": ask.gang or "",
        "size": ask.gang_size,
        "node": place,
        "reserved": reserved,
        "priority": ask.priority,
    }


def _row_of(seen: NodeSight) -> Row:
    held = [(booking.key, booking.state.value, booking.uses) for booking in seen.bookings if booking.uses]
    return node_row(seen.node, [(state.card, state.used) for state in seen.state.cards], held)
