"""The status of every TenantQuota, written when it has changed."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from kerf.kube.client import Json, Kube
from kerf.kube.errors import NotFound
from kerf.values.accounts import TenantAccount
from kerf.wire.accounts import render_status
from kerf.wire.quota import PATH
from scheduler.kueue.keeper import QuotaKeeper

_LOG = logging.getLogger("kerf.quota")
EVERY_S = 2.0
"""Between two writes that differ in numbers only: a burst of pods is not a burst of writes."""


class StatusWriter:
    """Remembers what it wrote, so that nothing is written twice."""

    def __init__(self, kube: Kube, keeper: QuotaKeeper, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._keeper = keeper
        self._clock = clock
        self._written: dict[str, tuple[float, Json]] = {}

    def write(self, accounts: tuple[TenantAccount, ...], unreadable: dict[str, str]) -> None:
        """Write what changed. A TenantQuota that cannot be read gets the reason in its own status. Raises KubeError."""
        known = {account.name: account for account in accounts}
        for name, sentence in unreadable.items():
            known[name] = TenantAccount(name, problems=(sentence,))
        for name, account in sorted(known.items()):
            self._write(name, render_status(account, self._keeper.generations.get(name, 0)))
        for name in [name for name in self._written if name not in known]:
            del self._written[name]

    def _write(self, name: str, status: Json) -> None:
        at, before = self._written.get(name, (0.0, None))
        if before is not None:
            written = _without_times(before)
            soon = self._clock() < at + EVERY_S
            if written == status or (soon and written["conditions"] == status["conditions"]):
                return
        fresh = {**status, "conditions": [_timed(c, before) for c in status["conditions"]]}
        try:
            self._kube.patch(f"{PATH}/{name}/status", {"status": fresh})
        except NotFound:
            return
        self._written[name] = (self._clock(), fresh)


def _timed(condition: Json, before: Json | None) -> Json:
    """The condition with the time at which its status changed last."""
    for old in (before or {}).get("conditions", ()):
        if old["type"] == condition["type"] and old["status"] == condition["status"]:
            return {**condition, "lastTransitionTime": old["lastTransitionTime"]}
    return {**condition, "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


def _without_times(status: Json) -> Json:
    conditions = [{k: v for k, v in c.items() if k != "lastTransitionTime"} for c in status["conditions"]]
    return {**status, "conditions": conditions}
