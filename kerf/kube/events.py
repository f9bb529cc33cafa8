"""Kubernetes events: best effort, bounded, never blocking."""

import contextlib
import hashlib
import logging
import queue
import threading
from datetime import UTC, datetime
from typing import Any, Literal

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError

_LOG = logging.getLogger("kerf.events")
MOST_WAITING = 1000
MOST_REMEMBERED = 4096


class Events:
    """Emits events from a thread of its own; equal ones are sent once, overflow is dropped."""

    def __init__(self, kube: Kube, component: str) -> None:
        self._kube = kube
        self._component = component
        self._queue: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue(MOST_WAITING)
        self._seen: dict[str, None] = {}
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def emit(
        self,
        about: dict[str, Any],
        reason: str,
        message: str,
        kind: Literal["Normal", "Warning"] = "Warning",
        annotations: dict[str, str] | None = None,
    ) -> None:
        """Queue an event about an object (`kind`, `namespace`, `name`, `uid`). Never raises, never blocks."""
        text = message if len(message) <= 1000 else f"{message[:999]}…"
        key = hashlib.sha256(f"{about} {reason} {text}".encode()).hexdigest()[:16]
        if key in self._seen:
            return
        self._seen[key] = None
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        namespace = str(about.get("namespace") or "default")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta = {"generateName": f"{about.get('name', 'kerf')}.kerf-"[:200], "namespace": namespace}
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": meta,
            "involvedObject": {"apiVersion": "v1", **about},
            "reason": reason,
            "message": text,
            "type": kind,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self._component},
        }
        if annotations:
            body["metadata"] = {**meta, "annotations": annotations}
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait((f"/api/v1/namespaces/{namespace}/events", body))

    def close(self) -> None:
        """Send queued events (at most a few seconds) and stop."""
        self._queue.put(None)
        self._thread.join(5.0)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._kube.create(*item)
            except KubeError as error:
                _LOG.debug("event not sent: %s", error)
