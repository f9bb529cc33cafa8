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


def wake_scheduler(kube: Kube, node: str, token: str) -> None:
    """Write `token`, which has to differ from the last one, into one annotation of one node."""
    try:
        kube.patch(paths.node(node), {"metadata": {"annotations": {PLAN: token}}})
    except KubeError as error:
        _LOG.warning("kube-scheduler was not woken: %s", error)


class WakeOnElection:
    """Wakes kube-scheduler once, when a term begins.

    Planner and preemption work on refused pods, and a new leader knows of no refusals before kube-scheduler retries
    these pods, which on its own it does after minutes.
    """

    def __init__(self, store: Store, kube: Kube) -> None:
        self._desk = store.desk
        self._kube = kube

    def run(self, stop: threading.Event) -> None:  # noqa: ARG002
        """One write if any pod waits."""
        names = self._desk.node_names()
        if names and self._desk.waiting():
            wake_scheduler(self._kube, names[0], uuid.uuid4().hex[:12])
