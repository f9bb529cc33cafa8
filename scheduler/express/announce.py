"""`Scheduled` Events for the pods that the lane has bound, as kube-scheduler writes them, some time after the fact.

An Event costs the API server as much as a Binding, so they are written once the lane has nothing to bind, or once they
have waited for half a minute. Best effort, as all Events are.
"""

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.obs.loop import Loop, run_every
from scheduler.express.seen import Pending

_LOG = logging.getLogger("kerf.express")
LOOP = Loop("express-events", every_s=0.5)
LONGEST_S = 30.0
"""An Event waits at most this long while the lane binds."""
LONGEST_NAME = 220
"""What an Event's name takes of its pod's, which may be as long as a name can be."""
MOST = 20_000
"""Events that wait; the oldest are dropped beyond it."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A pod that was bound, and when: in seconds since 1970, and by a clock that nobody sets."""

    pod: Pending
    node: str
    when: float
    since: float


class Announcer:
    """Writes Events from a thread of its own."""

    def __init__(
        self,
        kube: Kube,
        busy: Callable[[], bool],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._busy = busy
        self._clock, self._steady = clock, steady
        self._host = socket.gethostname()
        self._waiting: deque[Bound] = deque(maxlen=MOST)
        self._complained = False

    def add(self, pod: Pending, node: str) -> None:
        """A pod was bound. Never blocks."""
        self._waiting.append(Bound(pod, node, self._clock(), self._steady()))

    def run(self, stop: threading.Event) -> None:
        """Write what waits until stopped."""
        run_every(LOOP, lambda: self.run_once(stop), stop)

    def run_once(self, stop: threading.Event) -> None:
        """Write the Events that wait, until the lane is at work again."""
        while self._waiting and not stop.is_set():
            if self._busy() and self._steady() - self._waiting[0].since < LONGEST_S:
                return
            bound = self._waiting.popleft()
            try:
                self._kube.create(paths.events(bound.pod.namespace), self._event(bound))
            except KubeError as error:
                level = logging.DEBUG if self._complained else logging.WARNING
                self._complained = True
                _LOG.log(level, "the Event of %s/%s was not written: %s", bound.pod.namespace, bound.pod.name, error)

    def _event(self, bound: Bound) -> dict[str, Any]:
        pod = bound.pod
        name = pod.name[:LONGEST_NAME].rstrip("-.")
        moment = datetime.fromtimestamp(bound.when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{int(bound.when * 1e9):x}", "namespace": pod.namespace},
            "eventTime": moment,
            "reportingController": pod.scheduler,
            "reportingInstance": f"{pod.scheduler}-{self._host}"[:128],
            "action": "Binding",
            "reason": "Scheduled",
            "type": "Normal",
            "note": f"Successfully assigned {pod.namespace}/{pod.name} to {bound.node}",
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.namespace,
                "name": pod.name,
                "uid": pod.uid,
            },
        }
