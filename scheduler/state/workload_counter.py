"""The workload as the fleet sees it: pods counted by class as they are charged, older ones fading."""

from collections.abc import Mapping
from dataclasses import dataclass

from kerf.values.ask import Reach
from kerf.values.grant import NO_USE, CardUse
from scheduler.policies.workload import Kind, Target, target

HALVING = 8192
"""Charges after which all counts are halved."""
CLASSES = 48
"""Most classes in a target: each costs time in every score."""
_MIB_STEP, _CPU_STEP = 128, 250
_FIRST_LOOK = 64
_DRIFT = 10  # percent by which a weight may move before the target is said to have changed


_MOST_LOOKS = 4096


@dataclass(slots=True)
class _Count:
    """How many pods of a class came, older ones counted in part."""

    kind: Kind | None
    pods: float = 0.0


class WorkloadCounter:
    """Counts of classes. `target` is recomputed when the number of charges has grown by a half, at most by HALVING."""

    def __init__(self) -> None:
        self._counts: dict[Kind | None, _Count] = {}
        self._looks: dict[tuple[object, ...], tuple[Reach, _Count]] = {}
        """Counts by what pods hold and by which reach, one value for many pods: its hash costs more than all else."""
        self._seen = 0
        self._due = _FIRST_LOOK
        self._target = Target()

    def observe(self, uses: Mapping[str, CardUse], cpu_milli: int, vendor: str, reach: Reach) -> None:
        """Count a pod by what it holds of its cards, which are of this vendor, and by which it might as well hold."""
        largest = _largest(uses)
        look = (largest.memory_mib, largest.cores, len(uses), cpu_milli, vendor, id(reach))
        known = self._looks.get(look)
        if known is None or known[0] is not reach:
            if len(self._looks) >= _MOST_LOOKS:
                self._looks.clear()
            kind = _kind(largest, len(uses), cpu_milli, vendor, reach) if uses else None
            known = self._looks[look] = reach, self._counts.setdefault(kind, _Count(kind))
        known[1].pods += 1
        self._seen += 1
        if self._seen % HALVING == 0:
            left = [_Count(each.kind, each.pods / 2) for each in self._counts.values() if each.pods >= 2]
            self._counts = {each.kind: each for each in left}
            self._looks.clear()

    def target(self) -> Target:
        """The workload to pack for. The same object as long as it has not changed much."""
        if self._seen >= self._due:
            self._due = self._seen + min(self._seen // 2, HALVING)
            fresh = target({kind: each.pods for kind, each in self._counts.items()}, CLASSES)
            if _moved(self._target, fresh):
                self._target = fresh
        return self._target


def _largest(uses: Mapping[str, CardUse]) -> CardUse:
    if len(uses) == 1:  # nearly every pod
        return next(iter(uses.values()))
    return max(uses.values(), key=lambda use: (use.cores, use.memory_mib), default=NO_USE)


def _kind(largest: CardUse, cards: int, cpu_milli: int, vendor: str, reach: Reach) -> Kind:
    memory = largest.memory_mib // _MIB_STEP * _MIB_STEP or largest.memory_mib
    cpu = -(-cpu_milli // _CPU_STEP) * _CPU_STEP
    return Kind(cpu, cards, memory, 0, min(largest.cores, 100), vendor, reach)


def _moved(old: Target, new: Target) -> bool:
    before, now = dict(old.kinds), dict(new.kinds)
    drift = sum(abs(now.get(kind, 0) - before.get(kind, 0)) for kind in {*before, *now})
    return drift * 100 > _DRIFT * sum(now.values())
