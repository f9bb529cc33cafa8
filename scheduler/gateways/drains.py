"""When a pod may be evicted: once gateways send nothing to it, and after a while in any case."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kerf.values.gateways import GatewaySettings, Plan


@dataclass(slots=True)
class _Known:
    served: frozenset[str] = frozenset()
    drained: dict[str, float] = field(default_factory=dict)
    """Since when gateways have no target for a pod that serves."""


class Drains:
    """Safe from several threads. One for all terms: a term that ends forgets what it knew."""

    def __init__(self, settings: Callable[[], GatewaySettings], clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._known: _Known | None = None
        self._asked: dict[str, float] = {}

    def show(self, plan: Plan) -> None:
        """Every gateway has this plan now."""
        now = self._clock()
        with self._lock:
            before = self._known.drained if self._known else {}
            drained = {uid: before.get(uid, now) for uid in plan.served - plan.routed}
            self._known = _Known(plan.served, drained)
            self._asked = {uid: at for uid, at in self._asked.items() if uid in plan.served}

    def forget(self) -> None:
        """Nothing is known any more."""
        with self._lock:
            self._known = None
            self._asked.clear()

    def may_leave(self, uid: str) -> bool:
        """Whether an eviction need not wait: no gateway leads to the pod, or it has waited for long enough."""
        settings = self._settings()
        if not settings.to:
            return True
        now = self._clock()
        with self._lock:
            known = self._known
            if known is not None and uid not in known.served:
                return True
            if known is not None and now >= known.drained.get(uid, now + 1) + settings.settle_s:
                return True
            return now >= self._asked.setdefault(uid, now) + settings.drain_s
