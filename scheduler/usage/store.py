"""GatewayUsage objects: written while reports come, deleted when they are old."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.metering.reports import Reports
from kerf.obs.loop import Loop, run_every
from kerf.values.usage import HOUR_MS
from kerf.wire.gatewayrecords import PATH, name_of, render_reported
from kerf.wire.json import at
from kerf.wire.usage import DAY, day_text
from scheduler.usage.metrics import UsageMetrics

_LOG = logging.getLogger("kerf.usage")
FIELD_MANAGER = "kerf-usage"
SWEEP_S = 3600.0


class ReportStore:
    """One thread. `lock` guards the reports."""

    def __init__(
        self, kube: Kube, reports: Reports, lock: threading.Lock, metrics: UsageMetrics, retention_days: int
    ) -> None:
        self._kube = kube
        self._reports = reports
        self._lock = lock
        self._metrics = metrics
        self._retention_days = retention_days
        self._swept_at = float("-inf")

    def run(self, every_s: float, now_ms: Callable[[], int], stop: threading.Event) -> None:
        """Store until stopped."""
        loop = Loop("usage", every_s, longest_pause_s=10.0, expected=(KubeError,), failures=self._metrics.failures)
        run_every(loop, lambda: self.run_once(now_ms()), stop)

    def last(self) -> bool:
        """Store what is left, once no report comes any more; whether that was possible."""
        try:
            self.write()
        except KubeError as error:
            _LOG.error("the last reports are lost: %s", error)
            return False
        return True

    def run_once(self, now_ms: int) -> None:
        """One round. Raises KubeError; what was not stored is stored by the next round."""
        self.write()
        with self._lock:
            self._reports.forget(now_ms)
            self._metrics.rows.set(self._reports.rows)
        if time.monotonic() - self._swept_at >= SWEEP_S:
            self._delete_old(now_ms)
            self._swept_at = time.monotonic()

    def write(self) -> None:
        """Store what has changed. Raises KubeError."""
        with self._lock:
            found = list(self._reports.unsaved())
        for hour, version in found:
            query = {"fieldManager": FIELD_MANAGER, "force": "true"}
            self._kube.patch(f"{PATH}/{name_of(hour)}", render_reported(hour), "apply", query)
            self._metrics.writes.inc()
            with self._lock:
                self._reports.stored(hour, version)

    def _delete_old(self, now_ms: int) -> None:
        oldest = day_text(max(now_ms - self._retention_days * 24 * HOUR_MS, 0))
        items, _ = self._kube.list(PATH, {"labelSelector": DAY})
        for item in items:
            meta = at(item, "metadata")
            if str(at(meta, "labels").get(DAY, "")) < oldest:
                with suppress(NotFound):
                    self._kube.delete(f"{PATH}/{meta.get('name')}")
