"""What servers of models were seen to hold, and what the policy says about using it."""

from dataclasses import dataclass
from enum import StrEnum

LEAST_PODS, LEAST_HOURS = 2, 24.0


class LearningMode(StrEnum):
    """What is done with what servers hold."""

    OFF = "off"
    OBSERVE = "observe"  # it is recorded and shown
    APPLY = "apply"  # the webhook also sizes pods by it


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """When a lesson may make a slice smaller. One that makes it larger always counts."""

    mode: LearningMode = LearningMode.OFF
    least_pods: int = LEAST_PODS
    least_hours: float = LEAST_HOURS


@dataclass(frozen=True, slots=True, order=True)
class Setup:
    """What decides how much a server takes beside its weights and cache, the length of its context apart."""

    model: str
    """Name of the catalogue's row."""
    runtime: str
    release: str
    """The engine's release, as far as its rules are the same: 0.33 of vLLM, 0.5.23 of SGLang."""
    card: str
    """The card's model, as its driver calls it."""
    concurrency: int
    batched_tokens: int
    tp: int = 1
    pp: int = 1
    ep: int = 1
    quantization: str = ""
    kv_dtype: str = "auto"
    extra: str = ""
    """Further options of the container that may change what it takes."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What servers of one setup held at most, per card. `beside`: without weights, position table and cache."""

    setup: Setup
    max_len: int
    """The longest context among them, in tokens."""
    beside_mib: int = 0
    """The most that one held; 0 where none is known to have loaded its model."""
    refused_mib: int = 0
    """What the largest slice that refused memory left beside; 0: none did."""
    failed_mib: int = 0
    """What the largest slice whose server ended with an error left beside; 0: none did."""
    kv_percent: int | None = None
    """The fullest that a cache was, by the engines' own count."""
    peak_mib: int = 0
    slice_mib: int = 0
    pod: str = ""
    """The one that held the most: its peak and slice."""
    pods: int = 0
    hours: float = 0.0
    """Of those that have ended."""
    running: int = 0
    running_hours: float = 0.0
    """Of those that ran when it was written."""
    first_ms: int = 0
    last_ms: int = 0

    @property
    def all_pods(self) -> int:
        """Pods that taught it."""
        return self.pods + self.running

    @property
    def all_hours(self) -> float:
        """For how long they ran, together."""
        return self.hours + self.running_hours


@dataclass(frozen=True, slots=True)
class Learned:
    """All lessons, and how much has to be seen before a slice becomes smaller."""

    lessons: tuple[Lesson, ...] = ()
    least_pods: int = LEAST_PODS
    least_hours: float = LEAST_HOURS
    until_ms: int = 0
    """Pods that ended before this moment are counted."""


@dataclass(frozen=True, slots=True)
class ServerPeak:
    """One container of a pod that names its model: how it is started, and what it held at most of one card."""

    container: str
    model: str
    """The text of the pod's annotation."""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    cards: int = 1
    limit_mib: int = 0
    peak_mib: int = 0
    denied: int = 0
    """Allocations that were refused at the limit, by all starts together."""
    denied_before: int = 0
    """The part of them that earlier starts had."""
    starts: int = 1
    failed: bool = False
    """Whether a start of it ended with an error."""


@dataclass(frozen=True, slots=True)
class Taught:
    """Lessons about one model on one kind of card, for servers with the same further options."""

    lessons: tuple[Lesson, ...] = ()
    least_pods: int = LEAST_PODS
    least_hours: float = LEAST_HOURS
