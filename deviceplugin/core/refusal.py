"""Why a container may not start: a closed list of reasons, each with one sentence that carries the numbers."""

from dataclasses import dataclass
from enum import StrEnum


class Why(StrEnum):
    """Reasons of a refused start, as events and metrics name them."""

    UNKNOWN_POD = "UnknownPod"  # the kubelet does not (yet) say whose slots these are
    AMBIGUOUS = "AmbiguousContainer"  # more than one container could be meant, and they hold different slices
    NOT_HERE = "NotBoundHere"  # the pod is not bound to this node, or has finished
    NO_GRANT = "NoGrant"
    BAD_GRANT = "BadGrant"  # unreadable, or more than the pod's containers ask for
    NO_CARD = "NoCard"  # names a card that this node does not have
    UNHEALTHY = "UnhealthyCard"
    OVERCOMMIT = "OverCommitted"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A "no". `lasting` is false where asking again may help by itself."""

    why: Why
    message: str
    lasting: bool = True
