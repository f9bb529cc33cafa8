"""What runs beside the kubelet's calls: reading the cards, cleaning up."""

import logging
import threading
from collections.abc import Callable

import grpc

from deviceplugin.kubelet.admission import Admission
from deviceplugin.kubelet.board import Board
from deviceplugin.kubelet.metrics import PluginMetrics
from deviceplugin.kubelet.podresources import PodResources
from kerf.kube.errors import KubeError
from kerf.probes.base import Probe

_LOG = logging.getLogger("kerf.deviceplugin.loops")
PROBE_S = 5.0
"""Cards are read again at least this often; a probe that notices a change itself wakes the loop at once."""
CLEAN_S = 30.0


class HealthLoop:
    """Keeps the board equal to the hardware. `tell` gets one sentence per card that changed."""

    def __init__(
        self, probe: Probe, board: Board, resources: PodResources, metrics: PluginMetrics, tell: Callable[[str], None]
    ) -> None:
        self._probe = probe
        self._board = board
        self._resources = resources
        self._metrics = metrics
        self._tell = tell

    def look(self) -> None:
        """Read the cards once."""
        cards = self._probe.cards()
        self._metrics.probe_errors.set(self._probe.errors)
        for card in cards:
            self._metrics.card_healthy.labels(card.id, card.model).set(int(card.healthy))
        if cards == self._board.cards:
            return
        first = not self._board.cards
        held = self._held() if any(not card.healthy for card in cards) else frozenset[str]()
        for sentence in self._board.update(cards, held):
            _LOG.log(logging.INFO if first else logging.WARNING, "%s", sentence)
            if not first:
                self._tell(sentence)

    def run(self, stop: threading.Event) -> None:
        """Read until `stop`."""
        while not stop.is_set():
            self.look()
            self._probe.wait_change(PROBE_S)

    def _held(self) -> frozenset[str]:
        try:
            listed = [entry.slots for entry in self._resources.held(2.0)]
        except grpc.RpcError:
            listed = []
        lent = [entry.slots for entry in self._resources.recorded() or ()]
        return frozenset(slot for slots in (*listed, *lent) for slot in slots)


def clean_up(admission: Admission, stop: threading.Event) -> None:
    """Remove what belongs to pods that are gone, at once and then every half minute, until `stop`."""
    while True:
        try:
            removed = admission.clean()
            if removed:
                _LOG.info("removed %d ledgers, specs and records of pods that are gone", removed)
        except KubeError as error:
            _LOG.warning("nothing cleaned up: %s", error)
        except OSError as error:
            _LOG.error("cannot clean up: %s", error)
        if stop.wait(CLEAN_S):
            return
