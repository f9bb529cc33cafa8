"""Use against grant: which container a process belongs to, and what was used past the limiter."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kerf.values.units import MIB, show_mib

_POD = re.compile(r"pod([0-9a-f]{8}[-_](?:[0-9a-f]{4}[-_]){3}[0-9a-f]{12})")
_CONTAINER = re.compile(r"([0-9a-f]{64})(?:\.scope)?$")


@dataclass(frozen=True, slots=True, order=True)
class ContainerRef:
    """A container by its pod's uid and its own name. The name is "" until the kubelet has reported it."""

    uid: str
    container: str


@dataclass(frozen=True, slots=True, order=True)
class CardSample:
    """What a container uses of one card by the driver's count: bytes, and percent of the SMs."""

    ref: ContainerRef
    card: str
    memory_bytes: int
    percent: int


@dataclass(frozen=True, slots=True, order=True)
class Overuse:
    """More of a card's memory than was granted, by the driver's count, in bytes. `granted` 0: nothing of this card."""

    ref: ContainerRef
    card: str
    used: int
    granted: int

    @property
    def sentence(self) -> str:
        """The overuse as a sentence."""
        used = show_mib(self.used // MIB)
        if not self.granted:
            return f"container {self.ref.container} uses {used} of card {self.card}, which it was not granted"
        granted = show_mib(self.granted // MIB)
        return f"container {self.ref.container} uses {used} of card {self.card} past the limiter: {granted} granted"


def parse_cgroup(text: str) -> tuple[str, str] | None:
    """(pod uid, container id) of a process by its /proc/PID/cgroup; None for one outside of pods.

    Reads both drivers: `/kubepods/burstable/pod<uid>/<id>` and `…-pod<uid with _>.slice/cri-containerd-<id>.scope`.
    """
    for line in text.splitlines():
        path = line.rpartition(":")[2]
        pod, container = _POD.search(path), _CONTAINER.search(path)
        if pod and container:
            return pod.group(1).replace("_", "-"), container.group(1)
    return None


def sum_up(uses: Iterable[tuple[ContainerRef, str, int, int]]) -> tuple[CardSample, ...]:
    """(container, card, bytes, percent) per process to one value per container and card."""
    totals: dict[tuple[ContainerRef, str], list[int]] = defaultdict(lambda: [0, 0])
    for ref, card, memory, percent in uses:
        total = totals[ref, card]
        total[0] += memory
        total[1] += percent
    return tuple(sorted(CardSample(ref, card, memory, percent) for (ref, card), (memory, percent) in totals.items()))


def overuses(
    samples: Iterable[CardSample], granted: Mapping[ContainerRef, Mapping[str, int | None]], tolerance_bytes: int
) -> tuple[Overuse, ...]:
    """Containers that use more than granted. `granted` is bytes by card, None for a slice without a limit.

    The tolerance covers what the driver takes before the limiter can count it. A card that was not granted has none.
    """
    found = []
    for use in samples:
        limit = granted.get(use.ref, {}).get(use.card, 0)
        if limit is not None and use.memory_bytes > limit + (tolerance_bytes if limit else 0):
            found.append(Overuse(use.ref, use.card, use.memory_bytes, limit))
    return tuple(sorted(found))


def lasting(
    now: Iterable[Overuse], since: Mapping[tuple[ContainerRef, str], float], at: float
) -> dict[tuple[ContainerRef, str], float]:
    """When each present overuse began, in the clock of `at`; one that has ended is forgotten."""
    return {(use.ref, use.card): since.get((use.ref, use.card), at) for use in now}
