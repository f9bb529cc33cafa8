"""The workload as the fleet sees it: pods counted by class as they are charged, older ones fading."""

from collections.abc import Mapping

from kerf.values.ask import Reach
from kerf.values.grant import CardUse
from scheduler.policies.workload import Kind, Target, target

HALVING = 8192
"""Charges after which all counts are halved."""
CLASSES = 48
"""Most classes in a target: each costs time in every score."""
_MIB_STEP, _CPU_STEP = 128, 250
_FIRST_LOOK = 64
_DRIFT = 10  # percent by which a weight may move before the target is said to have changed


class WorkloadCounter:
    """Counts of classes. `target` is recomputed when the number of charges has grown by a half, at most by HALVING."""

    def __init__(self) -> None:
        self._counts: dict[Kind | None, float] = {}
        self._seen = 0
        self._due = _FIRST_LOOK
        self._target = Target()

    def observe(self, uses: Mapping[str, CardUse], cpu_milli: int, vendor: str, reach: Reach) -> None:
        """Count a pod by what it holds of its cards, which are of this vendor, and by which it might as well hold."""
        largest = max(uses.values(), key=lambda use: (use.cores, use.memory_mib), default=None)
        kind = None
        if largest is not None:
            memory = largest.memory_mib // _MIB_STEP * _MIB_STEP or largest.memory_mib
            cpu = -(-cpu_milli // _CPU_STEP) * _CPU_STEP
            kind = Kind(cpu, len(uses), memory, 0, min(largest.cores, 100), vendor, reach)
        self._counts[kind] = self._counts.get(kind, 0.0) + 1
        self._seen += 1
        if self._seen % HALVING == 0:
            self._counts = {kind: count / 2 for kind, count in self._counts.items() if count >= 2}

    def target(self) -> Target:
        """The workload to pack for. The same object as long as it has not changed much."""
        if self._seen >= self._due:
            self._due = self._seen + min(self._seen // 2, HALVING)
            fresh = target(self._counts, CLASSES)
            if _moved(self._target, fresh):
                self._target = fresh
        return self._target


def _moved(old: Target, new: Target) -> bool:
    before, now = dict(old.kinds), dict(new.kinds)
    drift = sum(abs(now.get(kind, 0) - before.get(kind, 0)) for kind in {*before, *now})
    return drift * 100 > _DRIFT * sum(now.values())
