"""The ledger: what each pod holds or what is held for it, on which node. Whoever charges and releases is the store."""

import threading
from collections import Counter

from kerf.values.ask import PodAsk
from scheduler.core.victims import Evictable
from scheduler.state.fleet import Fleet
from scheduler.state.quotas import QuotaBook
from scheduler.state.tenants import State, Tenant


class Ledger:
    """Tenants by uid, and by node. Shares the store's lock; `stirred` is set when capacity comes back."""

    def __init__(self, lock: threading.RLock, fleet: Fleet, quotas: QuotaBook, stirred: threading.Event) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.lock = lock
        self.fleet = fleet
        self.quotas = quotas
        self._stirred = stirred
        self._on_node: dict[str, set[str]] = {}

    def charge(self, tenant: Tenant) -> None:
        """Write down what a pod holds."""
        self.tenants[tenant.uid] = tenant
        self._on_node.setdefault(tenant.node, set()).add(tenant.uid)
        self.fleet.charge(tenant.node, tenant.uses, tenant.cpu_milli, tenant.memory_mib)
        self.quotas.charge(tenant)

    def release(self, uid: str) -> None:
        """Strike a pod out; does nothing for one that holds nothing."""
        tenant = self.tenants.pop(uid, None)
        if tenant is None:
            return
        on_node = self._on_node[tenant.node]
        on_node.discard(uid)
        if not on_node:
            del self._on_node[tenant.node]
        self.fleet.release(tenant.node, tenant.uses, tenant.cpu_milli, tenant.memory_mib)
        self.quotas.release(uid)
        self._stirred.set()

    def on_node(self, name: str) -> list[Tenant]:
        """The tenants of a node, by uid."""
        with self.lock:
            return [self.tenants[uid] for uid in sorted(self._on_node.get(name, ()))]

    def counts(self) -> dict[State, int]:
        """Tenants by state."""
        with self.lock:
            found = dict.fromkeys(State, 0)
            for tenant in self.tenants.values():
                found[tenant.state] += 1
            return found

    def gang_members(self) -> dict[str, int]:
        """How many pods of each gang are bound, assumed or have a place reserved."""
        with self.lock:
            return dict(Counter(tenant.gang for tenant in self.tenants.values() if tenant.gang))

    def nodes_below(self, priority: int) -> list[str]:
        """Nodes with pods less important than `priority`, those with the most first."""
        with self.lock:
            found = Counter(t.node for t in self.tenants.values() if t.uses and t.priority < priority)
        return [name for name, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))]

    def evictable(self, node: str, ask: PodAsk) -> list[Evictable]:
        """The node's pods that are less important than the asking one."""
        return [
            Evictable(t.uid, t.key, t.priority, t.uses, t.cpu_milli, t.memory_mib)
            for t in self.on_node(node)
            if t.priority < ask.priority and t.state is State.CONFIRMED
        ]

    def reservations_before(self, moment: float) -> list[Tenant]:
        """Reservations that ended before a monotonic time."""
        with self.lock:
            return [t for t in self.tenants.values() if t.state is State.RESERVED and t.until < moment]

    def ready(self, tenant: Tenant) -> bool:
        """Whether what is reserved is really free by now: victims may still be ending."""
        cards = {state.card.id: state.free for state in self.fleet.state(tenant.node).cards}
        return all(
            card in cards and min(cards[card].memory_mib, cards[card].cores, cards[card].slots) >= 0
            for card in tenant.uses
        )
