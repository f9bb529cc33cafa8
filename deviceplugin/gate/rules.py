"""How a node treats its pods, and what a pod says beside its grant."""

from collections.abc import Callable
from dataclasses import dataclass

from kerf.kube.client import Json
from kerf.values.injection import LimiterPolicy
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import ResourceNames, Vendor
from kerf.wire.errors import WireError
from kerf.wire.resources import parse_pod


@dataclass(frozen=True, slots=True)
class Words:
    """What a pod says beside its grant: the modes of cards that it accepts, and its limiter's priority."""

    modes: tuple[str, ...] = ()
    priority: int = 1


@dataclass(frozen=True, slots=True)
class Rules:
    """How this node treats its pods. `vendors` are those whose cards this plugin serves."""

    vendors: tuple[Vendor, ...]
    policy: Callable[[], SchedulingPolicy]
    limiter_policy: LimiterPolicy = "cap"
    allow_disable: bool = False
    """Whether a container may opt out of the limiter with CUDA_DISABLE_CONTROL=true."""

    @property
    def names(self) -> tuple[ResourceNames, ...]:
        """The vendors' resource names."""
        return tuple(vendor.words for vendor in self.vendors)

    @property
    def served(self) -> frozenset[str]:
        """The vendors' names."""
        return frozenset(vendor.name for vendor in self.vendors)

    def words_of(self, pod: Json) -> Words:
        """A pod is started by its grant; a wrong word in an annotation does not stop it now."""
        try:
            ask = parse_pod(pod, self.names, self.policy().defaults)
        except WireError:
            return Words()
        return Words(ask.selection.modes, ask.task_priority)
