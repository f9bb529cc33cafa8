"""The scheduler's live state behind its doors: feed, ledger, desk, planning, seating, allocations and sight.

The feed takes what was seen, the ledger has what pods hold, the desk and planning answer questions and reserve, seating
gives waiting pods places without kube-scheduler, allocations are what Kubernetes gives to claims, sight is for those
who only look. Each takes the lock by itself; nothing outside this package sees the lock or what it guards.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from kerf.values.claim import Claim
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import Vendor
from kerf.wire.json import Json
from scheduler.state.allocations import Allocations
from scheduler.state.desk import Desk
from scheduler.state.feed import Feed
from scheduler.state.live import Live
from scheduler.state.planning import Planning
from scheduler.state.seating import Seating
from scheduler.state.sight import Sight


class Store:
    """One cluster. `check_node` includes CPU, memory and cordon of the nodes, which kube-scheduler checks otherwise."""

    def __init__(
        self,
        policy: SchedulingPolicy,
        vendors: tuple[Vendor, ...],
        clock: Callable[[], float] = time.monotonic,
        *,
        check_node: bool = False,
    ) -> None:
        live = Live(policy, vendors, clock, check_node=check_node)
        self.feed = Feed(live)
        self.ledger = live.ledger
        self.desk = Desk(live)
        self.planning = Planning(live, self.desk)
        self.seating = Seating(live, self.desk)
        self.allocations = Allocations(live)
        self.sight = Sight(live)


def load(store: Store, nodes: Iterable[Json], pods: Iterable[Json], claims: Iterable[Claim] = ()) -> None:
    """Fill a store from dumps: for simulation, explanation and tests."""
    for node in nodes:
        store.feed.apply_node("ADDED", node)
    store.allocations.replace((replace(claim, uid=claim.key), 0) for claim in claims)
    for pod in pods:
        store.feed.apply_pod("ADDED", pod)
