"""Kinds of cards that a workload accepts, the kind that a pod was given, and what the policy says of both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Accept:
    """One kind of cards that is accepted, with the size of the slices there; None is what is said elsewhere.

    `resource` is the extended resource of the kind's vendor; empty where the workload's template says it.
    """

    models: tuple[str, ...] = ()
    """Names of models, any of which will do; empty: every model of the vendor."""
    memory_mib: int | None = None
    cores: int | None = None
    cards: int | None = None
    resource: str = ""
    container: str = ""
    """The container that gets the cards; empty: the only one that can be meant."""

    @property
    def name(self) -> str:
        """The kind as people write it: `nvidia.com/gpu:A100|H100`."""
        return ":".join(filter(None, (self.resource, "|".join(self.models))))


@dataclass(frozen=True, slots=True)
class Changes:
    """What a pod needs beside its cards on one kind; None leaves the container as it is."""

    image: str | None = None
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    """What `kerf.dev/model` says on this kind."""


NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class Accepts:
    """The kinds that a pod accepts, the preferred one first, with what the pod needs on each."""

    kinds: tuple[Accept, ...]
    changes: tuple[Changes, ...]
    """One for each kind."""
    seal: int
    """A checksum of the texts that say all this."""

    def number(self, name: str) -> int | None:
        """The place of a kind in the list; None where it is not accepted."""
        return next((i for i, kind in enumerate(self.kinds) if kind.name == name), None)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The kind that a pod was given. `promise` names what the scheduler keeps free for it for a moment."""

    kind: str
    why: str = ""
    promise: str = ""
    seal: int = 0
    among: tuple[str, ...] = ()
    """Every kind that the pod accepts."""


class AcceptsMode(StrEnum):
    """What happens to pods that accept several kinds."""

    CHOOSE = "choose"
    """The scheduler chooses when the pod is made."""
    FIRST = "first"
    """They get the first kind of their list; nobody is asked."""
    OFF = "off"
    """They are refused."""


class AcceptsOrder(StrEnum):
    """What makes a kind the better one among those where a pod fits."""

    THROUGHPUT = "throughput"  # the least money for as much throughput
    PRICE = "price"  # the least money an hour
    LISTED = "listed"  # the pod's own order


@dataclass(frozen=True, slots=True)
class AcceptsSettings:
    """The policy's block `accepts`."""

    mode: AcceptsMode = AcceptsMode.CHOOSE
    order: AcceptsOrder = AcceptsOrder.THROUGHPUT
    answer_s: float = 0.5
    """How long the webhook waits for the scheduler's answer."""
    explain_after_s: float = 60.0
    """How long a pod waits for its kind before an Event says so and its owner's next pod is given another one."""
    remember_s: float = 900.0
    """For how long that is remembered of an owner."""
