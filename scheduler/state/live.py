"""What feed, ledger and desk share: one lock and all that it guards. Nothing outside this package imports it.

No I/O ever happens under the lock, and work on many nodes or pods takes it in slices.
"""

import threading
from collections.abc import Callable

from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import Vendor, words_of
from scheduler.state.claimed import Claimed
from scheduler.state.engine import Engine
from scheduler.state.fleet import Fleet
from scheduler.state.held_places import HeldPlaces
from scheduler.state.ledger import Ledger
from scheduler.state.onlookers import Onlookers
from scheduler.state.pending import Pending
from scheduler.state.planned_places import PlannedPlaces
from scheduler.state.precedence import Precedence
from scheduler.state.quotas import QuotaLedger
from scheduler.state.turns import Turns
from scheduler.state.within_quota import WithinQuota


class Live:
    """The parts, built and connected."""

    def __init__(
        self, policy: SchedulingPolicy, vendors: tuple[Vendor, ...], clock: Callable[[], float], *, check_node: bool
    ) -> None:
        self.lock = threading.RLock()
        self.precedence = Precedence()
        """Of answers, over those who take the lock in slices."""
        self.changed = threading.Event()
        """Set whenever a new plan may help a waiting pod."""
        self.policy = policy
        self.vendors = vendors
        self.names = words_of(vendors)
        self.clock = clock
        self.nodes: dict[str, Node] = {}
        self.inventory = 0
        """Counts changes of nodes."""
        self.fleet = Fleet()
        self.engine = Engine(self.fleet, policy, check_node=check_node)
        self.quotas = QuotaLedger()
        self.planned = PlannedPlaces()
        self.onlookers = Onlookers()
        self.within = WithinQuota(self.engine, self.quotas, self.planned)
        self.claimed = Claimed(self.quotas, self.nodes, vendors)
        self.pending = Pending(clock, self.changed)
        self.ledger = Ledger(self.lock, self.fleet, self.quotas, self.changed, clock, self.planned)
        self.turns = Turns(self.ledger, self.quotas, self.within)
        self.places = HeldPlaces(self.lock, self.ledger, self.within.best, self.precedence.pause)
