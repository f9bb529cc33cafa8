"""Tell kube-scheduler that something changed: it tries refused pods again on any event of a node."""

import logging

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError

_LOG = logging.getLogger("kerf.wake")
PLAN = "kerf.dev/plan"


def wake_scheduler(kube: Kube, node: str, token: str) -> None:
    """Write `token`, which has to differ from the last one, into one annotation of one node."""
    try:
        kube.patch(paths.node(node), {"metadata": {"annotations": {PLAN: token}}})
    except KubeError as error:
        _LOG.warning("kube-scheduler was not woken: %s", error)
