"""Keeping this node's cards equal to the hardware."""

import logging
import threading
from collections.abc import Callable

from deviceplugin.metrics import PluginMetrics
from deviceplugin.state.node import LocalNode
from kerf.probes.base import Probe
from kerf.values.vendor import Vendor, with_slicing

_LOG = logging.getLogger("kerf.deviceplugin.reader")
PROBE_S = 5.0
"""Cards are read at least this often. A probe that notices a change itself wakes the loop at once."""


class CardReader:
    """Reads the probe. `report` gets one sentence per card that changed."""

    def __init__(
        self,
        probe: Probe,
        vendors: tuple[Vendor, ...],
        node: LocalNode,
        metrics: PluginMetrics,
        report: Callable[[str], None],
    ) -> None:
        self._probe = probe
        self._vendors = vendors
        self._node = node
        self._metrics = metrics
        self._report = report

    def run_once(self) -> None:
        """Read the cards once."""
        cards = with_slicing(self._probe.cards(), self._vendors)
        self._metrics.probe_errors.set(self._probe.errors)
        for card in cards:
            self._metrics.card_healthy.labels(card.id, card.model).set(int(card.healthy))
        first = not self._node.cards
        for sentence in self._node.update_cards(cards):
            _LOG.log(logging.INFO if first else logging.WARNING, "%s", sentence)
            if not first:
                self._report(sentence)

    def run(self, stop: threading.Event) -> None:
        """Read until `stop`."""
        while not stop.is_set():
            self.run_once()
            self._probe.wait_change(PROBE_S)
