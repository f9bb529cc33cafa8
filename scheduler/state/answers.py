"""What the desk hands out: frozen values, good for as long as the reader keeps them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Holding
from kerf.values.hard_quota import HardQuota
from kerf.values.node import Node
from scheduler.core.explain import Explanation
from scheduler.quota.capacity import Capacity
from scheduler.quota.shares import Shares
from scheduler.state.pending import Waiting


@dataclass(frozen=True, slots=True)
class Decided:
    """The answer does not depend on the cards: the nodes that take the pod, and why every other node does not."""

    fits: list[str]
    note: str
    over_quota: bool = False


@dataclass(frozen=True, slots=True)
class ByCards:
    """The cards decide. `reasons` has a `Reason` per asked node, 0 where the pod fits; `why` is set if none fits."""

    fits: Sequence[str]
    reasons: NDArray[np.uint8]
    why: Explanation | None = None


Where = Decided | ByCards


@dataclass(frozen=True, slots=True)
class Candidate:
    """A waiting pod for the planner, its ask within quota. `over_quota` says why it gets nothing, if it does not."""

    waiting: Waiting
    refused: bool
    over_quota: str = ""

    @property
    def ask(self) -> PodAsk:
        """What it asks for."""
        return self.waiting.ask


@dataclass(frozen=True, slots=True)
class Limits:
    """What tenants and namespaces may hold. `capacity` is what the shares were made from."""

    shares: Shares
    capacity: Capacity
    hard: Mapping[str, HardQuota]

    @property
    def active(self) -> bool:
        """Whether any tenant or namespace has a quota."""
        return bool(self.hard) or any(share.tenant.namespaces for share in self.shares.tenants)


@dataclass(frozen=True, slots=True)
class Member:
    """One pod of a workload: what it asks, its containers' stages, and which nodes its spec allows."""

    ask: PodAsk
    stages: Stages
    allows: Callable[[Node], bool]


@dataclass(frozen=True, slots=True)
class Promised:
    """A place that was promised to a pod which is not there yet. Nothing holds it but this value."""

    ask: PodAsk
    holding: Holding


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Why a workload's pods do not fit. `final`: waiting does not help, the hardware is not there."""

    sentence: str
    final: bool = False
