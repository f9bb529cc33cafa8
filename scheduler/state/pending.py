"""Pods that wait: what they ask for, since when they are refused, and what the planner has in mind for them.

The caller holds the lock.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kerf.values.ask import PodAsk, Stages


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pod that is not bound yet. `problem` says why its ask cannot be read."""

    ask: PodAsk
    stages: Stages
    created: str
    problem: str = ""
    gates: bool = False
    """Held back by scheduling gates: no plan may include it."""
    preempts: bool = True
    """Its PriorityClass lets it preempt less important pods."""
    template: bytes = b""
    """From which it is read again where the policy's defaults change (`Templates.small`)."""


class Pending:
    """The waiting pods by uid. `changed` is set whenever a new plan may help one of them."""

    def __init__(self, clock: Callable[[], float], changed: threading.Event) -> None:
        self._clock = clock
        self._changed = changed
        self.pods: dict[str, Waiting] = {}
        self._members: dict[str, set[str]] = {}
        """The waiting pods of each gang."""
        self.refused: dict[str, float] = {}
        """When a pod was first refused everywhere (monotonic seconds)."""
        self._claims: dict[str, float] = {}
        """Since when a refused pod is within its tenant's guarantee (monotonic seconds)."""
        self.planned: dict[str, str] = {}
        """Node per pod, as the last adopted plan has it: the top score, not a reservation."""
        self._gang_notes: dict[str, str] = {}
        self._gang_sizes: dict[str, int] = {}
        self._one_by_one: set[str] = set()
        """Names of gangs up to their last slash whose pods start one after the other."""
        self._offered: dict[str, frozenset[str]] = {}
        self.lost: dict[str, int] = {}
        """Pods that a running gang has lost, and the fleet's version at which no place was found for each."""

    def put(self, uid: str, waiting: Waiting) -> None:
        """A pod waits, or its ask has changed."""
        known = self.pods.get(uid)
        if known is not None and known.ask.gang != waiting.ask.gang:
            self._leave_gang(uid)
        self.pods[uid] = waiting
        if waiting.ask.gang:
            self._members.setdefault(waiting.ask.gang, set()).add(uid)
            if known is None:
                self._changed.set()

    def forget(self, uid: str) -> None:
        """The pod is bound, finished or gone."""
        self._leave_gang(uid)
        for memory in (self.pods, self.refused, self._claims, self.planned, self._offered, self.lost):
            if memory:
                memory.pop(uid, None)

    def refuse(self, uid: str, names: Sequence[str], *, all_nodes: int) -> None:
        """Remember that a pod fits on none of these nodes, for the planner and preemption."""
        if uid not in self.pods:
            return
        if len(names) < all_nodes:
            self._offered[uid] = frozenset(names)
        else:
            self._offered.pop(uid, None)
        if uid not in self.refused:
            self.refused[uid] = self._clock()
            self._changed.set()

    def claims_since(self, uid: str, *, within: bool) -> float:
        """Since when a refused pod has been within its tenant's guarantee without a break, up to now."""
        if not within:
            self._claims.pop(uid, None)
            return self._clock()
        return self._claims.setdefault(uid, self._clock())

    def offered(self, uid: str) -> frozenset[str] | None:
        """The nodes that kube-scheduler's own filters left to a pod; None where they left all."""
        return self._offered.get(uid)

    def refused_before(self, moment: float) -> list[Waiting]:
        """Pods that have been refused since before a monotonic time."""
        return [self.pods[uid] for uid, since in self.refused.items() if since < moment and uid in self.pods]

    def set_plan(self, planned: dict[str, str], notes: dict[str, str]) -> None:
        """What the planner adopted: a node per pod's uid, and why complete gangs wait."""
        self.planned = planned
        self._gang_notes = notes

    def add_notes(self, notes: dict[str, str]) -> None:
        """Why further gangs wait, beside what the last plan says."""
        self._gang_notes |= notes

    # ---- gangs
    def members_of(self, gang: str) -> int:
        """How many pods of a gang wait."""
        return len(self._members.get(gang, ()))

    def set_gang_size(self, gang: str, size: int) -> None:
        """The size of one group; 0 forgets it."""
        self._gang_sizes[gang] = size
        self._changed.set()

    def set_one_by_one(self, groups: str, *, apart: bool) -> None:
        """Whether the pods of the gangs `groups/…` start one after the other."""
        (self._one_by_one.add if apart else self._one_by_one.discard)(groups)
        self._changed.set()

    def sized(self, ask: PodAsk) -> PodAsk:
        """The ask with its gang's size, where a PodGroup has it; 1 where the pods of its gang start one by one."""
        if ask.gang and ask.gang.rpartition("/")[0] in self._one_by_one:
            return replace(ask, gang_size=1)
        if ask.gang and not ask.gang_size:
            return replace(ask, gang_size=self._gang_sizes.get(ask.gang, 0))
        return ask

    def gang_note(self, ask: PodAsk, running: Callable[[], int]) -> str:
        """Why a gang's pod has to wait for the planner; empty for a pod that may be placed alone.

        `running` counts the gang's members that are bound, assumed or have a place. Beside a gang that runs in full a
        further pod is an ordinary one, and so are those that a running gang has lost, once all of them are there.
        """
        note, lost = self.gang_words(ask, running)
        if lost:
            self.lost.setdefault(ask.uid, -1)
        return note

    def gang_words(self, ask: PodAsk, running: Callable[[], int]) -> tuple[str, bool]:
        """The note alone, and whether the pod is one that a running gang has lost. Changes nothing."""
        ask = self.sized(ask)
        if not ask.gang or ask.gang_size < 2:
            return "", False
        already = running()
        if already >= ask.gang_size:
            return "", False
        present = already + self.members_of(ask.gang)
        if present < ask.gang_size:
            return f"gang {ask.gang} waits for its pods: {present} of {ask.gang_size} are there", False
        if already:
            return "", True
        waits = f"gang {ask.gang} waits for a place for all {ask.gang_size} pods"
        return self._gang_notes.get(ask.gang, waits), False

    # ---- inside
    def _leave_gang(self, uid: str) -> None:
        """The pod is in its gang no longer. No-op without one."""
        known = self.pods.get(uid)
        if known is None or not known.ask.gang:
            return
        members = self._members[known.ask.gang]
        members.discard(uid)
        if not members:
            del self._members[known.ask.gang]
