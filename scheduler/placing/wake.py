"""Wake kube-scheduler when something changed: it retries refused pods on any event of a node."""

import logging
import threading
import uuid

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.wake")
PLAN = "kerf.dev/plan"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0


def wake_scheduler(kube: Kube, node: str, token: str) -> bool:
    """Write `token`, which has to differ from the last one, into one annotation of one node. Whether it was written."""
    try:
        kube.patch(paths.node(node), {"metadata": {"annotations": {PLAN: token}}})
    except KubeError as error:
        _LOG.warning("kube-scheduler was not woken: %s", error)
        return False
    return True


class WakeOnElection:
    """Wakes kube-scheduler once, when a term begins.

    Planner and preemption work on refused pods, and a new leader knows of no refusals before kube-scheduler retries
    these pods, which on its own it does after minutes.
    """

    def __init__(self, store: Store, kube: Kube) -> None:
        self._desk = store.desk
        self._kube = kube

    def run(self, stop: threading.Event) -> None:
        """One write if any pod waits, after growing pauses where the API server did not take it."""
        pause = FIRST_PAUSE_S
        while not self._wake() and not stop.wait(pause):
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _wake(self) -> bool:
        """Whether nothing is left to do."""
        names = self._desk.node_names()
        if not names or not self._desk.waiting():
            return True
        return wake_scheduler(self._kube, names[0], uuid.uuid4().hex[:12])
