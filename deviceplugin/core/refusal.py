"""Why a container may not start: a closed list of reasons, and one sentence with the numbers."""

from dataclasses import dataclass
from enum import StrEnum


class Why(StrEnum):
    """Reasons of a refused start, as events and metrics name them."""

    UNKNOWN_POD = "UnknownPod"  # the kubelet has not reported the pod of these slots yet
    AMBIGUOUS = "AmbiguousContainer"  # several containers match, and they hold different slices
    NOT_HERE = "NotBoundHere"  # the pod is not bound to this node, or has finished
    NO_GRANT = "NoGrant"
    BAD_GRANT = "BadGrant"  # unreadable, or more than the pod's containers ask for
    NO_CARD = "NoCard"  # names a card that this node does not have
    UNHEALTHY = "UnhealthyCard"
    OTHER_ALLOCATOR = "OtherAllocator"  # the card is handed out by the other of extender and DRA
    BAD_CLAIM = "BadClaim"  # a claim that cannot be kept: shared, or two slices of one card for one container
    OVERCOMMIT = "OverCommitted"
    MODE = "WrongMode"  # the pod does not accept the mode that its card is in, or nothing serves that mode now
    NO_LIMIT = "NoLimit"  # the driver did not take the limit of the pod's memory
    NO_INSTANCE = "NoInstance"  # the driver did not make its MIG instance, or an older one is still in use


@dataclass(frozen=True, slots=True)
class StartRefusal:
    """A refused start. `lasting` is false where a retry may succeed without a change to the pod."""

    why: Why
    message: str
    lasting: bool = True
