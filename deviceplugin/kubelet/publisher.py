"""The node's inventory in its annotation: written when it changes, and again when somebody else changes it.

The kubelet fails a pod for good that arrives while no plugin is registered. So cards are offered only once the kubelet
watches the slots, and called unhealthy before a plugin that is told to stop lets go of them.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from deviceplugin.kubelet.board import Board
from deviceplugin.kubelet.metrics import PluginMetrics
from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.kube.watch import Follower
from kerf.values.health import Health, State
from kerf.vendors.registry import NAMES
from kerf.wire.inventory import KEY, render_inventory

_LOG = logging.getLogger("kerf.deviceplugin.publisher")
Json = dict[str, Any]
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
LOOK_S = 0.2
PLENTY = str(2**31 - 1)
IGNORED = tuple(name for names in NAMES for name in names.ignored)
WITHDRAWN = Health(State.SUSPECT, "the device plugin has stopped")
BETWEEN_S = 0.2
"""Least time between two writes, so that two publishers cannot chase each other at full speed."""


class Publisher:
    """Keeps `kerf.dev/inventory` of one node equal to what the probe sees, from when `ready` first says so."""

    def __init__(self, kube: Kube, node: str, board: Board, ready: Callable[[], bool], metrics: PluginMetrics) -> None:
        self._kube = kube
        self._node = node
        self._board = board
        self._ready = ready
        self._metrics = metrics
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._published: str | None = None
        self._written = 0
        self._advertised = False
        query = {"fieldSelector": f"metadata.name={node}"}
        self._follower = Follower(kube, paths.NODES, self._replace, self._change, query=query)

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop`, then take the offer back; never raises."""
        self._follower.start()
        threading.Thread(target=self._watch_board, args=(stop,), name="publish", daemon=True).start()
        while not self._ready() and not stop.wait(LOOK_S):
            pass
        pause = FIRST_PAUSE_S
        while not stop.is_set():
            self._wake.wait(LOOK_S)
            self._wake.clear()
            try:
                self._advertise()
                if self._publish():
                    stop.wait(BETWEEN_S)
                pause = FIRST_PAUSE_S
            except KubeError as error:
                _LOG.warning("the inventory cannot be published: %s; again in %.1f s", error, pause)
                stop.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
                self._wake.set()
        self._follower.stop()
        self._withdraw()

    def _publish(self) -> bool:
        text = render_inventory(self._board.cards)
        if not self._follower.synced.is_set() or text == self._published:
            return False
        node = self._kube.patch(paths.node(self._node), {"metadata": {"annotations": {KEY: text}}})
        with self._lock:
            self._published, self._written = text, _version(node)
        self._metrics.publications.inc()
        _LOG.info("published %d cards", len(self._board.cards))
        return True

    def _advertise(self) -> None:
        """Let the node offer the resources that only Kerf understands, without end.

        kube-scheduler's filters ignore them, its queueing hints do not (seen in 1.36): a pod with `gpumem` that waits
        for CPU or a slot would be woken by no node event, because an empty node still seems to lack `gpumem`.
        """
        if self._advertised or not self._follower.synced.is_set():
            return
        amounts = dict.fromkeys(IGNORED, PLENTY)
        self._kube.patch(f"{paths.node(self._node)}/status", {"status": {"capacity": amounts, "allocatable": amounts}})
        self._advertised = True

    def _withdraw(self) -> None:
        if not self._published:  # also an offer that an earlier run of this plugin made
            return
        text = render_inventory(tuple(replace(card, health=WITHDRAWN) for card in self._board.cards))
        try:
            self._kube.patch(paths.node(self._node), {"metadata": {"annotations": {KEY: text}}})
        except KubeError as error:
            _LOG.warning("the offer of this node's cards cannot be taken back: %s", error)

    def _watch_board(self, stop: threading.Event) -> None:
        version = -1
        while not stop.is_set():
            seen = self._board.wait(version, 1.0)
            if seen != version:
                version = seen
                self._wake.set()

    def _replace(self, nodes: list[Json]) -> None:
        for node in nodes:
            self._change("MODIFIED", node)

    def _change(self, kind: str, node: Json) -> None:
        meta = node.get("metadata") or {}
        if meta.get("name") != self._node or kind == "DELETED":
            return
        self._board.label(meta.get("labels") or {})
        offered = (node.get("status") or {}).get("allocatable") or {}
        self._advertised = all(name in offered for name in IGNORED)
        with self._lock:
            if _version(node) >= self._written:  # older news would make us write the same again
                self._published = (meta.get("annotations") or {}).get(KEY)
        self._wake.set()


def _version(node: Json) -> int:
    text = str((node.get("metadata") or {}).get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0
