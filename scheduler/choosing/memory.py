"""What is remembered of answers, for a bounded time.

Places that were promised to pods which are not bound yet, the kinds of gangs, and the kinds that an owner's pods waited
for too long. Only the replica that leads answers, so only it remembers. A new leader begins with nothing: for a moment
two pods may be given the same last card, and one of them waits.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from scheduler.state.answers import Promised

UNSEEN_S = 5.0
"""How long a place stays promised to a pod that does not come: its creation may have failed after the answer."""
LONGEST_S = 30.0
"""How long it stays promised to a pod that came and is not bound."""
GANG_S = 600.0
MOST = 4096
"""Entries of each kind; the oldest go first."""


@dataclass(frozen=True, slots=True)
class _Promise:
    promised: Promised
    at: float
    seen: bool = False


class Memory:
    """Safe from several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._promises: dict[str, _Promise] = {}
        self._gangs: dict[str, tuple[str, float]] = {}
        self._waited: dict[tuple[str, str], float] = {}

    # ---- places
    def promise(self, name: str, promised: Promised) -> None:
        """This place was answered to a pod."""
        with self._lock:
            self._promises[name] = _Promise(promised, self._clock())
            _bound(self._promises)

    def promised(self, waiting: Collection[str]) -> tuple[Promised, ...]:
        """What is promised still; `waiting` are the promises of the pods that wait now.

        A pod that came and waits no longer was bound, and then the ledger counts it, or is gone.
        """
        now = self._clock()
        with self._lock:
            kept: dict[str, _Promise] = {}
            for name, each in self._promises.items():
                seen = name in waiting
                if (each.seen and not seen) or now - each.at > (LONGEST_S if seen else UNSEEN_S):
                    continue
                kept[name] = replace(each, seen=True) if seen and not each.seen else each
            self._promises = kept
            return tuple(each.promised for each in kept.values())

    # ---- gangs
    def keep_gang(self, gang: str, kind: str) -> None:
        """Every pod of the gang gets this kind."""
        with self._lock:
            self._gangs[gang] = (kind, self._clock() + GANG_S)
            _bound(self._gangs)

    def kind_of(self, gang: str) -> str:
        """The kind of a gang, empty where none is remembered."""
        with self._lock:
            kind, until = self._gangs.get(gang, ("", 0.0))
            return kind if self._clock() < until else ""

    # ---- owners
    def waits_too_long(self, owner: str, kind: str, seconds: float) -> None:
        """A pod of this owner has waited for the kind too long."""
        with self._lock:
            self._waited.pop((owner, kind), None)
            self._waited[owner, kind] = self._clock() + seconds
            _bound(self._waited)

    def waited_too_long(self, owner: str, kind: str) -> bool:
        """Whether that is remembered."""
        with self._lock:
            return bool(owner) and self._clock() < self._waited.get((owner, kind), 0.0)


def _bound(entries: dict[str, _Promise] | dict[str, tuple[str, float]] | dict[tuple[str, str], float]) -> None:
    if len(entries) > MOST:
        entries.pop(next(iter(entries)))  # type: ignore[call-overload]
